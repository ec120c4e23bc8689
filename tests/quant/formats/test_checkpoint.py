"""Checkpoint folders: single, sharded, tied, half precision; what is loaded is what transformers loads."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from quant.formats.checkpoint import Checkpoint, build_model, load_model
from sim.reference import InputError
from tests.quant.models import ARCHITECTURES, bert_folder, encoder, folder_of, llama_folder


def same_state(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(x[k].dtype == y[k].dtype and torch.equal(x[k], y[k]) for k in x)


@pytest.fixture
def small(tmp_path) -> Path:
    """The encoder's tensors, the tied head left out as safetensors demands."""
    state = encoder().state_dict()
    del state["head.weight"]
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


def test_pytorch_files_are_read_too(tmp_path):
    state = encoder().state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = dict(Checkpoint.open(tmp_path).tensors())
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04broken")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: not a PyTorch file of tensors"):
        Checkpoint.open(tmp_path)


def test_a_pytorch_file_that_unpacks_to_more_than_it_is_is_refused_before_it_is(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(1 << 16)}, tmp_path / "whole.bin")
    with (
        zipfile.ZipFile(tmp_path / "whole.bin") as whole,
        zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for member in whole.namelist():
            small.writestr(member, whole.read(member))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(
        InputError, match=r"pytorch_model\.bin: unpacks to 26\d{4} bytes; a PyTorch file of \d+ has no more"
    ):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_of_any_architecture_is_what_from_pretrained_loads(name, tmp_path):
    saved = folder_of(name, tmp_path)
    reference = getattr(transformers, name).from_pretrained(tmp_path).eval()
    model, unused = load_model(tmp_path)
    assert type(model) is type(saved) and unused == [] and not model.training
    assert same_state(model, reference) and same_state(model, saved)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_numbers_of_other_types_are_converted(tmp_path, dtype):
    saved = bert_folder(tmp_path, dtype)
    model, _ = load_model(tmp_path)
    assert all(torch.equal(p, q.float()) for p, q in zip(model.parameters(), saved.parameters(), strict=True))


def test_a_prefix_and_old_names_of_layer_norm_are_bridged_and_other_tensors_are_told(tmp_path):
    saved = bert_folder(tmp_path)
    state = {f"bert.{key}": tensor for key, tensor in load_file(tmp_path / "model.safetensors").items()}
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        state[f"bert.embeddings.LayerNorm{old}"] = state.pop(f"bert.embeddings.LayerNorm{new}")
    state["other.bias"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    model, unused = load_model(tmp_path)
    assert unused == ["other.bias"] and same_state(model, saved)


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("pooler.dense.bias"), r": pooler\.dense\.bias is missing$"),
    (lambda s: s.update({"pooler.dense.weight": torch.zeros(2, 3)}),
     r"model\.safetensors: pooler\.dense\.weight must be of shape \[16, 16\], not \[2, 3\]$"),
])  # fmt: skip
def test_a_missing_or_misshapen_tensor_is_one_line(tmp_path, change, message):
    bert_folder(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=message) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_or_absent_file_is_one_line(small):
    path = small / "model.safetensors"
    data = path.read_bytes()
    for bad in (data[:-10], data[:20], b"", b"\xff" * 100):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file") as error:
            Checkpoint.open(small)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match="has no checkpoint"):
        Checkpoint.open(small)


