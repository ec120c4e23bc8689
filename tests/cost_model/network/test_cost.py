"""A packed model's figures: by hand on a small one, and sums that must hold; what is not counted is said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import torch as safetensors

import quant
from cost_model import cli
from cost_model.analytical.estimate import coefficients, estimate
from cost_model.network import row_units
from cost_model.network.cost import report
from cost_model.network.machine import Machine
from cost_model.network.row_units import row_cycles, schedule
from cost_model.network.sites import sites
from quant import Plan, Rule
from quant.formats.packed_index import PackedIndex
from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from sim.network import packed
from sim.network.convert import convert
from sim.reference import InputError
from sim.reference.row_cycles import RowSchedule
from tests.sim.network.models import EXACT, bert, plan, real_batches, token_batches, torch_encoder

TOKENS, BATCH = 12, 2
IHP = "sg13g2_stdcell_typ_1p20V_25C"
UNITS_BESIDE = ("residual adder", "token quantiser", "magnitudes")
SMALL = Machine(4, 4, 16)
FIRST = "encoder.layer.0"
GROUPED: dict[str, Any] = dict(weight_bits=4, weight_granularity="group", group_size=6, weight_symmetric=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two layers of 32 channels and 4 heads, 48 in the feed-forward network."""
    path = tmp_path_factory.mktemp("model")
    packed.save(convert(bert(), plan(), token_batches()), path)
    return path


