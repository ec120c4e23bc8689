"""The matrix product with grouped weights: integers in, integer codes out, exact up to the one rounding at its end.

A group is `group` consecutive inputs of one output channel; the last group is shorter if `group` does not divide the
inputs.

psum_g = sum of (w - z_g) * a over the group's inputs       (computed as sum w*a - z_g * sum a)
A      = bias + sum over g of m_g * psum_g
y      = saturate(round_half_up(A * m_c * 2**-k_c) + z_out)

Symmetric signed weights (z = 0) are those of ZeroQuant [1]_, unsigned ones with zero points those of EfficientQAT [2]_.
Integer group multipliers m_g keep the groups in one integer accumulator.

References
----------
.. [1] Yao et al., "ZeroQuant", arXiv:2206.01861.
.. [2] Chen et al., "EfficientQAT", arXiv:2407.11062.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range
from sim.reference.requant import requantise

WEIGHT_BITS = (2, 3, 4, 8)  # of the arrays; a layer here takes any width in 2..8
ACTIVATION_BITS = (4, 8)
GROUP_MULTIPLIER_BITS = 16  # the widest m_g
Range = tuple[int, int]  # smallest and largest value, both included


def times(a: Range, b: Range) -> Range:
    """The smallest and the largest product of a value of `a` and a value of `b`."""
    products = [x * y for x in a for y in b]
    return min(products), max(products)


def signed_bits(values: Range) -> int:
    """The bits of the narrowest two's complement integer that holds all of `values`."""
    low, high = values
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0) + 1


def weight_range(bits: int, signed: bool) -> Range:
    """The range of w - z: signed codes, or unsigned codes less any zero point."""
    return code_range(bits, True) if signed else (1 - (1 << bits), (1 << bits) - 1)


def accumulator_range(
    inputs: int,
    weight_bits: int,
    weight_signed: bool = True,
    activation_bits: int = 8,
    group_multiplier_bits: int = 0,
    bias: Range = (0, 0),
) -> Range:
    """The smallest and the largest accumulator A over all weights and activations.

    The bound is tight: both ends are reached. It holds for every partial sum as well if the range of the bias contains
    0, because each term can be 0.

    Parameters
    ----------
    inputs : int
        K, the number of inputs.
    weight_bits, activation_bits : int
        Widths in bits; activations are signed.
    weight_signed : bool
        False for unsigned weights with zero points.
    group_multiplier_bits : int
        Width of m_g; 0 if every m_g is 1.
    bias : tuple of int
        Smallest and largest bias.
    """
    products = times(weight_range(weight_bits, weight_signed), code_range(activation_bits, True))
    low, high = times(products, (0, (1 << group_multiplier_bits) - 1 if group_multiplier_bits else 1))
    return inputs * min(low, 0) + bias[0], inputs * max(high, 0) + bias[1]


def group_borders(inputs: int, group: int | None) -> list[Range]:
    """(first, end) of each group; one group if `group` is None (per channel)."""
    size = inputs if group is None else group
    return [(first, min(first + size, inputs)) for first in range(0, inputs, size)]


