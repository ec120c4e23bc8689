"""The errors of a finished table, measured on the integers the hardware computes.

Two protocols side by side (DESIGN: "Errors of a fit"), both on the accumulator, per scale and as the mean over scales:
`full` counts every code of the function's natural domain, `inside` only codes whose x lies in the fitted domain. The
rounded output is judged in ULPs of the output scale on the codes inside.
"""

import math
from dataclasses import dataclass

import numpy as np

from ga_search.functions import Function
from ga_search.grid import Codes, code_weights
from sim.reference import LoweredTable, PwlTable
from sim.reference.arithmetic import code_range, saturate


@dataclass(frozen=True)
class Errors:
    """Mean squared errors in units of f squared; ULPs of 2**-output_scale. None if nothing could be measured."""

    mse: float
    mse_full: float
    mse_inside: float
    mse_by_scale: dict[int, float]
    mse_inside_by_scale: dict[int, float]
    output_scale: int
    max_ulp: float | None
    correctly_rounded: float | None


def output_scale(function: Function, table_bits: tuple[int, bool], codes: Codes) -> int:
    """The largest e with max|f| over the domain * 2**e <= the largest code of `table_bits` = (out_bits, out_signed)."""
    low, high = function.domain
    x = np.concatenate(
        [np.linspace(low, high, 4097)[: -1 if function.half_open else None], *map(codes.x, codes.scales)]
    )
    with np.errstate(all="ignore"):
        top = float(np.abs(function.evaluate(x[function.inside(x)])).max())
    largest = code_range(*table_bits)[1]
    if top == 0.0:
        return 0
    scale = math.floor(math.log2(largest / top))
    return scale + 1 if math.ldexp(top, scale + 1) <= largest else scale


def approximation(lowered: LoweredTable, slope_frac_bits: int, q: np.ndarray) -> np.ndarray:
    """What the accumulator stands for, float64."""
    return lowered.accumulate(q).astype(np.float64) * 2.0 ** -(slope_frac_bits + lowered.s)


def squared_errors(table: PwlTable, function: Function, codes: Codes) -> np.ndarray:
    """Squared error of every code at every scale, shape (scales, codes); NaN where the function is not finite."""
    rows = []
    for scale in codes.scales:
        with np.errstate(all="ignore"):
            exact = function.evaluate(codes.x(scale))
        rows.append((approximation(table.lower(scale), table.slope_frac_bits, codes.all()) - exact) ** 2)
    return np.array(rows)


def weighted_mean(weights: np.ndarray, errors: np.ndarray) -> float:
    """The mean over scales and codes under weights from `code_weights`; codes without weight do not count."""
    return float((weights * np.where(weights > 0, errors, 0.0)).sum())


def table_errors(
    table: PwlTable, function: Function, codes: Codes, objective: str, histogram: np.ndarray | None = None
) -> Errors:
    """Every figure of `table` that a fit reports; `mse` is the mean under the objective's own weights."""
    errors = squared_errors(table, function, codes)
    full = code_weights(function, codes, "full", None)
    inside = code_weights(function, codes, "inside", None)
    asked = {"full": full, "inside": inside}.get(objective)
    if asked is None:
        asked = code_weights(function, codes, objective, histogram)
    scale_out = output_scale(function, (table.out_bits, table.out_signed), codes)
    max_ulp, correct = _rounded(table, function, codes, scale_out)
    return Errors(
        mse=weighted_mean(asked, errors),
        mse_full=weighted_mean(full, errors),
        mse_inside=weighted_mean(inside, errors),
        mse_by_scale=_by_scale(full, errors, codes),
        mse_inside_by_scale=_by_scale(inside, errors, codes),
        output_scale=scale_out,
        max_ulp=max_ulp,
        correctly_rounded=correct,
    )


def _by_scale(weights: np.ndarray, errors: np.ndarray, codes: Codes) -> dict[int, float]:
    return {
        scale: weighted_mean(weight / weight.sum(), error)
        for scale, weight, error in zip(codes.scales, weights, errors, strict=True)
        if weight.sum() > 0
    }


def _rounded(table: PwlTable, function: Function, codes: Codes, scale_out: int) -> tuple[float | None, float | None]:
    """Worst ULP error and mean share of correctly rounded codes over the scales that have an output."""
    worst, shares = [], []
    for scale in codes.scales:
        x = codes.x(scale)
        inside = function.inside(x)
        if not inside.any() or table.slope_frac_bits + scale < scale_out:
            continue
        y = table.lower(scale, scale_out).output(codes.all()[inside])
        ideal = function.evaluate(x[inside]) * 2.0**scale_out
        correct = saturate(np.floor(ideal + 0.5), table.out_bits, table.out_signed)
        worst.append(float(np.abs(y - ideal).max()))
        shares.append(float((y == correct).mean()))
    return (max(worst), float(np.mean(shares))) if worst else (None, None)


def rounded_error(table: PwlTable, function: Function, codes: Codes, scale_out: int) -> float | None:
    """Mean squared error of the rounded output codes inside the domain, mean over the scales that have an output.

    It is above that of the accumulator, since perfect rounding has an error too.
    """
    errors = []
    for scale in codes.scales:
        x = codes.x(scale)
        inside = function.inside(x)
        if not inside.any() or table.slope_frac_bits + scale < scale_out:
            continue
        y = table.lower(scale, scale_out).output(codes.all()[inside])
        errors.append(float(np.mean((y * 2.0**-scale_out - function.evaluate(x[inside])) ** 2)))
    return float(np.mean(errors)) if errors else None
