"""LayerNorm and RMSNorm in integers: `sim.reference.norm` on tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sim.network.operators import kernels
from sim.network.operators.arithmetic import blockwise, code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.modules import require_type
from sim.network.operators.recording import Seen, joined, require_fitted, require_same
from sim.network.operators.storage import Reader, Writer, label
from sim.network.operators.tables import EXACT, TensorNormaliser, normaliser
from sim.reference import InputError, PwlTable
from sim.reference import Norm as NormSpecification
from sim.reference.norm import BIAS_BITS, GAIN_BITS, MAX_SHIFT, NORMAL_BITS, normal_frac_bits_for, spread_bits_for
from sim.vectors.normaliser import normaliser_set
from sim.vectors.rowwise import norm_set
from sim.vectors.vector_set import VectorSet


class TransformersRMSNorm(nn.Module):
    """The RMSNorm of transformers with the attributes of PyTorch's; the gain is read from the module each time."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    @property
    def weight(self) -> Tensor:
        """The gain (N,)."""
        return self.module.weight

    @property
    def eps(self) -> float:
        """The number that is added to the mean square."""
        return self.module.variance_epsilon

    @property
    def normalized_shape(self) -> tuple[int, ...]:
        """The axes that the norm is over, (N,)."""
        return tuple(self.weight.shape)


CENTRING = {nn.LayerNorm: True, nn.RMSNorm: False, TransformersRMSNorm: False}


