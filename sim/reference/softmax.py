"""Softmax over a row of integers: a row maximum, an EXP table, an integer sum and one reciprocal for the whole row.

There are three steps for a row of at most `row_length` scores:

1. maximum = max of the valid scores
2. distance = max(score - maximum, lowest code); power = max(exp(distance), 0); total = sum of the powers
   then, once for the row, inverse = 1 / total by the normaliser
3. probability = min(round_half_up(power * inverse, shift), 127)

Masked scores are left out of maximum and total, and their probability is 0; a row without a valid score gives zeros.
All constants are integers: the lowered EXP table, the normaliser's table and one shift.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.common.errors import InputError
from sim.reference.arithmetic import code_range, round_half_up
from sim.reference.normaliser import Normaliser
from sim.reference.pwl import LoweredTable, require_range

MAX_ROW_LENGTH = 1 << 16
INVERSE_BITS = 16  # 1/total is at most 1, and 2**14 in 16 signed bits leaves room for a table that overshoots
PROBABILITY_BITS = 8  # signed, so that the array takes them as any activation; 0..127 occur


class SoftmaxTrace(NamedTuple):
    """Every intermediate of a batch of rows, int64: `maximum`, `total`, `inverse` (..., 1), others (..., length)."""

    maximum: np.ndarray
    distance: np.ndarray
    power: np.ndarray
    total: np.ndarray
    inverse: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Softmax:
    """Softmax from `score_bits` signed scores at the EXP table's scale to probabilities at 2**-probability_scale.

    Parameters
    ----------
    exp : LoweredTable
        The EXP table at the scores' scale exponent, its output in units of 2**-exp_scale.
    exp_scale : int
        The scale exponent of the powers.
    div : Normaliser
        1/x of unsigned totals of `total_bits` bits (see `total_bits_for`) with `exp_scale` fraction bits.
    row_length : int
        The most scores in a row.
    inverse_scale : int
        1/total is rounded to units of 2**-inverse_scale.
    probability_scale : int
        The scale exponent of the result.
    score_bits : int
        Width of a score.

    Raises `InputError` with the field's name if it does not fit the others.
    """

    exp: LoweredTable
    exp_scale: int
    div: Normaliser
    row_length: int
    inverse_scale: int = 14
    probability_scale: int = 7
    score_bits: int = 16

    def __post_init__(self) -> None:
        require_range("row_length", self.row_length, 1, MAX_ROW_LENGTH)
        require_range("score_bits", self.score_bits, self.exp.in_bits, 32)
        require_range("inverse_scale", self.inverse_scale, 0, INVERSE_BITS - 2)
        require_range("probability_scale", self.probability_scale, 0, PROBABILITY_BITS - 1)
        if self.exp.output_shift is None or not self.exp.in_signed:
            raise InputError("exp must be lowered with an output scale, for signed codes")
        if self.div.table.function != "div":
            raise InputError(f"div must be a normaliser of div, not of {self.div.table.function!r}")
        if self.div.input_signed or self.div.input_bits != self.total_bits:
            raise InputError(
                f"div must take unsigned totals of {self.total_bits} bits, "
                f"not {'' if self.div.input_signed else 'un'}signed ones of {self.div.input_bits}"
            )
        if self.div.input_frac_bits != self.exp_scale:
            raise InputError(f"div must take {self.exp_scale} fraction bits, not {self.div.input_frac_bits}")
        if self.shift < 0:
            raise InputError(
                f"probability_scale must be at most exp_scale + inverse_scale = "
                f"{self.exp_scale + self.inverse_scale}, not {self.probability_scale}"
            )

    @property
    def shift(self) -> int:
        """The right shift that brings power * inverse to the probability's scale."""
        return self.exp_scale + self.inverse_scale - self.probability_scale

    @property
    def total_bits(self) -> int:
        """The width of the row sum."""
        return total_bits_for(self.exp, self.row_length)

    @property
    def widths(self) -> dict[str, tuple[int, bool]]:
        """(bits, signed) of each intermediate; no row up to `row_length` exceeds them.

        `distance.full` is the difference before its clamp, `product` is power * inverse, `product.rounded` is that plus
        half a unit of the result.
        """
        power = _power_bits(self.exp)
        product = power + INVERSE_BITS - 1
        return {
            "score": (self.score_bits, True),
            "maximum": (self.score_bits, True),
            "distance.full": (self.score_bits + 1, True),
            "distance": (self.exp.in_bits, True),
            "power": (power, False),
            "total": (self.total_bits, False),
            "inverse": (INVERSE_BITS, True),
            "product": (product, False),
            "product.rounded": (max(product, self.shift) + 1, False),
            "probability": (PROBABILITY_BITS, True),
        }

    def compute(self, scores: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Probabilities 0..127 as int64, shape of `scores`, (..., length). `valid`: booleans that broadcast to it."""
        return self.trace(scores, valid).probability

    def trace(self, scores: np.ndarray, valid: np.ndarray | None = None) -> SoftmaxTrace:
        """`compute`, with every intermediate. A fully masked row has the lowest score as its maximum, and total 0.

        Raises
        ------
        InputError
            The scores are not integers of `score_bits`, or a row is longer than `row_length`.
        """
        scores = np.asarray(scores)
        low, high = code_range(self.score_bits, True)
        if scores.dtype.kind not in "iu":
            raise InputError(f"scores must be integers, not {scores.dtype}")
        if scores.ndim < 1 or not 1 <= scores.shape[-1] <= self.row_length:
            raise InputError(f"a row must have 1..{self.row_length} scores, not {list(scores.shape[-1:])}")
        if scores.size and not (low <= scores.min() and scores.max() <= high):
            raise InputError(f"scores must be in {low}..{high}, not {scores.min()}..{scores.max()}")
        valid = np.broadcast_to(np.ones(1, bool) if valid is None else np.asarray(valid, bool), scores.shape)
        scores = np.where(valid, scores.astype(np.int64), low)
        maximum = scores.max(-1, keepdims=True)
        distance = np.maximum(scores - maximum, code_range(self.exp.in_bits, True)[0])
        power = np.where(valid, np.maximum(self.exp.output(distance), 0), 0)
        total = power.sum(-1, keepdims=True)
        inverse = self.div.output(total, self.inverse_scale, INVERSE_BITS)
        top = code_range(PROBABILITY_BITS, True)[1]
        probability = np.clip(round_half_up(power * inverse, self.shift), 0, top)
        return SoftmaxTrace(maximum, distance, power, total, inverse, probability)


def _power_bits(exp: LoweredTable) -> int:
    """Bits of a clamped power, unsigned."""
    return exp.out_bits - exp.out_signed


def total_bits_for(exp: LoweredTable, row_length: int) -> int:
    """The unsigned width that holds the sum of `row_length` of the table's largest outputs; at least 2."""
    return max((row_length * ((1 << _power_bits(exp)) - 1)).bit_length(), 2)
