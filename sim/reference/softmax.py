"""Softmax over a row of integers: a row maximum, an EXP table, an integer sum and one reciprocal for the whole row.

There are three steps for a row of at most `row_length` scores:

1. maximum = max of the valid scores
2. distance = max(score - maximum, lowest code); power = max(exp(distance), 0); total = sum of the powers
   then, once for the row, inverse = 1 / total by the normaliser
3. probability = min(round_half_up(power * inverse, shift), highest code)

Masked scores are left out of maximum and total, and their probability is 0; a row without a valid score gives zeros.
All constants are integers: the lowered EXP table, the normaliser's table and one shift.

A probability has 8 bits or 16. Rounding moves each by up to half a step, so that n equal scores sum to 1 within n/2
steps and the error of the reciprocal, which adds up to 1 + n/256 steps of 16 bits where 1/x is correctly rounded (its
codes have 15 bits). Rows of more than 128 scores need 16 bits. What lies further below the maximum
than the table's lowest code is clamped to it: at scale s, the clamped scores of a row of n weigh up to
n * exp(-128 * 2**-s), where they should weigh nothing.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range, round_half_up
from sim.reference.lowered_table import LoweredTable
from sim.reference.normaliser import Normaliser
from sim.reference.pwl import PwlTable

MAX_ROW_LENGTH = 1 << 16
PROBABILITY_BITS = (8, 16)  # signed, so that the array takes them as any activation; none is negative
NEGLIGIBLE = 1 / 128  # weight of a row's clamped scores, beside the largest score's 1


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

    `scales_for` gives the scales that suit the width of the probabilities.

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
    probability_bits : int
        Width of a probability, 8 or 16.

    Raises `InputError` with the field's name if it does not fit the others.
    """

    exp: LoweredTable
    exp_scale: int
    div: Normaliser
    row_length: int
    inverse_scale: int = 14
    probability_scale: int = 7
    score_bits: int = 16
    probability_bits: int = 8

    def __post_init__(self) -> None:
        require_range("row_length", self.row_length, 1, MAX_ROW_LENGTH)
        require_range("score_bits", self.score_bits, self.exp.in_bits, 32)
        require_probability_bits(self.probability_bits)
        require_range("inverse_scale", self.inverse_scale, 0, self.inverse_bits - 2)
        require_range("probability_scale", self.probability_scale, 0, self.probability_bits - 1)
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
    def inverse_bits(self) -> int:
        """The signed width of 1/total, which is at most 1: at the largest scale a table that overshoots has room."""
        return self.probability_bits + 8

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
        product = power + self.inverse_bits - 1
        return {
            "score": (self.score_bits, True),
            "maximum": (self.score_bits, True),
            "distance.full": (self.score_bits + 1, True),
            "distance": (self.exp.in_bits, True),
            "power": (power, False),
            "total": (self.total_bits, False),
            "inverse": (self.inverse_bits, True),
            "product": (product, False),
            "product.rounded": (max(product, self.shift) + 1, False),
            "probability": (self.probability_bits, True),
        }

    def shortfalls(self, row_length: int | None = None) -> list[str]:
        """What clamp and widths cannot serve in a row of that many scores, the most unless given; a line each."""
        found = []
        low, n = code_range(self.exp.in_bits, True)[0], self.row_length if row_length is None else row_length
        clamped = max(int(self.exp.output(np.array([low]))[0]), 0) * 2.0**-self.exp_scale * (n - 1)
        if clamped > NEGLIGIBLE:
            best = largest_scale(n, self.exp_scale, self.exp.in_bits)
            cure = f"a scale of at most {best}" if self.exp.s > best else "a table that is 0 there"
            found.append(
                f"scores {-low} steps of 2**-{self.exp.s} or more below a row's maximum are taken for {-low} steps: "
                f"{n - 1} of them weigh {clamped:.2g} beside its 1, and need {cure}"
            )
        for what, scale in (("probabilities", self.probability_scale), ("powers", self.exp_scale)):
            if n > 1 << scale:
                off = n * 2.0 ** -(scale + 1)
                found.append(f"{what} are rounded to 2**-{scale}, which over a row of {n} can add up to {off:.2g} of 1")
                break
        return found

    def compute(self, scores: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Probabilities >= 0 as int64, shape of `scores`, (..., length). `valid`: booleans that broadcast to it."""
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
        inverse = self.div.output(total, self.inverse_scale, self.inverse_bits)
        top = code_range(self.probability_bits, True)[1]
        probability = np.clip(round_half_up(power * inverse, self.shift), 0, top)
        return SoftmaxTrace(maximum, distance, power, total, inverse, probability)


def _power_bits(exp: LoweredTable) -> int:
    """Bits of a clamped power, unsigned."""
    return exp.out_bits - exp.out_signed


def total_bits_for(exp: LoweredTable, row_length: int) -> int:
    """The unsigned width that holds the sum of `row_length` of the table's largest outputs; at least 2."""
    return max((row_length * ((1 << _power_bits(exp)) - 1)).bit_length(), 2)


def require_probability_bits(bits: int) -> None:
    """Raise `InputError` unless probabilities can have so many bits."""
    if type(bits) is not int or bits not in PROBABILITY_BITS:
        raise InputError(f"probability_bits must be 8 or 16, not {bits!r}")


def scales_for(probability_bits: int) -> dict[str, int]:
    """The fields of `Softmax` for probabilities of that width, with the finest scales that it holds."""
    require_probability_bits(probability_bits)
    fields = {"inverse_scale": probability_bits + 6, "probability_scale": probability_bits - 1}
    return {**fields, "probability_bits": probability_bits}


def probability_bits_for(row_length: int) -> int:
    """The width at which that many equal scores sum to 1 within a half: 8 bits for up to 128 scores, else 16."""
    return 8 if row_length <= 128 else 16


def largest_scale(row_length: int, exp_scale: int, in_bits: int = 8) -> int:
    """The finest scale exponent of scores at which the clamped ones of a row are `NEGLIGIBLE`.

    exp is taken as correctly rounded to units of 2**-exp_scale. For a row of one score it is the finest there is.
    """
    for scale in reversed(range(in_bits)):
        power = math.floor(math.exp(-(2.0 ** (in_bits - 1 - scale))) * 2**exp_scale + 0.5)
        if power * 2.0**-exp_scale * (row_length - 1) <= NEGLIGIBLE:
            return scale
    return 0


def lower_exp(exp: PwlTable, scale: int, probability_bits: int, exp_scale: int | None = None) -> LoweredTable:
    """A table of exp for scores at 2**-scale: its powers have its own width, but 16 bits for 16-bit probabilities.

    `exp_scale` is by default the finest that width and table have.
    """
    require_probability_bits(probability_bits)
    bits = exp.out_bits if probability_bits == 8 else max(exp.out_bits, probability_bits)
    if exp_scale is None:
        exp_scale = power_scale(bits - exp.out_signed, exp.slope_frac_bits, scale)
    return replace(exp, out_bits=bits).lower(scale, exp_scale)


def power_scale(bits: int, slope_frac_bits: int, scale: int) -> int:
    """The finest scale exponent of unsigned powers of `bits` from a table with that λ, for scores at 2**-scale."""
    return min(bits, slope_frac_bits + scale)
