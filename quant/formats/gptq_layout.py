"""GPTQ's layout (AutoGPTQ, GPTQModel): qweight, qzeros, scales and g_idx of a linear layer, import and export.

`qweight` int32 (in * bits / 32, out): unsigned codes packed along the inputs, the least significant bits first.
`qzeros` int32 (groups, out * bits / 32): zero points packed along the outputs; "gptq" (v1) stores z - 1, "gptq_v2" z.
`scales` (groups, out) real. `g_idx` int32 (in): each input's group. w = scales[g] * (q - z). Symmetric weights have the
zero point 2**(bits-1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant.formats.packing import pack, unpack
from quant.primitives.quantisers import QuantisedWeight
from quant.primitives.scales import Scale
from sim.reference import InputError

FORMATS = ("gptq", "gptq_v2")
BITS = (2, 3, 4, 8)
TENSORS = ("qweight", "qzeros", "scales", "g_idx")


def export_weight(
    weight: QuantisedWeight, name: str, checkpoint_format: str = "gptq_v2", dtype: torch.dtype = torch.float16
) -> dict[str, Tensor]:
    """The four tensors of a layer. Codes and zero points are the same integers; scales are rounded to `dtype`.

    In float32 the scales of 8-bit group multipliers, 24 bits, are exact. v1 cannot hold a zero point of 0.

    Raises:
        InputError: bits or shapes the layout has no room for, named by `name`.
    """
    outputs, inputs = weight.codes.shape
    if weight.bits not in BITS:
        raise InputError(f"{name}: GPTQ's layout holds {', '.join(map(str, BITS))} bits, not {weight.bits}")
    for what, count in (("inputs", inputs), ("outputs", outputs)):
        if count * weight.bits % 32:
            raise InputError(f"{name}: {what} * bits must be a multiple of 32, not {count} * {weight.bits}")
    half = 1 << (weight.bits - 1) if weight.signed else 0
    zero = weight.zero_point.t() + half - _offset(checkpoint_format)
    if int(zero.min()) < 0:
        raise InputError(f'{name}: a zero point is 0, which "gptq" (v1) cannot hold; use "gptq_v2"')
    scales = (weight.group_multiplier * weight.scale.value[:, None]).t().to(dtype).cpu().contiguous()
    if not bool((torch.isfinite(scales) & (scales > 0)).all()):
        raise InputError(f"{name}: a scale is outside the range of {dtype}")
    return {
        "qweight": _words(pack(weight.codes.int() + half, weight.bits, False)).t().contiguous(),
        "qzeros": _words(pack(zero, weight.bits, False)),
        "scales": scales,
        "g_idx": (torch.arange(inputs) // weight.group_size).int(),
    }


def import_weight(
    tensors: Mapping[str, Tensor],
    bits: int,
    name: str,
    checkpoint_format: str = "gptq",
    *,
    symmetric: bool = False,
    group_size: int | None = None,
) -> "ImportedWeight":
    """A layer's weight from its four tensors; `g_idx` may be missing if groups are consecutive.

    Codes and zero points are taken as they are. Where every zero point is 2**(bits-1) the weight becomes a signed one.
    A channel's scales become S times integer multipliers of up to 16 bits: exact for scales that `export_weight` wrote
    in float32, and if the channel's scales span at most 5 octaves of float16; else rounded, and `scale_error` says by
    how much.

    Parameters
    ----------
    tensors : Mapping
        The layer's tensors under the names `qweight`, `qzeros`, `scales` and `g_idx`.
    bits : int
        Width of a code: 2, 3, 4 or 8.
    name : str
        The layer's name, for errors.
    checkpoint_format : str
        "gptq" (v1: zero points less one) or "gptq_v2".
    symmetric : bool
        Whether the configuration says that every zero point is 2**(bits-1).
    group_size : int, optional
        That of the configuration, -1: one group; used if there is no `g_idx`.

    Raises
    ------
    InputError
        If a tensor is missing, of a wrong type or shape, groups are out of order, a scale is not positive, or the zero
        points are those of the other format.
    """
    if bits not in BITS:
        raise InputError(f"{name}: bits must be one of {', '.join(map(str, BITS))}, not {bits}")
    for key in TENSORS[:3]:
        if key not in tensors:
            raise InputError(f"{name}.{key} is missing")
    qweight, qzeros, scales = (tensors[key].cpu() for key in TENSORS[:3])
    for key in TENSORS:
        _require_type(tensors.get(key), f"{name}.{key}", key)
    inputs, outputs = qweight.shape[0] * 32 // bits, qweight.shape[1]
    groups = scales.shape[0]
    shapes = {"qweight": (inputs * bits // 32, outputs), "qzeros": (groups, outputs * bits // 32),
              "scales": (groups, outputs)}  # fmt: skip
    for key, shape in shapes.items():
        if tuple(tensors[key].shape) != shape:
            raise InputError(f"{name}.{key} must be of shape {shape}, not {tuple(tensors[key].shape)}")
    if not min(inputs, outputs, groups):
        raise InputError(f"{name}.qweight must not be empty")
    size = _group_size(tensors.get("g_idx"), inputs, groups, group_size, name)
    codes = unpack(_bytes(qweight.t().contiguous()), inputs, bits, False)
    zero = unpack(_bytes(qzeros), outputs, bits, False).t().int() + _offset(checkpoint_format)
    top = (1 << bits) - 1
    zero = torch.where(zero > top, 0, zero)  # v1: z = 0 is stored as the top code, z - 1 in `bits` bits
    half = 1 << (bits - 1)
    signed = bool((zero == half).all())
    other = 1 - 2 * _offset(checkpoint_format)  # what the other format would add
    if symmetric and not signed and bool((zero + other == half).all()):
        found = next(known for known in FORMATS if known != checkpoint_format)
        raise InputError(f'{name}.qzeros are those of "{found}", but checkpoint_format says "{checkpoint_format}"')
    if signed:
        codes, zero = (codes.int() - half).to(torch.int8), torch.zeros_like(zero)
    scale, multiplier, error = _integers(scales.t().double(), f"{name}.scales")
    weight = QuantisedWeight(codes, zero.contiguous(), multiplier.int(), scale, bits, signed, size)
    return ImportedWeight(weight, error)


@dataclass(frozen=True, eq=False)
class ImportedWeight:
    """A weight, and the largest relative change of its scales: 0.0 where they are exact."""

    weight: QuantisedWeight
    scale_error: float


def config_of(bits: int, group_size: int, symmetric: bool, checkpoint_format: str = "gptq_v2") -> dict[str, Any]:
    """`quantize_config.json`, and `quantization_config` of `config.json`; group_size -1: one per channel."""
    _offset(checkpoint_format)
    return {"quant_method": "gptq", "bits": bits, "group_size": group_size, "sym": symmetric, "desc_act": False,
            "static_groups": False, "true_sequential": True, "lm_head": False, "checkpoint_format": checkpoint_format,
            "pack_dtype": "int32"}  # fmt: skip


def _integers(real: Tensor, name: str) -> tuple[Scale, Tensor, float]:
    """S per row and multipliers for real scales (out, groups), exact where 16 bits hold them."""
    if not bool((torch.isfinite(real) & (real > 0)).all()):
        raise InputError(f"{name} must be positive and finite")
    # the largest power of two that divides every scale of the row
    mantissa, exponent = torch.frexp(real)
    odd = torch.ldexp(mantissa, torch.tensor(53)).long()
    unit = (exponent.long() - 53 + torch.log2((odd & -odd).double()).long()).amin(1)
    multiplier = torch.ldexp(real, -unit[:, None])
    # then the largest integer: the scales of an own export are products of 16 bits and a group multiplier
    counts = torch.where(multiplier < 2.0**53, multiplier, 0.0).long().numpy()
    common = torch.tensor([_below_16_bits(int(g)) for g in np.gcd.reduce(counts, axis=1)], dtype=torch.float64)
    shared = (multiplier.amax(1) >= 1 << 16) & (multiplier.amax(1) < 2.0**53) & (common < 1 << 16)
    common = torch.where(shared, common, 1.0)
    multiplier = multiplier / common[:, None]
    exact = (multiplier.amax(1) < 1 << 16) & (unit >= -47) & (torch.log2(common) + unit < 16)
    rounded = Scale.above(real.amax(1) / ((1 << 16) - 1), name)
    scale = Scale.nearest(torch.where(exact, torch.ldexp(common, unit), rounded.value), name)
    multiplier = torch.where(exact[:, None], multiplier, torch.floor(real / scale.value[:, None] + 0.5).clamp(min=1))
    error = float(((multiplier * scale.value[:, None] - real).abs() / real).max())
    return scale, multiplier, error


def _below_16_bits(number: int) -> int:
    """The largest divisor below 2**16; 1 for 0, and for numbers without one that leaves a quotient below 2**16."""
    if 0 < number < 1 << 16:
        return number
    if not 0 < number < 1 << 32:
        return 1
    quotients = np.arange(1, 1 << 16)
    found = quotients[(number % quotients == 0) & (number // quotients < 1 << 16)].tolist()
    return number // found[0] if found else 1


def _require_type(tensor: Tensor | None, name: str, key: str) -> None:
    """Raise `InputError` unless a tensor has the type and rank that the layout gives it."""
    if tensor is None:
        return
    rank = 1 if key == "g_idx" else 2
    good = tensor.is_floating_point() if key == "scales" else tensor.dtype in (torch.int32, torch.int64)
    if not good or (key in ("qweight", "qzeros") and tensor.dtype != torch.int32) or tensor.ndim != rank:
        kind = {"scales": "floating point", "g_idx": "integers"}.get(key, "int32")
        raise InputError(f"{name} must be {kind} with {rank} axes, not {tensor.dtype} with {tensor.ndim}")


def _group_size(g_idx: Tensor | None, inputs: int, groups: int, given: int | None, name: str) -> int:
    size = -(-inputs // groups)
    if g_idx is None and given is not None:
        size = inputs if given == -1 else min(given, inputs)
        if size < 1 or -(-inputs // size) != groups:
            raise InputError(f"{name}.scales must have a row for each group of {given} inputs, not {groups} rows")
    if g_idx is not None:
        if tuple(g_idx.shape) != (inputs,):
            raise InputError(f"{name}.g_idx must be of shape {(inputs,)}, not {tuple(g_idx.shape)}")
        size = int((g_idx == g_idx[0]).sum())
        if not torch.equal(g_idx.cpu().long(), torch.arange(inputs) // size) or -(-inputs // size) != groups:
            raise InputError(f"{name}.g_idx must be {groups} groups of consecutive inputs (desc_act false)")
    return size


def _words(packed: Tensor) -> Tensor:
    """Bytes (rows, 4n) as little-endian int32 (rows, n)."""
    return torch.from_numpy(packed.numpy().view(np.dtype("<i4")).astype(np.int32))


def _bytes(words: Tensor) -> Tensor:
    return torch.from_numpy(words.contiguous().numpy().astype(np.dtype("<i4")).view(np.uint8))


def _offset(checkpoint_format: str) -> int:
    """What the format takes off a zero point."""
    if checkpoint_format not in FORMATS:
        raise InputError(f"checkpoint_format must be one of {', '.join(FORMATS)}, not {checkpoint_format!r}")
    return int(checkpoint_format == "gptq")
