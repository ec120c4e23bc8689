"""A network that was written and read gives the same integers; a damaged one is refused in one line."""

import json

import pytest
import torch
from torch import nn

from sim.network import packed
from sim.network.convert import convert
from sim.network.operators.base import set_mode
from sim.reference import InputError
from tests.sim.network.models import EXACT, TABLES, bert, plan, real_batches, token_batches, torch_encoder

GROUPED = dict(weight_bits=4, weight_granularity="group", group_size=16, weight_symmetric=False)


@pytest.mark.parametrize("tables", [EXACT, TABLES])
@pytest.mark.parametrize("settings", [{}, {"activation_granularity": "tensor"}, GROUPED])
def test_bert_gives_the_same_integers_and_the_same_bytes(tmp_path, tables, settings):
    network = convert(bert(), plan(tables, **settings), token_batches())
    packed.save(network, tmp_path / "a")
    read = packed.load(tmp_path / "a")
    batch = token_batches(1, seed=5)[0]
    assert torch.equal(read.codes(**batch), network.codes(**batch))
    assert torch.equal(read(**batch).last_hidden_state, network(**batch).last_hidden_state)
    packed.save(read, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("changes", [{"norm_first": True}, {"activation": "relu", "batch_first": False}])
def test_a_transformer_encoder_gives_the_same_integers(tmp_path, changes):
    model = torch_encoder(final=nn.RMSNorm(32), **changes)
    data = [{"src": batch["src"]} for batch in real_batches()]
    network = convert(model, plan(), data)
    packed.save(network, tmp_path)
    assert torch.equal(packed.load(tmp_path).codes(**data[1]), network.codes(**data[1]))


def test_a_loaded_network_has_no_floating_point_to_run(tmp_path):
    packed.save(convert(bert(), plan(), token_batches()), tmp_path)
    with pytest.raises(InputError, match="has no floating-point weights"):
        set_mode(packed.load(tmp_path), "fake")


def test_the_file_records_the_plan_the_data_the_boundary_and_every_bound(tmp_path):
    network = convert(bert(), plan(), token_batches())
    content = json.loads(packed.save(network, tmp_path).read_text())
    assert content["plan_sha256"] == plan().digest and len(content["data_sha256"]) == 64
    assert "pooling" in content["boundary"]["bert"]
    assert len(content["bounds"]) == 12 and all(0 < bound < 1 << 46 for bound in content["bounds"].values())


def test_a_damaged_file_is_one_line(tmp_path):
    path = packed.save(convert(bert(), plan(), token_batches()), tmp_path)
    [weights] = tmp_path.glob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"safetensors: truncated or altered"):
        packed.load(tmp_path)
    weights.write_bytes(whole)
    text = path.read_text()
    path.write_text(text.replace('"out_bits": 16', '"out_bits": 12', 1))
    with pytest.raises(InputError, match=r"packed\.json: corrupted: its own SHA-256"):
        packed.load(tmp_path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"packed\.json: not valid JSON"):
        packed.load(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"packed\.json: cannot be read"):
        packed.load(tmp_path)


def test_a_packed_model_that_is_no_network_is_refused(tmp_path):
    from quant.formats.packed import PackedModel

    PackedModel(plan=plan()).save(tmp_path)
    with pytest.raises(InputError, match=r"packed\.json: must be an integer network"):
        packed.load(tmp_path)