@pytest.fixture(scope="module")
def grouped(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("grouped")
    packed.save(convert(bert(), plan(**GROUPED, activation_granularity="tensor"), token_batches()), path)
    return path


def found(path: Path, machine: Machine = SMALL, tokens: int = TOKENS, batch: int = BATCH) -> dict:
    return report(sites(PackedIndex.load(path), path, tokens, batch), machine)


def by_site(result: dict) -> dict[str, dict]:
    rows = {row["site"]: row for row in result["rows"]}
    assert len(rows) == len(result["rows"])
    return rows


def test_a_context_of_16_bit_probabilities_is_two_products_of_8_bits(folder, tmp_path):
    wide = Plan((*plan().rules, Rule(".*softmax", probability_bits=16)))
    packed.save(convert(bert(), wide, token_batches()), tmp_path)
    own, context = (by_site(found(path))[f"{FIRST}.attention.self.context"] for path in (folder, tmp_path))
    assert context["bits"] == own["bits"] == "W8A8" and context["macs"] == 2 * own["macs"]


def test_the_figures_are_those_by_hand(folder):
    rows = by_site(found(folder))
    query = rows[f"{FIRST}.attention.self.query"]
    # 8 x 8 tiles, blocks of 16 and 8 tokens; 1 + 4 rows to load, 4 + 4 + 3 stages to drain
    assert (query["shape"], query["macs"], query["cycles"]) == ([24, 32, 32], 24 * 32 * 32, 5 + 64 * 24 + 11)
    assert query["busy"] == pytest.approx(24576 / (16 * 1552))
    # codes; a weight's scale in 2 + 1 bytes; bias, multiplier and shift in 8 each
    assert query["bytes"] == 32 * 32 + 32 * 3 + 32 * 24 and query["bytes_by_role"]["codes"] == 1024
    scores, context = (rows[f"{FIRST}.attention.self.{name}"] for name in ("scores", "context"))
    assert (scores["shape"], scores["jobs"], scores["cycles"]) == ([12, 8, 12], 8, 8 * (5 + 6 * 12) + 11)
    assert (context["shape"], context["jobs"], context["cycles"]) == ([12, 12, 8], 8, 8 * (5 + 6 * 12) + 11)
    assert scores["macs"] == context["macs"] == 8 * 12 * 12 * 8
    softmax = rows[f"{FIRST}.attention.self.softmax"]
    assert (softmax["shape"], softmax["cycles"]) == ([96, 12], (96 + 2) * 12 + 15)
    norm = rows[f"{FIRST}.output.LayerNorm"]
    assert (norm["kind"], norm["shape"], norm["cycles"]) == ("layernorm", [24, 32], (24 + 1) * 32 + 14)
    gelu = rows[f"{FIRST}.intermediate.intermediate_act_fn"]
    assert gelu["shape"] == [24 * 48] and gelu["cycles"] == 24 * 48 + gelu["jobs"] * (23 + PwlConfig.stages)


def test_energy_is_a_count_times_the_model_s(folder):
    rows = by_site(found(folder))
    query = rows[f"{FIRST}.attention.self.query"]
    element = estimate("element", rows=4, weight_bits=8, activation_bits=8).total
    assert query["energy_by_part"]["elements"] == pytest.approx(24576 * float(element.proxy))
    fp32 = estimate("fp-element", exponent_bits=8, fraction_bits=23, stages=7).total
    assert query["floating_energy"]["FP32"] == pytest.approx(24576 * float(fp32.proxy), rel=0.3)
    ihp = found(folder, Machine(4, 4, 16, library="sg13g2_stdcell_typ_1p20V_25C"))
    row = by_site(ihp)[f"{FIRST}.attention.self.softmax"]
    assert ihp["energy_unit"] == "J" and 1e-12 < row["energy"] / (96 * 12) < 1e-9
    assert ihp["totals"]["leakage_energy"] == pytest.approx(ihp["totals"]["leakage_w"] * ihp["totals"]["seconds"])
    assert ihp["totals"]["leakage_w"] == pytest.approx(sum(part["leakage_w"] for part in ihp["hardware"]))


@pytest.mark.parametrize("machine", [SMALL, Machine(3, 5, 7, lanes=3), Machine(4, 4, 16, two_pass=True)])
def test_totals_are_the_sums_of_the_rows_and_bytes_those_of_the_files(folder, grouped, machine):
    for path in (folder, grouped):
        result = found(path, machine)
        for key in ("bytes", "macs", "cycles", "energy", "weights"):
            assert result["totals"][key] == sum(row[key] for row in result["rows"] if row[key] is not None)
        for row in result["rows"]:
            assert row["bytes"] == sum(row["bytes_by_role"].values())
            assert row["energy"] is None or row["energy"] == pytest.approx(sum(row["energy_by_part"].values()))
        [file] = path.glob("*.safetensors")
        assert result["totals"]["bytes"] == sum(tensor.nbytes for tensor in safetensors.load_file(file).values())


def test_groups_zero_points_and_two_passes_are_in_the_cycles(grouped):
    rows = by_site(found(grouped, Machine(4, 4, 16, two_pass=True)))
    query = rows[f"{FIRST}.attention.self.query"]
    assert (query["bits"], query["group"], query["passes"]) == ("W4A8", 6, 2)
    # a group of 6 takes tiles of 4 and 2, and the last one has 2: 11 x 8 tiles; blocks of 16 and 8 tokens, twice each
    assert query["cycles"] == 5 + 88 * 48 + 4 + 4 + 3 + 3
    config = ArrayConfig(4, 4, 4, False, 8, True, 6, 8, 32, depth=16)
    assert query["cycles"] == config.schedule.cycles(24, 32, 32, 2)
    assert {"elements", "weight loading", "lanes", "requantisers", "input requantisers"} == set(query["energy_by_part"])
    assert query["bytes_by_role"]["codes"] == 32 * 16 and query["bytes_by_role"]["zero points"] == 32 * 3
    scores = rows[f"{FIRST}.attention.self.scores"]
    assert (scores["bits"], scores["passes"]) == ("W8A8", 2)


@pytest.mark.parametrize("kind", ["softmax", "layernorm"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 33])
def test_cycles_of_rows_are_those_of_the_exact_count(kind, length):
    own = schedule(kind)
    for rows in (1, 2, 5, 40, 1000, 1001, 1002, 1003):
        assert row_cycles(own, rows, length) == own.cycles([length] * rows)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=2), st.integers(1, 5),
    st.integers(1, 9), st.integers(1, 900),
)  # fmt: skip
def test_cycles_of_rows_of_any_unit_are_those_of_the_exact_count(passes, inside, length, rows):
    delays, ways = zip(*passes, strict=True)
    own = RowSchedule(delays, ways, inside)
    assert row_cycles(own, rows, length) == own.cycles([length] * rows)


def test_an_input_is_quantised_once_and_what_does_it_is_in_the_hardware(folder, grouped):
    result = found(grouped)
    rows = by_site(result)
    query, key, value = (rows[f"{FIRST}.attention.self.{name}"] for name in ("query", "key", "value"))
    unit = estimate("requant", in_bits=16, multiplier_bits=16, max_shift=47, out_bits=8, stages=3).total
    assert query["energy_by_part"]["input requantisers"] == pytest.approx(24 * 32 * float(unit.proxy))
    for other in (key, value):
        assert set(query["energy_by_part"]) - set(other["energy_by_part"]) == {"input requantisers"}
    parts = {part["unit"]: part for part in result["hardware"]}
    assert parts["input requantiser"]["count"] == 4
    assert parts["input requantiser"]["area_ge"] == pytest.approx(4 * float(unit.area_ge))
    assert "input requantiser" not in {part["unit"] for part in found(folder)["hardware"]}, "by token: not counted"


