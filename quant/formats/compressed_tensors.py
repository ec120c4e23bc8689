"""The format "pack-quantized" of compressed-tensors (vLLM, LLM Compressor): weights and configuration, for export.

`weight_packed` int32 (out, in * bits / 32) holds unsigned codes, those of signed weights moved up by 2**(bits-1). They
are packed along the inputs, the least significant bits first, and may cross the border of two words, as in version
0.20. `weight_scale` (out, groups) is real. Asymmetric weights alone have `weight_zero_point`, int32
(out * bits / 32, groups), packed along the outputs. `weight_shape` is (out, in). w = weight_scale * (q - z).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from quant.formats.packing import pack
from quant.primitives.quantisers import QuantisedWeight
from sim.reference import InputError

WORD = 4  # bytes


class Kind(NamedTuple):
    """What layers of one group of settings share: bits, symmetry, inputs in a group, bits and symmetry of inputs."""

    bits: int
    symmetric: bool
    size: int | None
    inputs: tuple[int, bool] | None


def export_weight(weight: QuantisedWeight, name: str, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The tensors of a layer. Codes and zero points are the same integers; scales are rounded to `dtype`.

    In float32 the scales of 8-bit group multipliers, 24 bits, are exact.

    Raises
    ------
    InputError
        If a scale is outside the range of `dtype`, or groups do not divide the inputs; names the layer.
    """
    outputs, inputs = weight.codes.shape
    if weight.group_size < inputs and inputs % weight.group_size:
        raise InputError(f"{name}: groups of {weight.group_size} must divide the {inputs} inputs")
    half = 1 << (weight.bits - 1) if weight.signed else 0
    scales = (weight.group_multiplier * weight.scale.value[:, None]).to(dtype).cpu().contiguous()
    if not bool((torch.isfinite(scales) & (scales > 0)).all()):
        raise InputError(f"{name}: a scale is outside the range of {dtype}")
    made = {
        "weight_packed": _words(weight.codes.int() + half, weight.bits),
        "weight_scale": scales,
        "weight_shape": torch.tensor([outputs, inputs]),
    }
    if not weight.signed:
        made["weight_zero_point"] = _words(weight.zero_point.t(), weight.bits).t().contiguous()
    return made


def _words(codes: Tensor, bits: int) -> Tensor:
    """Unsigned codes (rows, n) as int32 (rows, ceil(n * bits / 32)), little-endian."""
    packed = pack(codes, bits, False)
    padded = functional.pad(packed, (0, -packed.shape[1] % WORD))
    return torch.from_numpy(padded.numpy().view("<i4").astype("i4"))


def config_of(
    weights: Mapping[str, QuantisedWeight], activations: Mapping[str, Mapping[str, Any] | None], ignored: Sequence[str]
) -> dict[str, Any]:
    """`quantization_config` of config.json: a group of settings for each kind of layer, by the layers' names.

    Parameters
    ----------
    weights : mapping
        Of the layers.
    activations : mapping
        How their inputs become codes, as packed.json says it; None leaves them floating point.
    ignored : sequence of str
        Layers that stay floating point.

    Raises
    ------
    InputError
        If a layer's inputs have a static scale, which is not exported.
    """
    kinds: dict[Kind, list[str]] = {}
    for name, weight in weights.items():
        given = activations.get(name)
        if given is not None and given["multiplier"] is not None:
            raise InputError(f"{name}: its inputs have a static scale; only those of each token are exported")
        inputs = None if given is None else (given["bits"], given["signed"])
        size = weight.group_size if weight.group_size < weight.codes.shape[1] else None
        kinds.setdefault(Kind(weight.bits, weight.signed, size, inputs), []).append(name)
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {f"group_{i}": _group(kind, names) for i, (kind, names) in enumerate(kinds.items())},
        "ignore": list(ignored),
    }


def _group(kind: Kind, names: list[str]) -> dict[str, Any]:
    """The settings of layers of one kind."""
    strategy = {"strategy": "channel"} if kind.size is None else {"strategy": "group", "group_size": kind.size}
    weights = {"num_bits": kind.bits, "type": "int", "symmetric": kind.symmetric, "dynamic": False, **strategy}
    found: dict[str, Any] = {"targets": names, "weights": weights}
    if kind.inputs is not None:
        bits, symmetric = kind.inputs
        found["input_activations"] = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "token",
                                      "dynamic": True}  # fmt: skip
    return found