class Norm(Operator):
    """LayerNorm of an `nn.LayerNorm`, RMSNorm of an `nn.RMSNorm` or a `TransformersRMSNorm`, on 16-bit codes.

    It is over the last axis.
    """

    kind = "norm"
    functions = ("rsqrt",)
    gain: Tensor
    bias: Tensor

    def __init__(self, name: str, layer: nn.LayerNorm | nn.RMSNorm | TransformersRMSNorm | None) -> None:
        super().__init__(name)
        self.layer = layer
        self.specification: NormSpecification | None = None
        self.table: PwlTable | str = EXACT

    @property
    def plan_names(self) -> list[str]:
        return [self.name]

    @property
    def trainable(self) -> bool:
        return self.layer is not None

    def claims(self) -> Mapping[str, nn.Module]:
        assert self.layer is not None
        require_type(self.name, self.layer, *CENTRING)
        if len(self.layer.normalized_shape) != 1:
            raise InputError(f"{self.name}: a norm over several axes has no integer operator")
        return {self.name: self.layer}

    @property
    def centring(self) -> bool:
        """Whether the mean is taken off: true for LayerNorm."""
        return self.specification.centring if self.layer is None else CENTRING[type(self.layer)]  # pyright: ignore

    @property
    def eps(self) -> float:
        """The epsilon of the layer; PyTorch's default is that of float32."""
        assert self.layer is not None
        eps = self.layer.eps
        return torch.finfo(torch.float32).eps if eps is None else eps

    def real(self, x: Tensor) -> Tensor:
        assert self.layer is not None
        if self.centring:
            return functional.layer_norm(x, x.shape[-1:], self.layer.weight, self.layer.bias, self.eps)  # pyright: ignore
        return functional.rms_norm(x, list(x.shape[-1:]), self.layer.weight, self.eps)

    def integer(self, x: Tensor) -> Tensor:
        spec, rsqrt = self.specification, self.rsqrt
        assert spec is not None
        if kernels.usable(x):
            return kernels.norm(x, self.constants, spec.out_bits)
        n = spec.length

        def rows(x: Tensor) -> Tensor:
            wide = x.long()
            total = wide.sum(-1, keepdim=True) if spec.centring else torch.zeros_like(wide[..., :1])
            spread = n * (wide * wide).sum(-1, keepdim=True) - total * total + spec.epsilon
            acc, exponent = rsqrt.evaluate(spread)
            right = spec.right_shift - exponent
            left, right = (-right).clamp(min=0), right.clamp(min=0)
            normal = (wide * n).sub_(total).mul_(acc << left)
            saturate_(round_half_up_(normal, right), NORMAL_BITS)
            return saturate_(round_half_up_(normal.mul_(self.gain).add_(self.bias), spec.shift), spec.out_bits)

        return blockwise(rows, code_type(spec.out_bits), x)

    def quantise(self, input: Grid, output: Grid, table: PwlTable | str) -> None:
        """Gain and bias as integers of the largest common scale that fits, and the table (or "exact") of rsqrt."""
        assert self.layer is not None
        weight, bias = self.layer.weight, getattr(self.layer, "bias", None)
        n = self.layer.normalized_shape[-1]
        scale = float(output.scale)
        gain = (torch.ones(n) if weight is None else weight.detach()).double() / scale
        offset = (torch.zeros(n) if bias is None else bias.detach()).double() / scale
        frac = normal_frac_bits_for(n)

        def integers(shift: int) -> tuple[Tensor, Tensor]:
            return torch.floor(gain * 2.0 ** (shift - frac) + 0.5).long(), torch.floor(offset * 2.0**shift + 0.5).long()

        def fits(shift: int) -> bool:
            pairs = zip(integers(shift), (GAIN_BITS, BIAS_BITS), strict=True)
            return all(int(values.abs().max()) < 1 << (bits - 1) for values, bits in pairs)

        shift = max((s for s in range(MAX_SHIFT + 1) if fits(s)), default=0)
        gains, biases = integers(shift)
        epsilon = min(max(round(self.eps * (n / float(input.scale)) ** 2), 1), 1 << 48)
        rsqrt = normaliser("rsqrt", table, spread_bits_for(n, epsilon), 0)
        self.specification = NormSpecification(
            tuple(gains.tolist()), tuple(biases.tolist()), shift, epsilon, rsqrt, self.centring, 16, output.bits
        )  # fmt: skip
        self.table = table
        self._attach()
        self.finish((input,), (output,))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(), site.covering(), site.table(self.name, "rsqrt"))

    def recode(self) -> None:
        self.quantise(self.inputs[0], self.outputs[0], self.table)

    def _attach(self) -> None:
        assert self.specification is not None
        self.register_buffer("gain", torch.tensor(self.specification.gain), persistent=False)
        self.register_buffer("bias", torch.tensor(self.specification.bias), persistent=False)
        self.rsqrt = TensorNormaliser(self.specification.rsqrt)
        self.constants = kernels.NormConstants.of(self.specification)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        spec = self.specification
        assert spec is not None
        for key in ("gain", "bias"):
            writer.tensor(key, torch.tensor(getattr(spec, key)))
        numbers = writer.normaliser("rsqrt", spec.rsqrt)
        return {"centring": spec.centring, "shift": spec.shift, "epsilon": spec.epsilon, "out_bits": spec.out_bits,
                "normaliser": numbers}  # fmt: skip

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], None)
        gain, bias = (tuple(reader.tensor(key).tolist()) for key in ("gain", "bias"))
        rsqrt = reader.normaliser("rsqrt", row["name"], row["normaliser"])
        operator.specification = NormSpecification(
            gain, bias, row["shift"], row["epsilon"], rsqrt, row["centring"], 16, row["out_bits"]
        )
        operator._attach()
        return operator

    def formats(self) -> dict[str, Any]:
        assert self.specification is not None
        return {**super().formats(), "tables": {"rsqrt": label(self.specification.rsqrt.lowered)}}

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        sets = []
        for unit, centring in (("layernorm", True), ("rmsnorm", False)):
            chosen = [operator for operator in operators if operator.centring == centring]
            sets += _unit_sets(f"{name}-{unit}", chosen, seen, source) if chosen else []
        return sets


def _unit_sets(name: str, operators: Sequence[Norm], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
    """The rows of one unit, a load for each norm, and what reaches their normalisers."""
    loads, spreads = [], []
    for operator in operators:
        spec = operator.specification
        assert spec is not None
        require_fitted(operator.name, spec.rsqrt.lowered)
        for (codes,), result in seen[operator.name]:
            trace = spec.trace(codes.numpy())
            require_same(operator.name, trace.output, result.numpy())
            spreads.append((spec.rsqrt, trace.spread.ravel()))
        loads.append((spec, joined([(codes.numpy().astype(np.int64), None) for (codes,), _ in seen[operator.name]])))
    widest = max((spec for spec, _ in loads), key=lambda spec: spec.epsilon)
    unit = max((normaliser for normaliser, _ in spreads), key=lambda normaliser: normaliser.input_bits)
    where = {**source, "sites": [operator.name for operator in operators]}
    return [
        norm_set(name, loads, where, widest),
        normaliser_set(f"{name}-rsqrt", unit, np.concatenate([v for _, v in spreads]), where),
    ]
