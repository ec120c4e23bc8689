"""One fit: the method that does it, the table, and its row of figures."""

import time
from typing import Any

import numpy as np

from ga_search.config import FitConfig
from ga_search.grid import Codes, code_weights
from ga_search.methods.genetic import GeneticSearch
from ga_search.methods.gqa_lut import COEFFICIENT_BITS, gqa_lut
from ga_search.methods.nn_lut import nn_lut
from ga_search.methods.optimal import CERTIFICATE_WORK, OptimalSearch, TooMuchWork
from ga_search.methods.uniform import uniform
from ga_search.metrics import Errors, output_scale, squared_errors, table_errors, weighted_mean
from ga_search.problem import MAX_PLACES, Problem, prepare
from ga_search.progress import Report, silent
from ga_search.real_table import RealTable, finest_fit, nearest, nearest_breakpoints
from ga_search.solution import Solution, breakpoints, filled
from sim.reference import InputError, PwlTable
from sim.reference.code_format import OPTIONAL
from sim.reference.lint import lint_structure, lint_values, unreachable
from sim.reference.pwl import frac_bits_pairs, frac_bits_range

GAP_PROMISED = 1.05  # what a genetic fit keeps to; more is said
DEFAULT_INTERCEPT_SHIFT = 7  # of a hardware unit, unless it is made for more
NARROW_STEPS = 2.0  # output steps that a function should span at least
POOR_SHARE = 0.05  # of a function's variance in the domain that a fit should leave at most
PROOF_NOISE = 1e-12  # two sums of the same squares may differ by this share


def fit_table(function: str, entries: int = 8, method: str = "genetic", **options: Any) -> PwlTable:
    """The table of one fit; the same arguments give the same table.

    Parameters
    ----------
    function : a key of `ga_search.FUNCTIONS`, or `package.module:callable` on float64 arrays (with `domain`)
    entries : number of segments, 2..64
    method : one of `ga_search.METHODS`
    **options : further fields of `ga_search.FitConfig`: domain, scales, widths, objective, seed, ...

    Returns
    -------
    PwlTable, with slopes and intercepts of shape (entries,)

    Raises
    ------
    InputError
        If an option is out of range, the function is unknown, or it is not finite on its domain.

    Examples
    --------
    >>> fit_table("gelu", 8, "optimal", scales=(4, 5)).entries
    8
    """
    return fit(prepare(FitConfig(function, entries, method, **{"certificate": False, **options})))[0]


def fit(problem: Problem, report: Report = silent) -> tuple[PwlTable, dict[str, Any]]:
    """Run the method; returns the table and its row of figures (JSON values). `report` is called with the progress."""
    config = problem.config
    started = time.perf_counter()
    real: RealTable | None = None
    solution: Solution | None = None
    if config.method in ("gqa-lut", "nn-lut"):
        if config.method == "gqa-lut":
            real = gqa_lut(problem.function, config.entries, config.seed)
        else:
            real = nn_lut(problem.function, config.entries, config.seed, config.restarts, report=report)
        if not all(np.isfinite(part).all() for part in (real.breakpoints, real.slopes, real.intercepts)):
            raise InputError(f"{config.method} finds no finite coefficients for {config.function}")
        table = _table(problem, *_rounded(problem, real))
    else:
        solution = _search(problem, report)
        slopes, intercepts = filled(solution)
        pair = solution.slope_frac_bits, solution.intercept_frac_bits
        if config.pair is None:
            pair, slopes, intercepts = _usable(problem, pair, slopes, intercepts)
        table = _table(problem, pair, slopes, intercepts, breakpoints(problem.grid, solution.boundaries))
    seconds = time.perf_counter() - started
    row = _row(problem, table, seconds)
    if config.method == "gqa-lut" and real is not None:
        row["mse_full_nearest"] = _nearest_lowering(problem, table, real)
    if config.method == "optimal" and config.pair is None:
        row.update(optimum=row["mse"], gap=1.0)
    elif config.certificate and config.can_certify:
        started = time.perf_counter()
        try:
            row.update(_certificate(problem, row["mse"], solution, report))
        except TooMuchWork as error:
            row["notes"].append(f"no gap: {error}")
        row["certificate_seconds"] = time.perf_counter() - started
    if config.method == "genetic" and config.pair is None and row["gap"] is not None and row["gap"] > GAP_PROMISED:
        row["notes"].append(f"the search stopped {row['gap']:.3f} times above the optimum; --method optimal reaches it")
    return table, row


