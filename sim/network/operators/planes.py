"""Weights of more than 8 bits as a sum of int8 matrices, laid out for one product with the activations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sim.network.operators.exact_gemm import Weight

COLUMNS = 768  # of a product at once: with some hundred rows, sums and weights stay in a core's cache


def digits(values: Tensor) -> list[Tensor]:
    """Integers as int8 tensors d_0, d_1, ... of the same shape with values = d_0 + 2**8 d_1 + 2**16 d_2 + ..."""
    rest, found = values.long(), []
    while not found or bool(rest.any()):
        digit = rest.to(torch.int8)  # the low 8 bits, signed
        found.append(digit)
        rest = (rest - digit) >> 8
    return found


class Planes:
    """`weight`, int8 (planes * N, K): strips of `strip` outputs, in each its digits one below the other.

    A strip is `COLUMNS` wide, so that a product of some strips has all digits of their outputs.
    """

    def __init__(self, digits: Sequence[Tensor]) -> None:
        self.count, self.outputs = len(digits), len(digits[0])
        self.strip = max(1, COLUMNS // self.count)
        firsts = range(0, self.outputs, self.strip)
        self.weight = Weight(torch.cat([digit[first : first + self.strip] for first in firsts for digit in digits]))

    def product(self, activations: Tensor) -> list[Tensor]:
        """The products of int8 (..., K) with each plane, int32 (..., N)."""
        strips = self.weight.product(activations).split(self.count * self.strip, -1)
        apart = [strip.unflatten(-1, (self.count, -1)) for strip in strips]
        return [*torch.cat(apart, -1).unbind(-2)]