@dataclass(frozen=True, eq=False)
class GroupedLinear:
    """A linear layer of N outputs and K inputs in integers, in G groups.

    Arrays may have any integer type and are kept as int64. Layers are compared by identity.

    Parameters
    ----------
    weights : (N, K) integers
        Codes of `weight_bits`.
    bias : (N,) integers
        In units of A.
    multiplier, shift : (N,) integers
        m_c, unsigned 16 bits, and k_c in 0..47.
    weight_bits : int
        2, 3, 4 or 8.
    weight_signed : bool
        Only unsigned weights may have zero points.
    activation_bits : int
        4 or 8.
    group : int or None
        Inputs of a group; None for one group per channel.
    zero_points, group_multipliers : (N, G) integers or None
        z_g and m_g; None if every z_g is 0, or every m_g is 1.
    zero_point : int
        z_out.
    out_bits, out_signed : int, bool
        The output code.

    Raises
    ------
    InputError
        A field is outside its range or shape, or A could need more than 62 bits.

    References
    ----------
    ZeroQuant, arXiv 2206.01861; EfficientQAT, arXiv 2407.11062.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    weight_bits: int = 8
    weight_signed: bool = True
    activation_bits: int = 8
    group: int | None = None
    zero_points: np.ndarray | None = None
    group_multipliers: np.ndarray | None = None
    zero_point: int = 0
    out_bits: int = 8
    out_signed: bool = True

    def __post_init__(self) -> None:
        require_range("weight_bits", self.weight_bits, min(WEIGHT_BITS), max(WEIGHT_BITS))
        if type(self.activation_bits) is not int or self.activation_bits not in ACTIVATION_BITS:
            raise InputError(f"activation_bits must be 4 or 8, not {self.activation_bits!r}")
        if self.group is not None:
            require_range("group", self.group, 1, 1 << 16)
        if not isinstance(self.weights, np.ndarray):
            raise InputError(f"weights must be an array, not {type(self.weights).__name__}")
        if self.weights.ndim != 2 or not self.weights.size:
            raise InputError(f"weights must be (outputs, inputs), not {list(self.weights.shape)}")
        if self.weight_signed and self.zero_points is not None:
            raise InputError("zero_points must not be given for signed weights")
        n, groups = self.outputs, len(group_borders(self.inputs, self.group))
        limits: Mapping[str, tuple[tuple[int, ...], Range]] = {
            "weights": (self.weights.shape, code_range(self.weight_bits, self.weight_signed)),
            "bias": ((n,), (-(1 << INT64_SAFE_BITS), 1 << INT64_SAFE_BITS)),
            "multiplier": ((n,), (0, (1 << 16) - 1)),
            "shift": ((n,), (0, 47)),
            "zero_points": ((n, groups), (0, (1 << self.weight_bits) - 1)),
            "group_multipliers": ((n, groups), (0, (1 << GROUP_MULTIPLIER_BITS) - 1)),
        }
        for name, (shape, bounds) in limits.items():
            if name not in ("zero_points", "group_multipliers") or getattr(self, name) is not None:
                object.__setattr__(self, name, _checked(name, getattr(self, name), shape, bounds))
        require_range("zero_point", self.zero_point, *code_range(self.out_bits, self.out_signed))
        if signed_bits(self.bound) > INT64_SAFE_BITS:
            raise InputError(f"A must fit {INT64_SAFE_BITS} bits, but can reach {max(self.bound, key=abs)}")

    @property
    def outputs(self) -> int:
        """N."""
        return self.weights.shape[0]

    @property
    def inputs(self) -> int:
        """K."""
        return self.weights.shape[1]

    @cached_property
    def bound(self) -> Range:
        """The smallest and the largest A that these weights can give for any activations of `activation_bits`."""
        low_code, high_code = code_range(self.activation_bits, True)
        terms = (self.weights - self._per_input(self.zero_points, 0)) * self._per_input(
            self.group_multipliers, 1
        )  # at most 25 bits each, sign included
        positive, negative = (part.sum(1).astype(object) for part in (np.maximum(terms, 0), np.minimum(terms, 0)))
        low = positive * low_code + negative * high_code + self.bias.astype(object)
        high = positive * high_code + negative * low_code + self.bias.astype(object)
        return int(low.min()), int(high.max())

    def check_activations(self, activations: np.ndarray) -> np.ndarray:
        """The activations as int64. Raises `InputError` unless they are (M, K) codes."""
        if not isinstance(activations, np.ndarray) or activations.ndim != 2:
            what = list(activations.shape) if isinstance(activations, np.ndarray) else type(activations).__name__
            raise InputError(f"activations must be an array of (tokens, {self.inputs}), not {what}")
        shape = (len(activations), self.inputs)
        return _checked("activations", activations, shape, code_range(self.activation_bits, True))

    def accumulate(self, activations: np.ndarray) -> np.ndarray:
        """A (M, N), int64, for the activations (M, K), signed codes of `activation_bits`."""
        a, w = self.check_activations(activations), self.weights
        total = np.zeros((len(a), self.outputs), dtype=np.int64) + self.bias
        for g, (first, end) in enumerate(group_borders(self.inputs, self.group)):
            psum = a[:, first:end] @ w[:, first:end].T
            if self.zero_points is not None:
                psum -= a[:, first:end].sum(1)[:, None] * self.zero_points[:, g]
            total += psum if self.group_multipliers is None else psum * self.group_multipliers[:, g]
        return total

    def output(self, activations: np.ndarray) -> np.ndarray:
        """The codes y (M, N), int64, for the activations (M, K)."""
        total = self.accumulate(activations)
        return requantise(total, self.multiplier, self.shift, self.zero_point, self.out_bits, self.out_signed)

    def _per_input(self, values: np.ndarray | None, otherwise: int) -> np.ndarray:
        """Values per group (N, G), repeated for each input (N, K), int64; `otherwise` if there are none."""
        if values is None:
            return np.full((1, 1), otherwise, dtype=np.int64)
        sizes = [end - first for first, end in group_borders(self.inputs, self.group)]
        return np.repeat(values, sizes, axis=1)


def _checked(name: str, values: np.ndarray, shape: tuple[int, ...], bounds: Range) -> np.ndarray:
    """The values as int64, so that sums are exact for any integer type."""
    if not isinstance(values, np.ndarray):
        raise InputError(f"{name} must be an array, not {type(values).__name__}")
    if values.dtype.kind not in "iu":
        raise InputError(f"{name} must be integers, not {values.dtype}")
    if values.shape != shape:
        raise InputError(f"{name} must have shape {list(shape)}, not {list(values.shape)}")
    if values.size:
        require_range(name, int(values.min()), *bounds)
        require_range(name, int(values.max()), *bounds)
    return values.astype(np.int64, copy=False)
