"""The declared space of the analytical model, drawn from with a seed: what it is calibrated on and held against.

A point is a kind and its parameters, all that the model sees; `design` makes the real thing of it. Formats of floating
point are given by their exponent and fraction bits.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from cost_model.designs.design import Design, float_design, pwl_design
from cost_model.designs.normaliser import normaliser_design
from cost_model.designs.processing_element import float_element, integer_element, requant_design
from sim.reference.floating import FP32, FloatFormat
from sim.reference.pwl import require_range

Point = dict[str, Any]
WIDTHS = (4, 5, 6, 7, 8, 8, 10, 12, 14, 16)
ENTRIES = (2, 3, 4, 5, 6, 8, 8, 10, 12, 16)
FORMATS = ((5, 10), (8, 7), (6, 9), (5, 7), (8, 10), (6, 12), (8, 23))
BEATS = 2048  # of a design's work, where many designs are measured

# kind: how often it is drawn, of 20
SHARES = {"pwl": 7, "fp-pwl": 3, "element": 2, "fp-element": 3, "requant": 3, "normaliser": 2}


def sample(count: int, seed: int) -> Iterator[Point]:
    """`count` points, each kind by its share, in an order that any prefix keeps to; the same seed, the same points."""
    require_range("count", count, 1, 10_000)
    rng = np.random.default_rng(seed)
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    order: list[str] = []
    for _ in range(count):
        order = order or rng.permutation(kinds).tolist()
        kind = order.pop()
        yield {"kind": kind, **_DRAW[kind](rng)}


def design(point: Point, beats: int | None = BEATS) -> Design:
    """The design of a point; its work is cut to `beats` where given."""
    fields = {key: value for key, value in point.items() if key != "kind"}
    made = _MAKE[point["kind"]](**fields)
    return made if beats is None or made.work.size <= beats else replace(made, work=made.work.head(beats))


def _choice(rng: np.random.Generator, values: tuple[Any, ...]) -> Any:
    return values[int(rng.integers(len(values)))]


def _pwl(rng: np.random.Generator) -> Point:
    in_bits, coef_bits, out_bits = (int(_choice(rng, WIDTHS)) for _ in range(3))
    if rng.random() < 0.5:
        coef_bits = out_bits = in_bits  # one width, as in the reference unit
    return {
        "entries": int(_choice(rng, ENTRIES)),
        "in_bits": in_bits,
        "coef_bits": coef_bits,
        "out_bits": out_bits,
        "stages": int(rng.integers(1, 8)),
        "storage": _choice(rng, ("flops", "flops", "latches")),
    }


def _fp_pwl(rng: np.random.Generator) -> Point:
    exponent, fraction = _choice(rng, FORMATS)
    storage = _choice(rng, ("flops", "flops", "latches"))
    entries = int(_choice(rng, ENTRIES))
    return dict(
        exponent_bits=exponent,
        fraction_bits=fraction,
        entries=entries,
        stages=int(rng.integers(2, 12)),
        storage=storage,
    )


def _element(rng: np.random.Generator) -> Point:
    rows, weight, activation = _choice(rng, (4, 8, 16, 32, 64)), _choice(rng, (2, 3, 4, 8)), _choice(rng, (4, 8))
    return {"rows": rows, "weight_bits": weight, "activation_bits": activation}


def _fp_element(rng: np.random.Generator) -> Point:
    exponent, fraction = _choice(rng, FORMATS)
    wide = exponent + fraction <= 16 and exponent < 8 and fraction <= 10 and bool(rng.random() < 0.5)
    return dict(exponent_bits=exponent, fraction_bits=fraction, wide_sum=wide, stages=int(rng.integers(2, 9 - wide)))


def _requant(rng: np.random.Generator) -> Point:
    return dict(
        in_bits=int(rng.integers(12, 33)), multiplier_bits=int(rng.integers(4, 17)),
        max_shift=int(rng.integers(8, 48)), out_bits=int(_choice(rng, (4, 6, 8, 8, 12, 16))),
        stages=int(rng.integers(1, 5)),
    )  # fmt: skip


def _normaliser(rng: np.random.Generator) -> Point:
    return dict(
        function=_choice(rng, ("div", "rsqrt")), entries=int(_choice(rng, (4, 8, 12, 16))),
        input_bits=int(rng.integers(12, 25)), stages=int(rng.integers(2, 8)),
    )  # fmt: skip


def _make_fp_pwl(exponent_bits: int, fraction_bits: int, **fields: Any) -> Design:
    return float_design(FloatFormat(exponent_bits, fraction_bits), **fields)


def _make_fp_element(exponent_bits: int, fraction_bits: int, wide_sum: bool, stages: int) -> Design:
    number = FloatFormat(exponent_bits, fraction_bits)
    return float_element(number, FP32 if wide_sum else number, stages, f"E{exponent_bits}M{fraction_bits}")


_DRAW: dict[str, Callable[[np.random.Generator], Point]] = {
    "pwl": _pwl,
    "fp-pwl": _fp_pwl,
    "element": _element,
    "fp-element": _fp_element,
    "requant": _requant,
    "normaliser": _normaliser,
}
_MAKE: dict[str, Callable[..., Design]] = {
    "pwl": pwl_design,
    "fp-pwl": _make_fp_pwl,
    "element": integer_element,
    "fp-element": _make_fp_element,
    "requant": requant_design,
    "normaliser": normaliser_design,
}
