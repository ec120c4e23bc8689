"""compressed-tensors: its own package reads what is exported as the same weights, and transformers the same model."""

import json
from dataclasses import replace

import pytest
import torch

import quant
from quant.cli import main
from quant.formats.compressed_tensors import config_of, export_weight
from quant.plan import Plan, Rule
from quant.pretrained import save_pretrained
from quant.primitives.scales import Scale
from sim.reference import InputError
from tests.quant.models import SETTINGS, quantised

REASON = "compressed-tensors is not installed"


@pytest.mark.slow  # its import takes ten seconds
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_package_s_own_reader_gives_the_same_weights(settings) -> None:
    pytest.importorskip("compressed_tensors", reason=REASON)
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme

    weight = quantised(settings, shape=(24, 96))
    made = export_weight(weight, "layer", torch.float32)
    config = QuantizationConfig.model_validate(config_of({"layer": weight}, {}, ["head"]))
    scheme = config.config_groups["group_0"]
    assert isinstance(scheme, QuantizationScheme) and scheme.targets == ["layer"] and config.ignore == ["head"]
    assert torch.equal(PackedQuantizationCompressor.decompress(made, scheme)["weight"], weight.dequantise())


def test_layers_of_one_kind_share_their_settings_and_tokens_have_their_own_scales() -> None:
    four, eight = (quantised(s) for s in (SETTINGS[-2], SETTINGS[0]))
    token = {"bits": 8, "signed": True, "multiplier": None, "shift": None, "zero_point": 0}
    config = config_of({"a": four, "b": eight, "c": four}, {"a": token, "b": token, "c": token}, [])
    first, second = config["config_groups"].values()
    assert (first["targets"], second["targets"]) == (["a", "c"], ["b"])
    assert first["input_activations"]["strategy"] == "token" and first["input_activations"]["dynamic"]
    with pytest.raises(InputError, match="b: its inputs have a static scale"):
        config_of({"b": eight}, {"b": token | {"multiplier": 3, "shift": 1}}, [])


def test_groups_that_do_not_divide_and_scales_out_of_range_are_refused() -> None:
    uneven = quantised(SETTINGS[1], shape=(8, 40))
    with pytest.raises(InputError, match="up: groups of 16 must divide the 40 inputs"):
        export_weight(uneven, "up")
    large = replace(quantised(SETTINGS[0]), scale=Scale(torch.full((32,), 65535), torch.zeros(32, dtype=torch.int64)))
    with pytest.raises(InputError, match=r"up: a scale is outside the range of torch\.float16"):
        export_weight(replace(large, group_multiplier=large.group_multiplier * 3), "up")


@pytest.mark.slow
def test_transformers_loads_an_exported_model_with_the_same_logits(tmp_path, capsys) -> None:
    pytest.importorskip("compressed_tensors", reason=REASON)
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    # version 5.24 with 0.20.1 makes unpacked zero points where it loads, and takes none that are packed
    settings = {"weight_bits": 2, "group_size": 16, "weight_symmetric": True, "activation_bits": None}
    plan = Plan((Rule(".*", **settings), Rule("lm_head", skip=True)))
    made = quant.quantize(transformers.LlamaForCausalLM(config), plan)
    save_pretrained(made, tmp_path / "packed")
    arguments = ["export", str(tmp_path / "packed"), "--format", "compressed-tensors", "--scales", "float32"]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert content["ignore"] == ["lm_head"]
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, made(ids).logits)