def shard(folder: Path, missing: bool = False) -> Path:
    """Two shards and their index, as transformers lays them out."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    halves = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, part in halves.items():
        save_file({name: state[name] for name in part[missing:]}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards_are_the_single_file(small):
    whole = load_file(small / "model.safetensors")
    found = dict(Checkpoint.open(shard(small)).tensors())
    assert found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in whole)


def test_faults_of_shards_are_one_line(small, tmp_path):
    shard(small, missing=True)
    with pytest.raises(
        InputError, match=r"00001-of-00002\.safetensors: embedding\.weight is missing, which model\.saf"
    ):
        Checkpoint.open(small)
    (small / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"is missing|cannot be read"):
        Checkpoint.open(small)
    wrong = "must be JSON with a weight_map"
    for bad, message in (("{", "not valid JSON"), ("[]", wrong), ('{"weight_map": 3}', wrong)):
        (small / "model.safetensors.index.json").write_text(bad)
        with pytest.raises(InputError, match=rf"index\.json: {message}"):
            Checkpoint.open(small)


def test_a_bert_folder_is_what_transformers_loads(tmp_path):
    saved = bert_folder(tmp_path)
    model, unused = load_model(tmp_path)
    assert type(model) is type(saved) and unused == [] and same_state(model, saved) and not model.training
    ids = torch.tensor([[2, 5, 7, 3]])
    with torch.no_grad():
        assert torch.equal(model(ids).last_hidden_state, saved(ids).last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sharded_tied_llama_in_half_precision_is_what_transformers_loads(tmp_path, dtype):
    saved = llama_folder(tmp_path, dtype)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    model, unused = load_model(tmp_path, "auto")
    assert unused == [] and same_state(model, saved)
    assert model.get_submodule("lm_head").weight is model.get_submodule("model.embed_tokens").weight
    wide, _ = load_model(tmp_path, "float32")
    assert torch.equal(
        wide.get_submodule("lm_head").get_parameter("weight"), saved.get_parameter("lm_head.weight").float()
    )


@pytest.mark.parametrize("content, message", [
    (None, "config.json: cannot be read"),
    ("{", "config.json: not valid JSON"),
    ("{}", "config.json: model_type must be the name of an architecture"),
    ('{"model_type": "no-such"}', "config.json: transformers cannot build it"),
    ('{"model_type": "bert", "hidden_size": "x"}', "config.json: transformers cannot build it"),
])  # fmt: skip
def test_a_configuration_at_fault_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as error:
        build_model(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_that_is_quantised_already_is_refused(tmp_path):
    bert_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    state = load_file(tmp_path / "model.safetensors")
    key = "encoder.layer.0.output.dense.weight"
    for dtype in (torch.int8, torch.float8_e4m3fn):
        save_file(state | {key: state[key].to(dtype)}, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=rf"{key} must be floating point of 16 to 64 bits, not {dtype}"):
            load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_8bit": True}}))
    with pytest.raises(InputError, match=r"config\.json: quantization_config: it is quantised already"):
        load_model(tmp_path)


def test_the_base_of_a_model_with_a_head_is_loaded_without_its_pooler(tmp_path):
    import transformers

    bert_folder(tmp_path / "base")
    masked = transformers.BertForMaskedLM(transformers.BertConfig.from_pretrained(tmp_path / "base")).eval()
    masked.save_pretrained(tmp_path / "masked")
    model, unused = load_model(tmp_path / "masked", base=True)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(model(ids).last_hidden_state, masked.bert(ids).last_hidden_state)
    assert type(model) is transformers.BertModel and all(name.startswith("cls.") for name in unused)


def test_buffers_of_integers_may_stand_in_a_file_with_or_without_a_prefix(tmp_path):
    bert_folder(tmp_path / "base")
    config = transformers.BertConfig.from_pretrained(tmp_path / "base")
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "masked")
    file = tmp_path / "masked" / "model.safetensors"
    positions = torch.arange(config.max_position_embeddings)[None]
    save_file({**load_file(file), "bert.embeddings.position_ids": positions}, file, {"format": "pt"})
    assert type(load_model(tmp_path / "masked", base=True)[0]) is transformers.BertModel
    small = transformers.GPT2Config(vocab_size=8, n_positions=4, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2Model(small).save_pretrained(tmp_path / "gpt")
    file = tmp_path / "gpt" / "model.safetensors"
    save_file({**load_file(file), "h.0.attn.bias": torch.ones(1, 1, 4, 4).tril().byte()}, file, {"format": "pt"})
    content = json.loads((tmp_path / "gpt" / "config.json").read_text()) | {"architectures": ["GPT2LMHeadModel"]}
    (tmp_path / "gpt" / "config.json").write_text(json.dumps(content))
    assert type(load_model(tmp_path / "gpt")[0]) is transformers.GPT2LMHeadModel


def test_a_folders_own_python_never_runs(tmp_path):
    bert_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"config\.json: transformers cannot build it"):
        load_model(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../model.safetensors", "/dev/zero", "", 3])
def test_shards_have_plain_names(name, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InputError, match="files must have plain names"):
        Checkpoint.open(tmp_path)
