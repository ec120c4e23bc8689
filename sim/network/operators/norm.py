"""LayerNorm and RMSNorm in integers: `sim.reference.norm` on tensors."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sim.network.operators.arithmetic import blockwise, code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator
from sim.network.operators.tables import EXACT, TensorNormaliser, normaliser
from sim.reference import Norm as NormSpecification
from sim.reference import PwlTable
from sim.reference.norm import BIAS_BITS, GAIN_BITS, MAX_SHIFT, NORMAL_BITS, normal_frac_bits_for, spread_bits_for


class Norm(Operator):
    """LayerNorm of an `nn.LayerNorm`, RMSNorm of an `nn.RMSNorm`, over the last axis of 16-bit codes."""

    kind = "norm"
    gain: Tensor
    bias: Tensor

    def __init__(self, name: str, layer: nn.LayerNorm | nn.RMSNorm) -> None:
        super().__init__(name)
        self.layer = layer
        self.specification: NormSpecification | None = None
        self.table: PwlTable | str = EXACT

    @property
    def centring(self) -> bool:
        return isinstance(self.layer, nn.LayerNorm)

    @property
    def eps(self) -> float:
        eps = self.layer.eps
        return torch.finfo(torch.float32).eps if eps is None else eps

    def real(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.LayerNorm):
            return functional.layer_norm(x, x.shape[-1:], self.layer.weight, self.layer.bias, self.eps)
        return functional.rms_norm(x, list(x.shape[-1:]), self.layer.weight, self.eps)

    def integer(self, x: Tensor) -> Tensor:
        spec, rsqrt = self.specification, self.rsqrt
        assert spec is not None
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
        self.inputs, self.outputs, self.table = (input,), (output,), table
        self.attach()
        self.settle()

    def recode(self) -> None:
        self.quantise(self.inputs[0], self.outputs[0], self.table)

    def attach(self) -> None:
        """Make the tensors of the specification."""
        assert self.specification is not None
        self.register_buffer("gain", torch.tensor(self.specification.gain))
        self.register_buffer("bias", torch.tensor(self.specification.bias))
        self.rsqrt = TensorNormaliser(self.specification.rsqrt)
