"""GPTQ's layout: an unpacker written from its description alone reads equal weights, and what is read comes back."""

import dataclasses

import numpy as np
import pytest
import torch

from quant.formats.gptq_layout import export_weight, import_weight
from quant.formats.packed import weight_tensors
from quant.plan import Settings
from quant.primitives.quantisers import quantise_weight
from sim.reference import InputError
from tests.quant.models import SETTINGS, quantised, same

CASES = [s for s in SETTINGS if s.weight_granularity != "tensor"]


def three_bits(words: np.ndarray) -> np.ndarray:
    """32 values of three 32-bit words (..., 3), with AutoGPTQ's shifts: two values straddle the words."""
    w0, w1, w2 = (words[..., i].astype(np.uint32)[..., None] for i in range(3))
    first = (w0 >> np.arange(0, 30, 3, dtype=np.uint32)) & 7
    straddle = (w0 >> 30) | ((w1 & 1) << 2)
    second = (w1 >> np.arange(1, 31, 3, dtype=np.uint32)) & 7
    straddle2 = (w1 >> 31) | ((w2 & 3) << 1)
    third = (w2 >> np.arange(2, 32, 3, dtype=np.uint32)) & 7
    return np.concatenate([first, straddle, second, straddle2, third], -1)


def values(words: np.ndarray, bits: int) -> np.ndarray:
    """Unpack the last axis."""
    if bits == 3:
        return three_bits(words.reshape(*words.shape[:-1], -1, 3)).reshape(*words.shape[:-1], -1)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return ((words.astype(np.uint32)[..., None] >> shifts) & ((1 << bits) - 1)).reshape(*words.shape[:-1], -1)


def unpacked(tensors: dict[str, torch.Tensor], bits: int, offset: int) -> np.ndarray:
    """The real weights (out, in), float64: scales[g] * (q - z)."""
    q = values(tensors["qweight"].numpy().T, bits).astype(np.int64)
    z = values(tensors["qzeros"].numpy(), bits).astype(np.int64) + offset
    group = tensors["g_idx"].numpy()
    return (q - z[group].T) * tensors["scales"].double().numpy()[group].T


@pytest.mark.parametrize("settings", CASES, ids=lambda s: f"{s.weight_bits}-{s.weight_symmetric}-{s.group_size}")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_independent_unpacker_reads_equal_weights(settings, dtype):
    weight = quantised(settings)
    tensors = export_weight(weight, "layer", "gptq_v2", dtype)
    assert all(tensors[key].dtype == torch.int32 for key in ("qweight", "qzeros", "g_idx"))
    real = unpacked(tensors, settings.weight_bits, 0)
    steps = (weight.group_multiplier * weight.scale.value[:, None]).to(dtype).double()
    expected = (weight.codes.int() - weight.spread(weight.zero_point)) * weight.spread(steps)
    assert np.array_equal(real, expected.numpy())
    if dtype == torch.float32:  # 24 bits hold an 8-bit group multiplier times a 16-bit m
        assert np.array_equal(real, weight.dequantise(torch.float64).numpy())


@pytest.mark.parametrize("settings", [s for s in CASES if s.weight_symmetric], ids=lambda s: f"{s.weight_bits}")
def test_v1_stores_one_less(settings):
    weight = quantised(settings)
    old, new = (export_weight(weight, "layer", version) for version in ("gptq", "gptq_v2"))
    half, bits = 1 << (settings.weight_bits - 1), settings.weight_bits
    assert np.array_equal(unpacked(old, bits, 1), unpacked(new, bits, 0))
    assert (values(old["qzeros"].numpy(), bits) == half - 1).all() and (
        values(new["qzeros"].numpy(), bits) == half
    ).all()


def test_symmetric_zero_points_are_the_words_known_from_released_checkpoints():
    for bits, word in ((4, 0x77777777), (8, 0x7F7F7F7F), (2, 0x55555555)):
        tensors = export_weight(quantised(Settings(weight_bits=bits)), "layer", "gptq")
        assert (tensors["qzeros"] == word).all()


@pytest.mark.parametrize("settings", CASES, ids=lambda s: f"{s.weight_bits}-{s.weight_symmetric}-{s.group_size}")
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_what_is_exported_comes_back_with_the_same_codes_and_real_weights(settings, version):
    weight = quantised(settings)
    if version == "gptq" and not settings.weight_symmetric:
        weight = dataclasses.replace(weight, zero_point=weight.zero_point.clamp(min=1))
    tensors = export_weight(weight, "layer", version)
    back = import_weight(tensors, settings.weight_bits, "layer", version)
    assert back.scale_error == 0 and back.weight.group_size == weight.group_size
    assert torch.equal(back.weight.codes, weight.codes) and torch.equal(back.weight.zero_point, weight.zero_point)
    real = unpacked(tensors, settings.weight_bits, version == "gptq")
    assert np.array_equal(back.weight.dequantise(torch.float64).numpy(), real)
    again = import_weight(export_weight(back.weight, "layer", version), settings.weight_bits, "layer", version)
    assert same(again.weight, back.weight)