def test_loading_weights_takes_energy_once_for_each_block_of_tokens(folder):
    one, block, two = (by_site(found(folder, tokens=n, batch=1))[f"{FIRST}.intermediate.dense"] for n in (1, 16, 17))
    loading = [row["energy_by_part"]["weight loading"] for row in (one, block, two)]
    fitted = coefficients()["libraries"]["gate_equivalents"]
    bit = fitted["energy"]["register bits"] * fitted["activity"]["element"]
    # 32 x 48 weights in tiles of 4 x 4, each element 4 times shifted and once put in use, 8 bits
    assert loading == pytest.approx([8 * 12 * 16 * 5 * 8 * bit * blocks for blocks in (1, 1, 2)])
    assert 16 * one["energy"] - block["energy"] == pytest.approx(15 * loading[0]), "all else is for each token"


def test_rows_longer_than_the_measured_units_hold_are_said(folder, monkeypatch, capsys):
    assert not found(folder)["too_long"]
    short = {kind: unit | {"length": 11} for kind, unit in row_units.row_units("gate_equivalents").items()}
    monkeypatch.setattr(row_units, "row_units", lambda library: short)
    assert found(folder)["too_long"] == [
        f"{kind} has rows of {length}, but the unit that was measured for area and energy holds 11"
        for kind, length in (("layernorm", 32), ("softmax", 12))
    ]
    assert cli.main(["model", str(folder), "--tokens", "12"]) == 0
    printed = capsys.readouterr().out
    assert "TOO LONG: softmax has rows of 12" in printed and "on an array configured for" in printed


def test_what_is_not_counted_is_said_and_none_is_not_0(folder, tmp_path):
    result = found(folder)
    for word in ("embedding", "add", "a token's scale", "memories", "wires"):
        assert any(word in line for line in result["not_counted"]), word
    add = by_site(result)[f"{FIRST}.output.dense.residual"]
    assert (add["cycles"], add["energy"], add["macs"]) == (None, None, None)
    packed.save(convert(bert(), plan(EXACT), token_batches()), tmp_path)
    rows = found(tmp_path)["rows"]
    assert {row["kind"] for row in rows if row["not_counted"] and "control" in row["not_counted"]} == {
        "softmax", "norm", "activation",
    }  # fmt: skip


