"""`python -m cost_model`: what it prints, and one line with exit code 2 for what it cannot do."""

import json

import pytest

from cost_model import cli
from cost_model.reports import hardware_table as table
from cost_model.reports import paper
from cost_model.reports.hardware_table import COLUMNS, paper_records, scaled_records, with_savings
from tests.cost_model.libraries import IHP, in_several_files, needs_ihp, with_delays, without

SMALL = [
    "unit",
    "--in-width",
    "4",
    "--coef-width",
    "4",
    "--out-width",
    "4",
    "--entries",
    "4",
    "--stages",
    "2",
    "--simulator",
    "bit-parallel",
]


def test_a_unit_is_printed_by_component_and_adds_up(tmp_path, capsys):
    assert cli.main([*SMALL, "--cache", str(tmp_path), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["area_unit"] == "GE" and row["power_w"] is None and row["switching_proxy"] > 0
    assert sum(part["area"] for part in row["parts"]) == pytest.approx(row["area"])
    assert sum(part["energy"] for part in row["parts"]) == pytest.approx(row["switching_proxy"], rel=0.05)
    assert row["source"]["netlist_sha256"] and row["source"]["verified_vectors"] > 4000
    assert cli.main([*SMALL, "--cache", str(tmp_path)]) == 0
    assert "total" in capsys.readouterr().out


@needs_ihp
def test_a_real_library_gives_watts(tmp_path, capsys):
    assert cli.main([*SMALL, "--cache", str(tmp_path), "--json", "--liberty", str(IHP)]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["area_unit"] == "um2" and 1e-5 < row["power_w"] < 1e-2 and row["clock_hz"] == 125e6
    assert row["switching_proxy"] is None and row["source"]["period_s"] == 8e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unit", "--liberty", "nothere.lib"], "nothere.lib: cannot be read"),
        (["unit", "--entries", "1"], "entries must be in 2..64, not 1"),
        (["unit", "--stages", "9"], "stages must be in 1..7, not 9"),
        (["unit", "--period", "0"], "--period must be above 0"),
        (["unit", "--activity", "2"], "activity must be in 0..1, not 2.0"),
        (["unit", "--format", "FP16", "--in-width", "8"], "are for integer formats"),
        (["unit", "--table", "gelu.json"], "--table, --parameters and --memories are for a FILE.v"),
        (["stages"], "--liberty must be given"),
        (["calibrate", "--count", "3"], "--count must be at least 30, not 3"),
        (["layout"], "--liberty and --lef must be given"),
        (["table", "--period", "8", "9"], "--period must be given once or once for each of 0 libraries"),
        (["table", "--period", "0"], "--period must be above 0"),
        (["table", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["table", "--glitches"], "--glitches needs a library with delays: give --liberty"),
        (["unit", "--format", "INT7"], "invalid choice"),
        (["explore", "unit", "numpy:arctan", "--budget", "max_ulp=1"], "function must be one of gelu, "),
        (["explore", "unit", "gelu", "--period", "0"], "--period must be above 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and message in printed.err and not printed.out
    assert len(printed.err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_library_without_flip_flops_is_one_line(tmp_path, capsys):
    arguments = [*SMALL, "--cache", str(tmp_path / "cache"), "--liberty", str(without(tmp_path, "DFF"))]
    assert cli.main(arguments) == 2
    printed = capsys.readouterr().err
    assert "D flip-flops are not supported" in printed and "Traceback" not in printed


def made(number: str, area: float, power: float, **changes) -> table.Record:
    row = {
        **paper_records()[0],
        "format": number,
        "view": "synthesised",
        "library": "x",
        "area": area,
        "power_w": power,
    }
    return {**row, "source": {"netlist_sha256": "0"}, **changes}


def test_savings_compare_rows_of_one_view_library_and_number_of_entries():
    rows = with_savings(
        [
            *paper_records(),
            made("INT8", 20.0, 2.0),
            made("FP32", 100.0, 8.0),
            made("INT8", 10.0, 1.0, reference=False),
            made("INT8", 30.0, 2.0, entries=16),
        ]
    )
    assert all(set(COLUMNS) <= set(row) for row in rows)
    published, ours, beside, lonely = rows[0], rows[3], rows[5], rows[6]
    for name, value in paper.savings().items():
        assert published[name] == pytest.approx(value)
    assert ours["area_saving_vs_fp32"] == pytest.approx(0.8) and ours["power_saving_vs_fp32"] == pytest.approx(0.75)
    assert ours["area_saving_vs_int32"] is None
    assert beside["area_saving_vs_fp32"] == pytest.approx(0.9) and lonely["area_saving_vs_fp32"] is None
    assert rows[4]["area_saving_vs_fp32"] is None, "FP32 saves nothing against itself"


def test_28_nm_is_anchored_on_fp32_alone():
    rows = scaled_records([made("INT8", 20.0, 2.0), made("FP32", 100.0, 8.0)])
    by_format = {row["format"]: row for row in rows}
    assert by_format["FP32"]["area"] == 5135 and by_format["FP32"]["power_w"] == 2.02e-3
    assert by_format["INT8"]["area"] == pytest.approx(1027) and by_format["INT8"]["view"] == "28 nm"


def test_the_table_has_every_unit_that_it_promises():
    wanted = table.entries()
    pwl = {(e.format, e.entries) for e in wanted if e.unit == "pwl" and not e.changes}
    assert pwl == {(f, n) for f in ("INT8", "INT16", "INT32", "FP16", "FP32") for n in (8, 16)}
    assert [e.format for e in wanted if e.unit == "element"] == ["W8A8", "W4A8", "W4A4", "W2A8", "FP16", "FP32"]


def test_a_table_with_glitches_has_the_chosen_reference_units_of_the_given_library_alone(tmp_path, monkeypatch, capsys):
    asked = []

    def measured(entry, flow, clock_hz, simulator, cache):
        asked.append((entry.format, entry.changes, flow.library.name, simulator))
        row = dict.fromkeys(COLUMNS[:-1]) | {"unit": "pwl", "format": entry.format, "entries": 8, "reference": True}
        figures = {"view": "synthesised", "library": flow.library.name, "area": 1.0, "power_w": 1e-3}
        return row | figures | {"output_shift_fixed": False, "source": {"multiplier": "tree", "netlist_sha256": "0"}}

    monkeypatch.setattr(table, "measured_record", measured)
    arguments = ["table", "--unit", "pwl", "--entries", "8", "--format", "INT8", "FP32", "--glitches", "--json"]
    assert cli.main([*arguments, "--liberty", str(with_delays(tmp_path, "ns", "pf"))]) == 0
    assert asked == [(name, (), "delays_ns", "glitches") for name in ("INT8", "FP32")]
    assert {row["view"] for row in json.loads(capsys.readouterr().out)} == {"synthesised"}


def test_a_table_of_several_libraries_has_each_with_its_files_and_clock(tmp_path, monkeypatch, capsys):
    asked = []

    def measured(entry, flow, clock_hz, simulator, cache):
        asked.append((flow.library.name, len(flow.library.texts), flow.period_s, round(clock_hz), entry.changes))
        row = dict.fromkeys(COLUMNS[:-1]) | {"unit": "pwl", "format": entry.format, "entries": 8, "reference": True}
        figures = {"view": "synthesised", "library": flow.library.name, "area": 1.0, "power_w": 1e-3}
        return row | figures | {"output_shift_fixed": False, "source": {"multiplier": "booth", "netlist_sha256": "0"}}

    monkeypatch.setattr(table, "measured_record", measured)
    monkeypatch.setattr("cost_model.netlist.timing.tool", lambda: None)
    one, files = with_delays(tmp_path, "ns", "pf"), in_several_files(tmp_path)
    arguments = ["table", "--unit", "pwl", "--entries", "8", "--format", "INT8", "--json", "--liberty", str(one)]
    several = [*arguments, "--library", *map(str, files), "--period", "8", "20"]
    assert cli.main(several) == 0
    assert {row[:4] for row in asked} == {
        ("gate_equivalents", 1, None, 125_000_000),
        ("delays_ns", 1, 8e-9, 125_000_000),
        ("several", 2, None, 50_000_000),
    }
    warned = capsys.readouterr().err
    assert "library delays_ns at 8 ns: the clock was not checked" in warned
    assert cli.main([*arguments, "--library", str(one)]) == 2
    assert "libraries must have different names, not delays_ns, delays_ns" in capsys.readouterr().err
