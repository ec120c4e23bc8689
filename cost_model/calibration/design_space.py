"""The design space in which the analytical model is calibrated and tested, sampled with a seed.

A point is a unit's name and its parameters, which is all that the model sees; `design` builds the design. Formats of
floating point are given by their exponent and fraction bits. Each unit of `cost_model.analytical.units` that is sampled
has one class here.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from cost_model.analytical import units
from cost_model.designs.design import Design, PwlOptions, float_design, pwl_design
from cost_model.designs.normaliser import normaliser_design
from cost_model.designs.processing_element import float_element, integer_element, requant_design
from sim.common.errors import require_range
from sim.reference.floating import FP32, FloatFormat

Point = dict[str, Any]
ONE_WIDTH = (4, 5, 6, 7, 8, 8, 8, 9, 10, 12, 14, 16, 16, 24, 32)  # the headline's 8, 16 and 32 bits among them
NARROW, WIDE = (4, 5, 6, 7, 8), (10, 11, 12, 13, 14, 15, 16)
ENTRIES = (2, 3, 4, 5, 6, 8, 8, 10, 12, 16)
FORMATS = ((5, 10), (8, 7), (6, 9), (5, 7), (8, 10), (6, 12), (8, 23))
BEATS = 2048  # of a design's work, when many designs are measured


class Space:
    """The part of the space for one unit: `share` of 20 points, drawn by `draw`."""

    unit: ClassVar[type[units.Unit]]
    share: ClassVar[int]

    def draw(self, rng: np.random.Generator) -> Point:
        """The parameters of one unit."""
        raise NotImplementedError

    def design(self, **parameters: Any) -> Design:
        """The design of these parameters."""
        raise NotImplementedError


class PwlSpace(Space):
    unit, share = units.Pwl, 9

    def draw(self, rng: np.random.Generator) -> Point:
        if rng.random() < 0.4:  # one width, as in the reference unit
            in_bits = coef_bits = out_bits = _choice(rng, ONE_WIDTH)
        else:
            in_bits, coef_bits, out_bits = (_choice(rng, _choice(rng, (NARROW, WIDE))) for _ in range(3))
        return {
            "entries": _choice(rng, ENTRIES),
            "in_bits": in_bits,
            "coef_bits": coef_bits,
            "out_bits": out_bits,
            "stages": _choice(rng, (1, 1, 2, 2, 3, 4, 5, 6, 7)),
            "storage": _choice(rng, ("flops", "flops", "latches")),
        }

    def design(self, **parameters: Any) -> Design:
        return pwl_design(PwlOptions(**parameters))


class FloatPwlSpace(Space):
    unit, share = units.FloatPwl, 3

    def draw(self, rng: np.random.Generator) -> Point:
        exponent, fraction = _choice(rng, FORMATS)
        storage = _choice(rng, ("flops", "flops", "latches"))
        entries = int(_choice(rng, ENTRIES))
        return {
            "exponent_bits": exponent,
            "fraction_bits": fraction,
            "entries": entries,
            "stages": int(rng.integers(2, 12)),
            "storage": storage,
        }

    def design(self, *, exponent_bits: int, fraction_bits: int, **parameters: Any) -> Design:
        return float_design(FloatFormat(exponent_bits, fraction_bits), **parameters)


class ProcessingElementSpace(Space):
    unit, share = units.ProcessingElement, 2

    def draw(self, rng: np.random.Generator) -> Point:
        return {
            "rows": _choice(rng, (4, 8, 16, 32, 64)),
            "weight_bits": _choice(rng, (2, 3, 4, 8)),
            "activation_bits": _choice(rng, (4, 8)),
        }

    def design(self, **parameters: Any) -> Design:
        return integer_element(**parameters)


class FloatProcessingElementSpace(Space):
    unit, share = units.FloatProcessingElement, 2

    def draw(self, rng: np.random.Generator) -> Point:
        exponent, fraction = _choice(rng, FORMATS)
        wide = exponent + fraction <= 16 and exponent < 8 and fraction <= 10 and bool(rng.random() < 0.5)
        stages = int(rng.integers(2, 9 - wide))
        return {"exponent_bits": exponent, "fraction_bits": fraction, "wide_sum": wide, "stages": stages}

    def design(self, *, exponent_bits: int, fraction_bits: int, **parameters: Any) -> Design:
        number = FloatFormat(exponent_bits, fraction_bits)
        summed = FP32 if parameters["wide_sum"] else number
        return float_element(number, summed, parameters["stages"], f"E{exponent_bits}M{fraction_bits}")


class RequantiserSpace(Space):
    unit, share = units.Requantiser, 2

    def draw(self, rng: np.random.Generator) -> Point:
        return {
            "in_bits": int(rng.integers(12, 33)),
            "multiplier_bits": int(rng.integers(4, 17)),
            "max_shift": int(rng.integers(8, 48)),
            "out_bits": int(_choice(rng, (4, 6, 8, 8, 12, 16))),
            "stages": int(rng.integers(1, 5)),
        }

    def design(self, **parameters: Any) -> Design:
        return requant_design(**parameters)


class NormaliserSpace(Space):
    unit, share = units.Normaliser, 2

    def draw(self, rng: np.random.Generator) -> Point:
        return {
            "function": _choice(rng, ("div", "rsqrt")),
            "entries": int(_choice(rng, (4, 8, 12, 16))),
            "input_bits": int(rng.integers(12, 25)),
            "stages": int(rng.integers(2, 8)),
        }

    def design(self, **parameters: Any) -> Design:
        return normaliser_design(**parameters)


SPACES: dict[str, Space] = {
    space.unit.name: space
    for space in (
        PwlSpace(),
        FloatPwlSpace(),
        ProcessingElementSpace(),
        FloatProcessingElementSpace(),
        RequantiserSpace(),
        NormaliserSpace(),
    )
}


def sample(count: int, seed: int) -> Iterator[Point]:
    """`count` points, each unit by its share; the same seed gives the same points, and fewer are a prefix of more."""
    require_range("count", count, 1, 10_000)
    rng = np.random.default_rng(seed)
    names = [name for name, space in SPACES.items() for _ in range(space.share)]
    order: list[str] = []
    for _ in range(count):
        order = order or rng.permutation(names).tolist()
        name = order.pop()
        yield {"unit": name, **SPACES[name].draw(rng)}


def design(point: Point, beats: int | None = BEATS) -> Design:
    """The design of a point; its work is cut to `beats` if given."""
    made = SPACES[point["unit"]].design(**parameters(point))
    return made if beats is None or made.work.size <= beats else replace(made, work=made.work.head(beats))


def parameters(point: Point) -> dict[str, Any]:
    """A point's parameters, without the unit's name."""
    return {key: value for key, value in point.items() if key != "unit"}


def _choice(rng: np.random.Generator, values: tuple[Any, ...]) -> Any:
    return values[int(rng.integers(len(values)))]