def test_scales_too_far_apart_are_rounded_and_it_is_said():
    weight = quantised(Settings(weight_bits=4, weight_granularity="group", group_size=16))
    tensors = export_weight(weight, "layer")
    tensors["scales"][0] *= 2.0**-9
    back = import_weight(tensors, 4, "layer", "gptq_v2")
    assert 0 < back.scale_error < 0.01
    real = unpacked(tensors, 4, 0)
    assert np.allclose(back.weight.dequantise(torch.float64).numpy(), real, rtol=back.scale_error * 1.001, atol=0)


def test_groups_that_are_consecutive_need_no_g_idx_and_others_are_refused():
    weight = quantised(Settings(weight_bits=4, weight_granularity="group", group_size=16))
    tensors = export_weight(weight, "layer")
    without = {key: value for key, value in tensors.items() if key != "g_idx"}
    assert same(
        import_weight(without, 4, "layer", "gptq_v2").weight, import_weight(tensors, 4, "layer", "gptq_v2").weight
    )
    tensors["g_idx"] = tensors["g_idx"].flip(0)
    with pytest.raises(InputError, match=r"^layer\.g_idx must be 4 groups of consecutive inputs"):
        import_weight(tensors, 4, "layer")


@pytest.mark.parametrize("change, message", [
    (lambda t: t.pop("qzeros"), "layer.qzeros is missing"),
    (lambda t: t.update(qzeros=t["qzeros"][:, 1:]), "layer.qzeros must be of shape (4, 4), not (4, 3)"),
    (lambda t: t.update(scales=t["scales"][:, 1:]), "layer.scales must be of shape (4, 32), not (4, 31)"),
    (lambda t: t.update(g_idx=t["g_idx"][1:]), "layer.g_idx must be of shape (64,), not (63,)"),
    (lambda t: t["scales"].fill_(float("nan")), "layer.scales must be positive and finite"),
])  # fmt: skip
def test_a_layer_at_fault_is_one_line_with_its_tensor(change, message):
    tensors = export_weight(quantised(Settings(weight_bits=4, weight_granularity="group", group_size=16)), "layer")
    change(tensors)
    with pytest.raises(InputError) as error:
        import_weight(tensors, 4, "layer")
    assert message in str(error.value)


def test_what_the_layout_cannot_hold_is_refused_by_name():
    with pytest.raises(InputError, match=r"^layer: GPTQ's layout holds 2, 3, 4, 8 bits, not 5"):
        export_weight(quantised(Settings(weight_bits=5)), "layer")
    with pytest.raises(InputError, match=r"^layer: inputs \* bits must be a multiple of 32, not 60 \* 4"):
        export_weight(quantised(Settings(weight_bits=4), shape=(32, 60)), "layer")
    weight = quantised(Settings(weight_bits=4, weight_symmetric=False))
    with pytest.raises(InputError, match=r'^layer: a zero point is 0, which "gptq" \(v1\) cannot hold'):
        export_weight(dataclasses.replace(weight, zero_point=torch.zeros_like(weight.zero_point)), "layer", "gptq")
    with pytest.raises(InputError, match="checkpoint_format must be one of gptq, gptq_v2, not 'marlin'"):
        export_weight(weight, "layer", "marlin")


def test_2_bits_in_groups_of_64_take_2_28_bits_a_weight_at_the_widths_of_smollm2() -> None:
    for outputs, inputs in ((192, 576), (1536, 576), (576, 1536)):
        settings = Settings(weight_bits=2, weight_symmetric=False, weight_granularity="group", group_size=64)
        weight = quantise_weight(torch.randn(outputs, inputs), settings)
        made = export_weight(weight, "layer")
        bits = 8 * sum(made[key].nbytes for key in ("qweight", "qzeros", "scales")) / (outputs * inputs)
        assert bits == 2.28125  # scales of 16 bits; ours are 8 in a group and 24 in a channel:
        own = 8 * sum(tensor.nbytes for tensor in weight_tensors(weight).values()) / (outputs * inputs)
        assert own == pytest.approx(2 + 10 / 64 + 24 / inputs, abs=0.02)