def _search(problem: Problem, report: Report) -> Solution:
    config, grid = problem.config, problem.grid
    if config.method == "genetic":
        candidates = None
        if grid.points > MAX_PLACES:
            candidates = np.unique(np.linspace(0, grid.points, MAX_PLACES + 1).astype(np.int64))
        search = GeneticSearch(grid, config.entries, config.fit_format, config.seed, candidates)
        return search.run(config.pair, report)
    if config.method == "optimal":
        search = OptimalSearch(grid, config.entries, config.fit_format)
        return search.best(None, report) if config.pair is None else search.at(*config.pair, report)
    every = frac_bits_pairs(config.code_format)
    return uniform(
        grid,
        config.entries,
        problem.function.domain,
        config.fit_format,
        np.array([config.pair] if config.pair else every),
    )


def _usable(
    problem: Problem, pair: tuple[int, int], slopes: np.ndarray, intercepts: np.ndarray
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """The same real coefficients at the (λ, μ) that serves hardware best.

    λ grows until every scale reaches the output scale, and μ then as far as it can. λ falls again if the intercept
    shift is more than a unit has by default.
    """
    config, scales = problem.config, problem.codes.scales
    needed = output_scale(problem.function, (config.out_bits, config.out_signed), problem.codes) - min(scales)
    numbers = config.code_format
    slope_bits, intercept_bits = pair
    if slope_bits < needed:
        most = min(needed, frac_bits_range(config.in_bits, config.coef_bits)[1])
        while slope_bits < most and _within(2 * slopes, numbers.slope_range):
            slope_bits, slopes = slope_bits + 1, 2 * slopes
        most = min(slope_bits, frac_bits_range(config.in_bits, numbers.intercept_width)[1])
        while intercept_bits < most and _within(2 * intercepts, numbers.intercept_range):
            intercept_bits, intercepts = intercept_bits + 1, 2 * intercepts
    limit, least = _default_shift(config) - max(scales), max(needed, intercept_bits, 0 if numbers.folded else needed)
    while slope_bits - intercept_bits > limit and slope_bits > least and not (slopes % 2).any():
        slope_bits, slopes = slope_bits - 1, slopes // 2
    return (slope_bits, intercept_bits), slopes, intercepts


def _within(values: np.ndarray, ends: tuple[int, int]) -> bool:
    return ends[0] <= values.min() and values.max() <= ends[1]


def _default_shift(config: FitConfig) -> int:
    """The largest intercept shift of a unit for `config`, unless it is made for more."""
    return max(DEFAULT_INTERCEPT_SHIFT, config.in_bits - 1)


def _certificate(problem: Problem, mse: float, known: Solution | None, report: Report) -> dict[str, float | None]:
    """The proven optimum for the same objective over all (λ, μ), and how far above it `mse` lies."""
    config = problem.config
    search = OptimalSearch(problem.grid, config.entries, config.fit_format, CERTIFICATE_WORK)
    best = search.best(known, lambda text: report(f"proof: {text}"))
    slopes, intercepts = filled(best)
    pair = best.slope_frac_bits, best.intercept_frac_bits
    table = _table(problem, pair, slopes, intercepts, breakpoints(problem.grid, best.boundaries))
    optimum = table_errors(table, problem.function, problem.codes, config.objective, problem.histogram).mse
    if mse <= optimum:  # another table of the same error, or the proof is wrong
        noise = PROOF_NOISE * (optimum + float(problem.grid.weight @ problem.grid.value**2))
        if optimum - mse > noise:
            raise RuntimeError(f"the optimum {optimum} is disproved by {mse}")
        return {"optimum": mse, "gap": 1.0}
    return {"optimum": optimum, "gap": mse / optimum if optimum else None}


def _rounded(problem: Problem, real: RealTable) -> tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
    """Integers of a real table: the finest fraction bits that fit, for GQA-LUT at most its own 2**-6."""
    config = problem.config
    if config.pair:
        pair = config.pair
    else:
        most = COEFFICIENT_BITS if config.method == "gqa-lut" else 64
        slope_bits = finest_fit(real.slopes, config.in_bits, config.coef_bits, most)
        pair = slope_bits, finest_fit(real.intercepts, config.in_bits, config.coef_bits, slope_bits)
    slopes = nearest(real.slopes, pair[0], config.coef_bits)
    intercepts = nearest(real.intercepts, pair[1], config.coef_bits)
    b = max(problem.codes.scales)
    return pair, slopes, intercepts, nearest_breakpoints(real, b, config.in_bits, config.in_signed)


def _table(
    problem: Problem, pair: tuple[int, int], slopes: np.ndarray, intercepts: np.ndarray, points: np.ndarray
) -> PwlTable:
    return _table_at(problem, pair, slopes, intercepts, points, problem.codes.scales, max(problem.codes.scales))


def _table_at(
    problem: Problem,
    pair: tuple[int, int],
    slopes: np.ndarray,
    intercepts: np.ndarray,
    points: np.ndarray,
    scales: tuple[int, ...],
    bp_frac_bits: int,
) -> PwlTable:
    config = problem.config
    codes, bits = problem.codes, (config.out_bits, config.out_signed)
    provenance: dict[str, Any] = {
        "method": config.method,
        "seed": config.seed,
        "output_scale": output_scale(problem.function, bits, codes),
    }
    if config.slope_form != "any":
        provenance["slope_form"] = config.slope_form
    if problem.histogram is not None:
        provenance["weights_sha256"] = config.to_dict()["weights_sha256"]
    return PwlTable(
        function=config.function,
        domain=problem.function.domain,
        normaliser_step=problem.function.normaliser_step,
        scales=scales,
        objective=config.objective,
        **config.code_format.to_dict(),
        slope_frac_bits=pair[0],
        intercept_frac_bits=pair[1],
        bp_frac_bits=bp_frac_bits,
        slopes=tuple(slopes.tolist()),
        intercepts=tuple(intercepts.tolist()),
        breakpoints=tuple((np.maximum(points, 1) if config.code_format.folded else points).tolist()),
        provenance=provenance,
    )


def _nearest_lowering(problem: Problem, table: PwlTable, real: RealTable) -> float:
    """`mse_full` as the paper lowers a table: breakpoints rounded to the nearest code at each scale by itself."""
    pair = table.slope_frac_bits, table.intercept_frac_bits
    slopes, intercepts = np.array(table.slopes), np.array(table.intercepts)
    errors = []
    for scale in problem.codes.scales:
        points = nearest_breakpoints(real, scale, table.in_bits, table.in_signed)
        lowered = _table_at(problem, pair, slopes, intercepts, points, (scale,), scale)
        errors.append(squared_errors(lowered, problem.function, Codes(table.in_bits, table.in_signed, (scale,)))[0])
    return weighted_mean(code_weights(problem.function, problem.codes, "full", None), np.array(errors))


def _warnings(problem: Problem, table: PwlTable, errors: Errors) -> list[str]:
    """What makes the figures of a fit mislead, with the option that helps."""
    config, function, scale_out, notes = problem.config, problem.function, errors.output_scale, []
    if skipped := unreachable(table, scale_out):
        notes.append(
            f"scales {skipped} cannot reach the output scale {scale_out} (λ + s is lower); max ULP, correct and lint "
            "leave them out, and an export needs a lower --output-scale there"
        )
    x = np.unique(np.concatenate([problem.codes.x(scale) for scale in problem.codes.scales]))
    inside = function.inside(x)
    with np.errstate(all="ignore"):
        value = function.evaluate(x[inside])
        outside = np.abs(function.evaluate(x[~inside & function.defined(x)])).max(initial=0.0)
    steps = float(np.ptp(value)) * 2.0**scale_out
    if steps <= NARROW_STEPS and np.ptp(value) > 0:
        notes.append(f"the function spans only {steps:.3g} output steps of 2^{-scale_out}; give a narrower --domain")
    poor = errors.mse_inside > POOR_SHARE * float(np.var(value))
    if config.objective == "full" and poor and outside > np.abs(value).max():
        notes.append("codes outside the domain dominate the fit; --objective inside fits the domain alone")
    return notes


def _row(problem: Problem, table: PwlTable, seconds: float) -> dict[str, Any]:
    config, function = problem.config, problem.function
    errors = table_errors(table, function, problem.codes, config.objective, problem.histogram)
    findings = lint_structure(table)
    if config.in_bits <= 16:
        findings += lint_values(table, function.evaluate, errors.output_scale, function.defined, function.monotone)
    notes = problem.notes
    shift = max(problem.codes.scales) + table.slope_frac_bits - table.intercept_frac_bits
    if shift > _default_shift(config):
        notes.append(f"the table needs an intercept shift of up to {shift}, more than a unit has by default")
    notes += _warnings(problem, table, errors)
    return {
        "function": config.function,
        "entries": config.entries,
        "method": config.method,
        "objective": config.objective,
        "domain": list(function.domain),
        "scales": list(problem.codes.scales),
        "in_bits": config.in_bits,
        "coef_bits": config.coef_bits,
        "out_bits": config.out_bits,
        **{key: value for key, value in config.code_format.to_dict().items() if key in OPTIONAL},
        **({} if config.slope_form == "any" else {"slope_form": config.slope_form}),
        "seed": config.seed,
        "slope_frac_bits": table.slope_frac_bits,
        "intercept_frac_bits": table.intercept_frac_bits,
        "output_scale": errors.output_scale,
        "mse": errors.mse,
        "mse_full": errors.mse_full,
        "mse_inside": errors.mse_inside,
        "mse_by_scale": {str(k): v for k, v in errors.mse_by_scale.items()},
        "mse_inside_by_scale": {str(k): v for k, v in errors.mse_inside_by_scale.items()},
        "optimum": None,
        "gap": None,
        "max_ulp": errors.max_ulp,
        "correctly_rounded": errors.correctly_rounded,
        "lint": [str(finding) for finding in findings],
        "notes": notes,
        "seconds": seconds,
        "certificate_seconds": None,
        "sha256": table.digest,
    }
