"""The bench measures what it says, on small sizes, and its exit code follows its targets."""

import json

import pytest
import torch
from torch import nn

from sim.network import benchmark as bench
from sim.network import benchmark_decoder
from sim.network.benchmark_limit import BETWEEN, Rates, Work, profile, profile_lines
from sim.network.convert import convert
from sim.network.peak_memory import peak_bytes
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import EXACT, bert, plan, token_batches


def small_decoder():
    model = language_model("LlamaForCausalLM")
    return model, convert(model, plan(EXACT), [{"input_ids": prompts()}])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "CODES", 1000)
    monkeypatch.setattr(bench, "ROUNDS", {(1, 4): 3})
    monkeypatch.setattr(bench, "PWL_ROUNDS", 1)
    monkeypatch.setattr(bench, "minilm", lambda: (bert(), {"W8A8": convert(bert(), plan(), token_batches())}))
    monkeypatch.setattr(bench, "DECODER_ROUNDS", {"prompt": 1, "token": 1})
    monkeypatch.setattr(bench, "PROFILED", 1)
    monkeypatch.setattr(bench, "prompt", lambda: prompts(1))
    monkeypatch.setattr(bench, "smollm2", small_decoder)
    batch = bench.batch
    monkeypatch.setattr(bench, "batch", lambda *size: {k: v.clamp(max=50) for k, v in batch(*size).items()})


@pytest.mark.parametrize("target, code", [(0.0, 0), (1e9, 1)])
def test_a_missed_target_is_exit_code_1(small, monkeypatch, tmp_path, target, code):
    monkeypatch.setattr(bench, "TARGETS", {"pwl": target, "W8A8": target})
    assert bench.main(["-o", str(tmp_path), "--threads", "1", "--no-peers"]) == code
    result = json.loads((tmp_path / "network.json").read_text())
    assert [(row["what"], row["size"]) for row in result["rows"]] == [
        ("pwl", "1e+03"), ("FP32", "1 x 4"), ("W8A8", "1 x 4"),
        *((f"language model, {name}", size) for size in ("prompt", "token") for name in ("FP32", "W8A8")),
    ]  # fmt: skip
    for row in result["rows"]:
        assert row["threads"] == 1 and row["seconds"] > 0 and row["cpu_seconds"] > 0
    assert result["rows"][1]["speed"] == result["rows"][1]["cpu_speed"] == 1.0
    for row in result["rows"]:
        assert ("profile" in row) == ("W8A8" in row["what"])
        for key in ("products_seconds", "traffic_seconds"):
            assert (
                row.get(key) == pytest.approx(sum(part[key] for part in row["profile"])) if "profile" in row else True
            )
    assert (
        result["load_before"] == result["load_averages"]["before"][0] >= 0
        and {"onnxruntime", "torch"} <= result["versions"].keys()
    )


def test_the_peers_run_the_same_model(small):
    pytest.importorskip("onnx", reason="the peers of the bench")
    pytest.importorskip("onnxruntime", reason="the peers of the bench")
    rows = bench.encoder(bert(), {}, 1)
    assert [row["what"] for row in rows] == ["FP32", "torch dynamic INT8", "ONNX Runtime dynamic INT8"]


def test_calls_take_turns_after_a_first_that_does_not_count():
    order: list[str] = []
    times = bench.in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == list("ab" * 4) and len(times["a"].wall) == len(times["b"].cpu) == 3


def test_the_peak_of_a_call_is_what_it_allocates():
    peak = peak_bytes(lambda: torch.ones(10_000_000).sum())
    assert peak is None or 30_000_000 <= peak < 80_000_000  # the system counts in pages of each thread


def test_the_networks_that_are_measured_have_minilms_shape(monkeypatch):
    built: list[nn.Module] = []
    monkeypatch.setattr(bench, "convert", lambda model, *_: built.append(model))
    bench.minilm()
    assert len(built) == len(bench.FORMATS)
    shapes = {name: tuple(p.shape) for name, p in built[0].named_parameters()}
    assert shapes["encoder.layer.5.intermediate.dense.weight"] == (1536, 384)


def test_the_work_of_a_pass_is_its_products_and_what_it_moves():
    [batch] = token_batches(1)
    rows, length = batch["input_ids"].shape
    layer = 4 * 32 * 32 + 2 * 32 * 48  # of weights
    expected = 2 * (rows * length * layer + 2 * rows * length * length * 32)
    work = Work.of(convert(bert(), plan(), [batch]), batch)
    assert work.macs == expected and work.bytes > 2 * layer + rows * length * 32 * 2
    grouped = Work.of(convert(bert(), plan(weight_bits=4, weight_granularity="group", group_size=16), [batch]), batch)
    assert grouped.macs - expected == 2 * rows * length * layer  # another plane of every weight


def test_a_profile_has_every_operator_once_and_leaves_the_network_as_it_was():
    [batch] = token_batches(1)
    network = convert(bert(), plan(), [batch])
    expected = network.codes(**batch)
    rows = profile(network, lambda: batch, Rates(1e9, 1e9), 2)
    assert sum(row["operators"] for row in rows) == len(network.graph.nodes)
    assert {"linear", "softmax", BETWEEN} <= {row["kind"] for row in rows}
    assert sum(row["share"] for row in rows) == pytest.approx(1) and all(row["seconds"] > 0 for row in rows)
    assert [row["seconds"] for row in rows] == sorted((row["seconds"] for row in rows), reverse=True)
    assert len(profile_lines(rows)) == len(rows) and not any("compute" in vars(n.step) for n in network.graph.nodes)
    assert torch.equal(network.codes(**batch), expected)


def test_a_step_with_the_cache_leaves_it_as_it_was():
    pytest.importorskip("transformers", reason="the models are those of transformers")
    model, network = small_decoder()
    with torch.no_grad():
        runs = benchmark_decoder.calls(model, network, prompts(1))["token"]
        first, second = ({name: run() for name, run in runs.items()} for _ in range(2))
    assert torch.equal(first["W8A8"], second["W8A8"]) and torch.equal(first["FP32"], second["FP32"])
    assert torch.cosine_similarity(first["W8A8"].flatten(), first["FP32"].flatten(), 0) > 0.9