def test_sums_tokens_scales_and_memories_are_priced_beside_the_totals(folder, capsys):
    assert cli.main(["model", str(folder), "--tokens", "12", "--library", IHP, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {unit: [r for r in result["beside"]["rows"] if r["unit"] == unit] for unit in UNITS_BESIDE}
    # in each of two layers: two sums; queries, keys and values share an input; six layers have results
    assert [len(found) for found in rows.values()] == [4, 8, 12]
    assert all(row["energy"] > 0 for row in result["beside"]["rows"])
    assert rows["residual adder"][0]["elements"] == rows["token quantiser"][0]["elements"] == 12 * 32
    assert result["beside"]["memories"]["sram"] > 0 and result["beside"]["memories"]["area_um2"] > 0
    assert not any(word in line for word in ("memories", "add:", "scale") for line in result["not_counted"])
    assert cli.main(["model", str(folder), "--tokens", "12"]) == 0
    printed = capsys.readouterr().out
    assert "beside that: token quantiser, 8 sites" in printed and "memories and the traffic" in printed


def test_a_clock_that_a_unit_cannot_keep_is_said(folder):
    fast = found(folder, Machine(library=IHP))
    assert any(line.startswith("layernorm needs 9.") for line in fast["too_slow"])
    assert not found(folder, Machine(library=IHP, clock_hz=100e6))["too_slow"]


def test_an_encoder_of_torch_is_read_in_its_order(tmp_path):
    model = torch_encoder(1, torch.nn.RMSNorm(32), norm_first=True, activation="relu")
    data = [{"src": batch["src"]} for batch in real_batches()]
    packed.save(convert(model, plan(), data), tmp_path)
    kinds = [row["kind"] for row in found(tmp_path)["rows"]]
    assert kinds == [
        "input", "layernorm", "linear", "linear", "linear", "scores", "softmax", "context", "linear", "add",
        "layernorm", "linear", "activation", "linear", "add", "rmsnorm", "constants",
    ]  # fmt: skip


@pytest.mark.parametrize(("activation_bits", "activation_granularity"), [(8, "tensor"), (8, "token"), (None, "tensor")])
def test_a_model_of_quant_has_its_linear_layers(tmp_path, capsys, activation_bits, activation_granularity):
    model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))
    rules = quant.Plan.uniform(
        weight_bits=5, activation_bits=activation_bits, activation_granularity=activation_granularity
    )
    quant.save_pretrained(quant.quantize(model, rules, [{"input": torch.randn(16, 16)}]), tmp_path)
    result = found(tmp_path, tokens=10, batch=1)
    first, _, rest = result["rows"]
    assert (first["shape"], first["macs"]) == ([10, 16, 8], 1280) and rest["kind"] == "constants"
    totals = result["totals"]
    assert cli.main(["model", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    if activation_bits:
        assert (first["bits"], first["cycles"]) == ("W8A8", 5 + 8 * 10 + 11)
        assert totals["seconds"] == totals["cycles"] / 125e6
        token = activation_granularity == "token"
        assert ("a token's scale" in first["not_counted"]) == token == ("a token's scale" in printed)
        assert ("rounding floating-point" in first["not_counted"]) != token
    else:
        assert first["cycles"] is None and "not for the array" in first["not_counted"]
        unknown = ("cycles", "seconds", "energy", "floating_energy", "energy_beside_floating", "area_ge", "leakage_w")
        assert {totals[key] for key in (*unknown, "leakage_energy")} == {None} and totals["macs"] > 0
        assert "time not known" in printed and "hardware: not known" in printed and " ms" not in printed


def test_more_tokens_than_a_list_can_hold_are_counted(folder, tmp_path, capsys):
    layer = torch.nn.Sequential(torch.nn.Linear(16, 8))
    plan = quant.Plan.uniform(weight_bits=8, activation_bits=8)
    quant.save_pretrained(quant.quantize(layer, plan, [{"input": torch.randn(16, 16)}]), tmp_path)
    assert cli.main(["model", str(tmp_path), "--tokens", str(1 << 24), "--batch", str(1 << 24), "--json"]) == 0
    row, _ = json.loads(capsys.readouterr().out)["rows"]
    softmax = by_site(found(folder, tokens=2, batch=1 << 24))[f"{FIRST}.attention.self.softmax"]
    assert softmax["shape"] == [1 << 27, 2] and softmax["cycles"] > 1 << 28
    assert row["macs"] == (1 << 48) * 16 * 8 and row["cycles"] == 17 + (1 << 48) + 16 + 16 + 3


def test_the_command_prints_a_table_and_json_without_torch(folder, capsys):
    arguments = ["model", str(folder), "--tokens", "12", "--batch", "2", "--rows", "4", "--columns", "4"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "NOT counted" in printed and "total" in printed and "hardware" in printed
    code = (
        f"import sys, cost_model.cli; cost_model.cli.main({[*arguments, '--json']}); assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout)
    assert result["totals"]["cycles"] > 0 and result["source"]["model_sha256"] and result["source"]["tokens"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "packed.json: cannot be read"),
        (["--tokens", "41"], "tokens must be at most the model's 40, not 41"),
        (["--tokens", "0"], "--tokens must be in 1..16777216, not 0"),
        (["--rows", "0"], "rows must be in 1..1024, not 0"),
        (["--lanes", "0"], "lanes must be in 1..65536, not 0"),
        (["--clock", "0"], "clock must be in 0.001..100000 MHz, not 0"),
        (["--library", "x"], "library must be one of gate_equivalents"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(folder, capsys, arguments, message):
    given = arguments if arguments == ["nowhere"] else [str(folder), *arguments]
    assert cli.main(["model", *given]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out and len(printed.err.strip().splitlines()) == 1


def test_a_damaged_or_foreign_folder_is_one_line(folder, tmp_path):
    from quant.formats.packed import PackedModel

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    [weights] = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"safetensors: truncated or altered"):
        found(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"safetensors: cannot be read"):
        found(tmp_path)
    PackedModel(plan=plan()).save(tmp_path)
    with pytest.raises(InputError, match=r"packed\.json: was made neither by"):
        found(tmp_path)
