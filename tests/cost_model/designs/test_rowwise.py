"""Softmax and the norms: memories beside the netlist change nothing of what it computes, and no fault gets past."""

import hashlib
import json
from dataclasses import replace
from decimal import Decimal

import pytest

import rtl.cli
from cost_model import cli
from cost_model.commands import rowwise as rows
from cost_model.designs import rowwise as row_designs
from cost_model.designs.rowwise import UNITS, row_design, softmax_design
from cost_model.measurement import measure
from cost_model.netlist.memories import Memory, found, require
from cost_model.netlist.netlist import Instance
from cost_model.netlist.rowwise_breakdown import components, row_parts
from cost_model.netlist.synthesis import Flow, synthesise
from cost_model.network.row_units import ROW_UNITS
from cost_model.power.gate_level import GateLevel, GateLevelError
from ga_search.methods.secants import secant_table
from rtl.rowwise.softmax import SoftmaxConfig
from sim.common.results import read_results
from sim.reference import InputError
from sim.vectors.rowwise import fitted_softmax

LENGTH = 6
PARAMETERS = {"gain": [90, -70, 127, 5, 60, -3], "bias": [100, -2000, 0, 7, 900, 1], "epsilon": 3, "shift": 15}


@pytest.fixture(scope="module", autouse=True)
def short():
    """Little work, few checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_designs, "WORK_ELEMENTS", 60)
        patch.setattr(row_designs, "CHECK_ELEMENTS", 60)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cost")


def softmax(inside: bool = False):
    exp = secant_table("exp", 2)
    reference = fitted_softmax(exp, secant_table("div", 2), 4, 7, LENGTH, score_bits=8)
    return softmax_design(SoftmaxConfig(reference, stages=(2, 3, 1), rows=2), exp, inside)


@pytest.mark.slow
def test_memories_are_beside_the_figures_or_in_them(cache):
    beside, inside = (measure(softmax(k), Flow(), None, "icarus", True, cache) for k in (False, True))
    described = [found.row(None) for found in (beside, inside)]
    bits = (LENGTH + 2) * 9 + (LENGTH + 5) * 7  # a row, and what comes behind it until it leaves
    assert [row["memory_bits"] for row in described] == [bits, bits]
    assert [row["memories_in_area"] for row in described] == [False, True]
    assert not any(part.component == "row memories" for part in beside.parts)
    memories = next(part for part in inside.parts if part.component == "row memories")
    library = Flow().library
    flip_flop = float(library.cell("DFF").area + library.cell("MUX2").area)
    assert 0.9 * bits * flip_flop < memories.area < 1.3 * bits * flip_flop
    assert inside.area > beside.area + float(memories.area) and inside.power.energy > beside.power.energy
    for measured in (beside, inside):
        assert sum((part.area for part in measured.parts), Decimal(0)) == measured.synthesis.netlist.area
        assert sum(part.energy for part in measured.parts) == pytest.approx(measured.power.energy)
        assert measured.power.source["verified_vectors"] == sum(
            vectors.size for vectors in (measured.design.work, *measured.design.checks)
        )


def test_a_tables_part_is_its_flip_flops_and_what_writes_them(cache):
    design = softmax()
    netlist = synthesise(design.device.verilog, "unit", replace(Flow(), memories=design.beside), cache).netlist
    owners = components(netlist)
    flops = [owners[i.name] for i in netlist.instances if i.cell.state]
    assert flops.count("tables") == 2 * (1 + 2 + 2) * 8 and {
        "pass 1, per row",
        "pass 2, per element",
        "row queues",
    } <= set(flops)
    assert row_parts(netlist, {}, 5.0)[-1].energy == 5.0


def test_a_wrong_netlist_is_found(cache):
    design = softmax()
    netlist = synthesise(design.device.verilog, "unit", replace(Flow(), memories=design.beside), cache).netlist
    gates = [k for k, i in enumerate(netlist.instances) if i.cell.name == "XOR2"]
    right = netlist.instances[gates[len(gates) // 2]]
    wrong = Instance(right.name, netlist.library.cell("XNOR2"), right.nets)
    faulty = replace(netlist, instances=tuple(wrong if i is right else i for i in netlist.instances))
    bench = GateLevel(faulty, design.device, "icarus", cache, design.beside)
    with pytest.raises(GateLevelError, match=r"results differ|results instead of"):
        bench.verify([design.work, *design.checks])


@pytest.mark.parametrize("change", [{"words": LENGTH}, {"name": "pass_0.other"}])
def test_a_memory_that_is_not_the_unit_s_is_found(cache, change):
    design = softmax()
    flow = replace(Flow(), memories=design.beside)
    netlist = synthesise(design.device.verilog, "unit", flow, cache).netlist
    first, second = design.beside
    if "words" in change:  # too small for a row and what comes behind it
        bench = GateLevel(netlist, design.device, "icarus", cache, (first, replace(second, **change)))
        with pytest.raises(GateLevelError, match="results differ"):
            bench.verify([design.work, *design.checks])
    else:
        flow = replace(flow, memories=(replace(first, **change), second))
        with pytest.raises(InputError, match=r"pass_0\.other"):
            synthesise(design.device.verilog, "unit", flow, cache)
    with pytest.raises(InputError, match="cannot be cut out"):
        require(netlist, (Memory("x", 4, 3),))


def test_a_unit_without_rows_has_no_memories():
    assert found("module unit(a);\n  reg [3:0] storage [7:0];\n      storage[a] <= b;\nendmodule\n", "unit") == ()
    text = "module \\unit.pass_0 (a);\n  reg [3:0] ring [7:0];\n      ring[a] <= b;\nendmodule\n"
    assert found(text, "unit") == (Memory("pass_0.ring", 8, 4),)
    assert found(text.replace("<=", "="), "unit") == (), "what is wired in is logic"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tables, parameters, and a unit of each kind as `python -m rtl` writes it."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("exp", "div", "rsqrt"):
        secant_table(name, 2).save(folder / f"{name}.json")
    (folder / "norm.json").write_text(json.dumps(PARAMETERS))
    exp, div, rsqrt = (str(folder / f"{name}.json") for name in ("exp", "div", "rsqrt"))
    narrow = ["--in-width", "4", "--out-width", "4", "--stages", "3", "2"]
    wired = ["--storage", "constants", "--parameters", str(folder / "norm.json"), *narrow]
    stored = ["--length", str(LENGTH), "--max-epsilon", "5", *narrow]
    for name, arguments in {
        "softmax": ["--exp", exp, "--scale", "4", "--div", div, "--row-length", str(LENGTH), "--score-width", "8"],
        "layernorm": ["--rsqrt", rsqrt, *wired],
        "rmsnorm": ["--rsqrt", rsqrt, *stored],
    }.items():
        assert rtl.cli.main([name, *arguments, "-o", str(folder / f"{name}.v")]) == 0
    return folder


def command(files, cache, unit: str, *more: str) -> list[str]:
    tables = ("exp", "div") if unit == "softmax" else ("rsqrt",)
    given = [argument for name in tables for argument in ("--table", str(files / f"{name}.json"))]
    return ["unit", str(files / f"{unit}.v"), *given, "--simulator", "icarus", "--cache", str(cache), *more]


@pytest.mark.parametrize(
    ("unit", "more", "memories"),
    [
        ("softmax", [], ["pass_0.ring", "pass_1.ring"]),
        pytest.param("layernorm", ["--parameters", "norm.json"], ["pass_0.ring"], marks=pytest.mark.slow),
        pytest.param("rmsnorm", ["--parameters", "norm.json"], ["bias", "gain", "pass_0.ring"], marks=pytest.mark.slow),
    ],
)
def test_a_unit_that_rtl_wrote_is_costed_as_it_is(files, cache, capsys, unit, more, memories):
    more = [str(files / word) if word.endswith(".json") else word for word in more]
    assert cli.main(command(files, cache, unit, *more, "--json")) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["unit"], sorted(memory["name"] for memory in row["memories"])) == (unit, sorted(memories))
    assert row["source"]["verified_vectors"] > 50 and sum(p["area"] for p in row["parts"]) == pytest.approx(row["area"])
    description = json.loads((files / f"{unit}.rtl.json").read_text())
    assert row["source"]["verilog_sha256"] == description["verilog"]["sha256"]
    assert cli.main(command(files, cache, unit, *more)) == 0
    assert f"not in these figures: {row['memory_bits']} bits" in capsys.readouterr().out


def test_a_mistake_is_one_line_that_names_it(files, cache, capsys, tmp_path):
    def failure(*arguments: str) -> str:
        assert cli.main(list(arguments)) == 2
        printed = capsys.readouterr()
        assert not printed.out and len(printed.err.strip().splitlines()) == 1
        return printed.err

    softmax, exp = str(files / "softmax.v"), str(files / "exp.json")
    assert "needs a table of exp and one of div, not of exp" in failure("unit", softmax, "--table", exp)
    other = secant_table("div", 6).save(tmp_path / "other.json")
    given = ["unit", softmax, "--table", exp, "--table", str(other)]
    assert "was made for another table of div" in failure(*given)
    assert "--simulator must be" in failure(*command(files, cache, "softmax")[:-4], "--simulator", "bit-parallel")
    assert "gain, bias, epsilon and shift are wired in" in failure(*command(files, cache, "layernorm"))
    assert "a softmax has no gain" in failure(
        *command(files, cache, "softmax"), "--parameters", str(files / "norm.json")
    )
    assert "--parameters and --memories are for" in failure("unit", "--memories", "flops")
    rows = ("rows", "--simulator", "icarus", "--unit")
    assert "--length of softmax must be in 1..65536, not 0" in failure(*rows, "softmax", "--length", "0")
    assert "--length of layernorm must be in 2..8192, not -1" in failure(*rows, "layernorm", "--length", "-1")
    assert "--length of rmsnorm must be in 2..8192, not 1" in failure(*rows, "softmax", "rmsnorm", "--length", "1")
    for period in ("0", "nan", "-5", "inf"):
        assert "--period must be above 0 and finite, not " in failure(*rows, "softmax", "--period", period)
    for unit in ("layernorm", "rmsnorm"):
        for name in ("gain", "bias"):
            few = tmp_path / "few.json"
            few.write_text(json.dumps(PARAMETERS | {name: [1] * (LENGTH - 2)}))
            arguments = command(files, cache, unit, "--parameters", str(few))
            assert f"{unit}.v: {name} must have {LENGTH} integers, not {LENGTH - 2}" in failure(*arguments)


def test_rows_offers_the_simulators_that_it_takes(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["rows", "--help"])
    printed = capsys.readouterr().out
    assert left.value.code == 0 and "icarus" in printed and "bit-parallel" not in printed
    with pytest.raises(SystemExit) as left:
        cli.main(["rows", "--simulator", "bit-parallel"])
    assert left.value.code == 2 and "invalid choice: 'bit-parallel'" in capsys.readouterr().err


def test_a_description_that_was_changed_is_refused(files, cache, capsys, tmp_path):
    from sim.common.files import description_sha256

    content = json.loads((files / "softmax.rtl.json").read_text())
    content["latency"] += 1
    content["sha256"] = description_sha256(content)
    (tmp_path / "softmax.rtl.json").write_text(json.dumps(content))
    (tmp_path / "softmax.v").write_bytes((files / "softmax.v").read_bytes())
    arguments = command(files, cache, "softmax")
    arguments[1] = str(tmp_path / "softmax.v")
    assert cli.main(arguments) == 2
    assert "latency must be what its parameters say" in capsys.readouterr().err


def test_the_command_prints_a_row_for_each_unit(cache, capsys, tmp_path, monkeypatch):
    output = tmp_path / "rows.json"

    def small(unit, length, inside):
        assert (unit, length, inside) == ("softmax", LENGTH, False)
        return softmax()

    monkeypatch.setattr(rows, "row_design", small)
    arguments = ["rows", "--unit", "softmax", "--length", str(LENGTH), "--simulator", "icarus", "--cache", str(cache)]
    assert cli.main([*arguments, "-o", str(output)]) == 0
    assert "in neither area nor power" in capsys.readouterr().out
    (row,) = read_results(output)["rows"]
    assert (row["length"], row["stages"], row["latency"], row["slack_s"]) == (LENGTH, [2, 3, 1], 10 + 2 * LENGTH, None)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_the_measured_units_are_those_of_today(unit):
    """If not, `python -m cost_model rows --period 10 --liberty ... -o cost_model/data/row_units.json`."""
    text = row_design(unit).device.verilog
    recorded = {row["source"]["verilog_sha256"] for row in read_results(ROW_UNITS)["rows"] if row["unit"] == unit}
    assert recorded == {hashlib.sha256(text.encode()).hexdigest()}
