"""The products of two activations and of single channels: every multiply-accumulate is in the totals, by hand."""

from pathlib import Path
from typing import Any

import pytest

import sim
from cost_model.network.cost import report
from cost_model.network.coverage import coverage
from cost_model.network.machine import Machine
from cost_model.network.sites import sites
from quant.formats.packed_index import PackedIndex
from quant.zoo.linear_attention import scene_segmenter
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import EXACT, image_batches, plan

TOKENS, BATCH, SIDE = 6, 2, 16


def found(network: Any, folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any], list[str]]:
    """The records by site, the coverage, and what is not counted."""
    path = sim.save(network, folder).parent
    index = PackedIndex.load(path)
    listed = sites(index, path, TOKENS, BATCH, (SIDE, SIDE))
    result = report(listed, Machine(4, 4, 16))
    return {row["site"]: row for row in result["rows"]}, coverage(index, listed), result["not_counted"]


def test_the_attention_of_a_language_model_is_priced_for_the_heads_that_share_a_key(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the model is that of transformers")
    network = sim.convert(language_model("LlamaForCausalLM"), plan(EXACT), [{"input_ids": prompts()}])
    rows, covered, missing = found(network, tmp_path)
    scores, context = (rows[f"layers.0.self_attn.{name}"] for name in ("scores", "context"))
    one = BATCH * TOKENS**2 * 32  # all 4 heads of 8 channels
    assert (scores["shape"], scores["jobs"], scores["macs"]) == ([2 * TOKENS, 8, TOKENS], 2 * BATCH, one)
    # weights of 16 bits are two codes of 8
    assert (context["shape"], context["jobs"], context["macs"]) == ([2 * TOKENS, TOKENS, 8], 4 * BATCH, 2 * one)
    assert scores["energy"] and context["energy"]
    linear = BATCH * TOKENS * 32 * (2 * 32 + 2 * 16 + 3 * 48)
    assert covered["multiply_accumulates"] == covered["integer_multiply_accumulates"] == 2 * (linear + 3 * one)
    for kind in ("product", "rope"):
        assert any(line.startswith(f"{kind}: ") and "cost_model unit prices its unit" in line for line in missing)


def test_depthwise_convolutions_and_linear_attention_are_counted_but_not_priced(tmp_path: Path) -> None:
    network = sim.convert(scene_segmenter().eval(), plan(EXACT), image_batches(1, channels=1))
    rows, covered, missing = found(network, tmp_path)
    gather, attention = rows["stages.1.1.gather"], rows["stages.1.1.heads.plain.attention"]
    pixels = BATCH * (SIDE // 4) ** 2
    assert gather["macs"] == pixels * 96 * 5**2 and gather["bytes_by_role"]["codes"] == 96 * 5**2
    # 2 heads of 16 channels: each key and each query with the values of its head, and with a column of ones
    assert attention["macs"] == 2 * pixels * 2 * 16 * (16 + 1)
    assert gather["energy"] is attention["energy"] is None
    assert any(line.startswith("requantise: ") and "cost_model unit prices its unit" in line for line in missing)
    assert covered["multiply_accumulates"] == sum(row["macs"] or 0 for row in rows.values())


def test_a_hadamard_transform_is_priced_as_its_unit_and_changes_no_product(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the model is that of transformers")
    costs = []
    for hadamard in (False, True):
        network = sim.convert(
            language_model("LlamaForCausalLM"), plan(EXACT, hadamard=hadamard), [{"input_ids": prompts()}]
        )
        costs.append(found(network, tmp_path / str(hadamard)))
    (plain, before, _), (rows, after, _) = costs
    added = {name: row for name, row in rows.items() if row["kind"] == "hadamard"}
    assert len(added) == 8 and set(rows) - set(plain) == set(added)
    assert before == after and all(rows[name]["macs"] == plain[name]["macs"] for name in plain)
    down = added["layers.0.down-hadamard"]
    assert (down["shape"], down["group"]) == ([BATCH * TOKENS, 48], 16)
    assert down["cycles"] == BATCH * TOKENS * 48 + 15 + 4 + 1
    assert down["energy"] > 0
