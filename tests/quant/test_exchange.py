"""GPTQ folders: what own exports hold comes back exactly, and what is not what it says is refused by its key."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import quant
from quant.exchange import export_compressed_tensors, export_gptq, import_gptq
from quant.formats.packed import PackedModel
from quant.plan import Plan, Rule
from quant.primitives.linear import QuantisedLinear
from sim.reference import InputError
from tests.quant.models import encoder, same


class Net(nn.Module):
    """Two layers of 192 and 32 inputs and one that is skipped."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.lm_head, self.last = nn.Linear(192, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.embedding = nn.Embedding(4, 3)


def packed(folder: Path, change=lambda model: None, **settings) -> Path:
    model = Net()
    change(model)
    settings = {"weight_bits": 4, "group_size": 32, "activation_bits": None} | settings
    quant.save_pretrained(quant.quantize(model, Plan((Rule("first|lm_head", **settings),))), folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "dtype": "float32"}))
    return folder


def edited(folder: Path, change) -> Path:
    """The checkpoint with its tensors changed."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def configured(folder: Path, **changes) -> Path:
    content = json.loads((folder / "quantize_config.json").read_text()) | changes
    (folder / "quantize_config.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


@pytest.mark.parametrize("settings", [{}, {"weight_symmetric": False}, {"multiplier_bits": 5, "weight_bits": 8}])
def test_an_own_float32_export_comes_back_exactly(settings, tmp_path):
    export_gptq(packed(tmp_path / "a", **settings), tmp_path / "b", dtype=torch.float32)
    rows = import_gptq(tmp_path / "b", tmp_path / "c")
    assert all(row["scale_change"] == 0 for row in rows)
    a, c = (PackedModel.load(tmp_path / name).weights for name in ("a", "c"))
    for name in a:
        assert torch.equal(a[name].codes, c[name].codes)
        assert torch.equal(a[name].dequantise(torch.float64), c[name].dequantise(torch.float64))


def test_export_and_import_print_coverage_and_sizes(tmp_path, capsys):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b")
    import_gptq(tmp_path / "b", tmp_path / "c")
    exported, imported = capsys.readouterr().err.split("% of")[1:]
    size = (tmp_path / "b" / "model.safetensors").stat().st_size
    assert f" bytes packed, {size} as a GPTQ checkpoint" in exported and f"{size} bytes before" in imported
    assert all("last (float" in text and "embedding (float" in text for text in (exported, imported))


def test_the_configuration_says_which_layers_are_quantised_and_in_which_type(tmp_path):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    inner = config["quantization_config"]
    assert inner["lm_head"] is True and inner["dynamic"] == {"-:^last$": {}} and inner["group_size"] == 32
    assert config["dtype"] == "float16"


@pytest.mark.parametrize("export", [export_gptq, export_compressed_tensors])
def test_a_config_that_is_no_object_is_refused_by_name(export, tmp_path):
    (packed(tmp_path / "a") / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config\.json: must be an object"):
        export(tmp_path / "a", tmp_path / "b")
    assert not list((tmp_path / "b").glob("*.json"))


def test_a_number_beyond_float16_is_refused_by_name_and_nothing_is_written(tmp_path):
    def large(model: Net) -> None:
        model.embedding.weight.data[0, 0] = 1e5

    packed(tmp_path / "a", large)
    with pytest.raises(InputError, match=r"^embedding\.weight in float16: holds NaN or infinite values$"):
        export_gptq(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    export_gptq(tmp_path / "a", tmp_path / "b", dtype=torch.float32)


@pytest.mark.parametrize("made, said", [("gptq", "gptq_v2"), ("gptq_v2", "gptq")])
def test_zero_points_of_the_other_format_are_refused(made, said, tmp_path):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b", made)
    configured(tmp_path / "b", checkpoint_format=said)
    with pytest.raises(InputError, match=f'qzeros are those of "{made}", but checkpoint_format says "{said}"'):
        import_gptq(tmp_path / "b", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_key_format_alone_is_read(tmp_path):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b", "gptq_v2", torch.float32)
    configured(tmp_path / "b", checkpoint_format=None, format="gptq_v2")
    import_gptq(tmp_path / "b", tmp_path / "c")
    a, c = (PackedModel.load(tmp_path / name).weights for name in ("a", "c"))
    assert torch.equal(a["first.weight"].zero_point, c["first.weight"].zero_point)


def test_a_damaged_configuration_is_not_passed_over(tmp_path):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b")
    content = json.loads((tmp_path / "b" / "quantize_config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps({"model_type": "x", "quantization_config": content}))
    (tmp_path / "b" / "quantize_config.json").write_text('{"bits": 4,')
    with pytest.raises(InputError, match=r"quantize_config\.json: not valid JSON"):
        import_gptq(tmp_path / "b", tmp_path / "c")


def test_without_g_idx_the_groups_are_those_of_the_configuration(tmp_path):
    export_gptq(packed(tmp_path / "a", group_size=128), tmp_path / "b", dtype=torch.float32)
    edited(tmp_path / "b", lambda t: [t.pop(key) for key in list(t) if key.endswith("g_idx")])
    import_gptq(tmp_path / "b", tmp_path / "c")
    first = PackedModel.load(tmp_path / "c").weights["first.weight"]
    assert first.group_size == 128
    with_index = PackedModel.load(tmp_path / "a").weights["first.weight"]
    assert same(first, with_index) or torch.equal(first.dequantise(), with_index.dequantise())
    configured(tmp_path / "b", group_size=64)
    with pytest.raises(
        InputError, match=r"model\.safetensors: first\.scales must have a row for each group of 64 inputs, not 2 rows$"
    ):
        import_gptq(tmp_path / "b", tmp_path / "d")


def test_settings_of_single_layers_are_followed_the_first_that_fits(tmp_path):
    for name, settings in (("four", {}), ("eight", {"weight_bits": 8, "group_size": 16, "weight_symmetric": False})):
        export_gptq(packed(tmp_path / name, **settings), tmp_path / f"{name} gptq", dtype=torch.float32)
    eight = load_file(tmp_path / "eight gptq" / "model.safetensors")
    edited(tmp_path / "four gptq", lambda t: t.update({k: v for k, v in eight.items() if k.startswith("lm_head.")}))
    own = {"bits": 8, "group_size": 16, "sym": False, "desc_act": False}
    configured(tmp_path / "four gptq", dynamic={r"-:last": {}, r"+:.*head": own, "lm": {"bits": 2}})
    rows = import_gptq(tmp_path / "four gptq", tmp_path / "mixed")
    assert [(row["module"], row["bits"], row["group_size"]) for row in rows] == [("first", 4, 32), ("lm_head", 8, 16)]
    mixed, four, other = (PackedModel.load(tmp_path / name) for name in ("mixed", "four", "eight"))
    for weight, source in (("first.weight", four), ("lm_head.weight", other)):
        assert torch.equal(
            mixed.weights[weight].dequantise(torch.float64), source.weights[weight].dequantise(torch.float64)
        )
    assert {name: s.weight_bits for name, s in mixed.plan.resolve(["first", "lm_head"]).items()} == {
        "first": 4,
        "lm_head": 8,
    }


@pytest.mark.parametrize("dynamic, message", [
    ({"-:first": {}}, r"first: dynamic: 'first' says that it is not quantised, but it has qweight"),
    ({"first": {"format": "marlin"}}, r"quantize_config\.json: dynamic\['first'\]: unknown key 'format'; bits,"),
    ({"first": {"bits": 5}}, r"quantize_config\.json: dynamic\['first'\]\.bits must be one of 2, 3, 4, 8"),
    ({"first": {"group_size": 0}}, r"dynamic\['first'\]\.group_size must be -1 or a positive integer, not 0"),
    ({"first": 4}, r"dynamic\['first'\] must be an object, not '4'"), (["first"], "dynamic must be an object of"),
    ({"(": {}}, "must be a regular expression"), ({"(a+)+b": {}}, "must be a regular expression"),
])  # fmt: skip
def test_settings_of_single_layers_that_cannot_be_followed_are_refused_by_key(dynamic, message, tmp_path):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b")
    configured(tmp_path / "b", dynamic=dynamic)
    with pytest.raises(InputError, match=message) as error:
        import_gptq(tmp_path / "b", tmp_path / "c")
    assert "\n" not in str(error.value) and not (tmp_path / "c").exists()


@pytest.mark.parametrize("change, message", [
    (lambda t: t.pop("first.qweight"), "first.qweight is missing"),
    (lambda t: t.update({"first.qweight": t["first.qweight"].float()}), "first.qweight must be int32 with 2 axes"),
    (lambda t: t.update({"first.qzeros": t["first.qzeros"].bool()}), "first.qzeros must be int32 with 2 axes"),
    (lambda t: t.update({"first.qweight": t["first.qweight"][0]}), "first.qweight must be int32 with 2 axes"),
    (lambda t: t.update({"last.weight": t["last.weight"] * float("nan")}), "last.weight: holds NaN or infinite"),
    (lambda t: t.update({"last.bias": t["last.bias"].to(torch.complex64)}), "last.bias: must be real"),
])  # fmt: skip
def test_tensors_that_are_not_the_layouts_are_refused_by_name(change, message, tmp_path):
    export_gptq(packed(tmp_path / "a"), tmp_path / "b")
    edited(tmp_path / "b", change)
    with pytest.raises(InputError) as error:
        import_gptq(tmp_path / "b", tmp_path / "c")
    assert message in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "c").exists()


@pytest.mark.parametrize("command", [export_gptq, import_gptq])
def test_the_output_is_never_the_input(command, tmp_path):
    with pytest.raises(InputError, match="the output must be another folder than the input"):
        command(tmp_path, tmp_path / "x" / "..")


def test_a_tied_embedding_is_exported_as_the_rows_of_the_quantised_layer(tmp_path):
    made = quant.quantize(encoder(), Plan.uniform(activation_bits=None))
    quant.save_pretrained(made, tmp_path / "packed")
    export_gptq(tmp_path / "packed", tmp_path / "gptq", dtype=torch.float32)
    stored = load_file(tmp_path / "gptq" / "model.safetensors")
    head = made.get_submodule("head")
    assert isinstance(head, QuantisedLinear) and torch.equal(stored["embedding.weight"], head.weight.dequantise())
