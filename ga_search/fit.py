"""One fit: what is asked for, the method that does it, the table and its row of figures."""

import hashlib
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ga_search.catalogue import Function, resolve
from ga_search.genetic import GeneticSearch
from ga_search.gqa_lut import COEFFICIENT_BITS, gqa_lut
from ga_search.grid import Codes, Grid, build_grid, code_weights
from ga_search.measure import measure, squared_errors, weighted_mean
from ga_search.nn_lut import nn_lut
from ga_search.optimal import OptimalSearch
from ga_search.real_table import RealTable, finest_fit, nearest, nearest_breakpoints
from ga_search.solution import Solution, breakpoints, filled
from ga_search.uniform import uniform
from sim.reference import InputError, PwlTable
from sim.reference.lint import lint_structure, lint_values
from sim.reference.pwl import ENTRIES_RANGE, WIDTH_RANGE, default_scales, frac_bits_range, require_range

METHODS = ("genetic", "optimal", "gqa-lut", "nn-lut", "uniform")
OBJECTIVES = ("full", "inside", "weights")
OPTIMAL_BITS = 8  # the dynamic programme's limit, for input and coefficients alike
PROOF_NOISE = 1e-12  # two sums of the same squares may differ by this share
MAX_PLACES = 4096  # the genetic search cuts a larger grid at this many evenly drawn places only


@dataclass(frozen=True)
class FitConfig:
    """A fit's every input. None for `domain` and `scales` means the function's own; raises `InputError` early."""

    function: str
    entries: int = 8
    method: str = "genetic"
    domain: tuple[float, float] | None = None
    scales: tuple[int, ...] | None = None
    in_bits: int = 8
    in_signed: bool = True
    coef_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True
    objective: str = "full"
    weights: str | None = None  # path of the histogram
    slope_frac_bits: int | None = None
    intercept_frac_bits: int | None = None
    restarts: int = 8
    seed: int = 0
    certificate: bool = True

    def __post_init__(self) -> None:
        require_range("entries", self.entries, *ENTRIES_RANGE)
        for name in ("in_bits", "coef_bits", "out_bits"):
            require_range(name, getattr(self, name), *WIDTH_RANGE)
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, not {self.objective!r}")
        if (self.objective == "weights") != (self.weights is not None):
            raise InputError("--weights FILE.npz and --objective weights must be given together")
        if self.scales is not None:
            if not self.scales:
                raise InputError("scales must be a range, low first, not empty")
            for scale in self.scales:
                require_range("scales", scale, 0, self.in_bits - 1)
        require_range("seed", self.seed, 0, 2**63 - 1)
        require_range("restarts", self.restarts, 1, 1024)
        if (self.slope_frac_bits is None) != (self.intercept_frac_bits is None):
            raise InputError("slope_frac_bits and intercept_frac_bits must be given together")
        if self.slope_frac_bits is not None and self.intercept_frac_bits is not None:
            for name in ("slope_frac_bits", "intercept_frac_bits"):
                require_range(name, getattr(self, name), *frac_bits_range(self.in_bits, self.coef_bits))
            if self.intercept_frac_bits > self.slope_frac_bits:
                raise InputError(
                    f"intercept_frac_bits must be at most slope_frac_bits ({self.slope_frac_bits}), "
                    f"not {self.intercept_frac_bits}"
                )
        if self.method == "optimal" and not self.can_certify:
            raise InputError(
                f"method optimal needs in_bits and coef_bits of at most {OPTIMAL_BITS}, "
                f"not {self.in_bits} and {self.coef_bits}"
            )

    @property
    def can_certify(self) -> bool:
        """Whether the dynamic programme is affordable at these widths."""
        return max(self.in_bits, self.coef_bits) <= OPTIMAL_BITS

    @property
    def pair(self) -> tuple[int, int] | None:
        """The fixed (λ, μ), or None where the fit chooses them."""
        if self.slope_frac_bits is None or self.intercept_frac_bits is None:
            return None
        return self.slope_frac_bits, self.intercept_frac_bits

    @property
    def name(self) -> str:
        """The stem of the fit's files: function, entries and method; a domain of one's own is part of it."""
        function = self.function.replace(":", ".")
        domain = "" if self.domain is None or ":" in self.function else f"-{self.domain[0]:g}to{self.domain[1]:g}"
        return f"{function}{domain}-{self.entries}-{self.method}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; with `weights` goes the SHA-256 of the file, so that other data is another plan."""
        content: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.weights is not None:
            content["weights_sha256"] = hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "FitConfig":
        """The inverse of `to_dict`."""
        names = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in names}
        return cls(**values)


@dataclass(frozen=True)
class Problem:
    """A configuration with everything it names looked up: the function, the codes, the histogram and the grid."""

    config: FitConfig
    function: Function
    codes: Codes
    histogram: np.ndarray | None
    grid: Grid

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures must know."""
        notes = []
        if self.function.measured_inside and ":" in self.config.function:
            notes.append("full is measured inside the domain: the function is not finite on all codes")
        elif self.function.measured_inside and self.function.natural != (-np.inf, np.inf):
            notes.append("full is measured inside the domain, which exceeds the function's natural one")
        if self.codes.stride > 1:
            notes.append(f"errors are measured on every {self.codes.stride}th code")
        if self.config.method == "genetic" and self.grid.points > MAX_PLACES:
            notes.append(f"breakpoints are searched on a sampled grid: {MAX_PLACES} of {self.grid.points} places")
        return notes


def prepare(config: FitConfig) -> Problem:
    """Look everything up; every mistake a user can make in a configuration shows here, before any work."""
    function = resolve(config.function, config.domain)
    scales = config.scales or function.scales(config.in_bits, config.in_signed) or default_scales(config.in_bits)
    codes = Codes(config.in_bits, config.in_signed, scales)
    if ":" in config.function:
        function = _measured_where_finite(function, codes)
    histogram = None if config.weights is None else load_histogram(config.weights, codes)
    grid = build_grid(function, codes, config.objective, histogram)
    return Problem(config, function, codes, histogram, grid)


def load_histogram(path: str, codes: Codes) -> np.ndarray:
    """`histogram` from an .npz: counts per code, ascending, shape (codes,) or (scales, codes)."""
    try:
        with np.load(path, allow_pickle=False) as content:
            if "histogram" not in content:
                raise InputError(f"{path}: missing array 'histogram'")
            histogram = content["histogram"]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # whatever numpy and zipfile make of a damaged file
        raise InputError(f"{path}: not an .npz file ({type(error).__name__})") from None
    count = len(codes.all())
    if histogram.shape not in ((count,), (len(codes.scales), count)):
        raise InputError(
            f"{path}: histogram must have {count} counts, one per code ascending "
            f"(or {len(codes.scales)} such rows, one per scale), not shape {histogram.shape}"
        )
    if histogram.dtype.kind not in "fiub":
        raise InputError(f"{path}: histogram must hold real numbers, not {histogram.dtype}")
    histogram = histogram.astype(np.float64)
    if not np.isfinite(histogram).all() or (histogram < 0).any() or not histogram.any():
        raise InputError(f"{path}: histogram must be finite, non-negative and not all zero")
    return histogram


def fit(problem: Problem) -> tuple[PwlTable, dict[str, Any]]:
    """Run the method; returns the table and its row of figures (JSON values)."""
    config = problem.config
    started = time.perf_counter()
    real: RealTable | None = None
    solution: Solution | None = None
    if config.method in ("gqa-lut", "nn-lut"):
        if config.method == "gqa-lut":
            real = gqa_lut(problem.function, config.entries, config.seed)
        else:
            real = nn_lut(problem.function, config.entries, config.seed, config.restarts)
        table = _table(problem, *_rounded(problem, real))
    else:
        solution = _search(problem)
        slopes, intercepts = filled(solution)
        pair = solution.slope_frac_bits, solution.intercept_frac_bits
        table = _table(problem, pair, slopes, intercepts, breakpoints(problem.grid, solution.boundaries))
    seconds = time.perf_counter() - started
    row = _row(problem, table, seconds)
    if config.method == "gqa-lut" and real is not None:
        row["mse_full_nearest"] = _nearest_lowering(problem, table, real)
    if config.method == "optimal":
        row.update(optimum=row["mse"], gap=1.0)
    elif config.certificate and config.can_certify:
        started = time.perf_counter()
        row.update(_certificate(problem, row["mse"], solution))
        row["certificate_seconds"] = time.perf_counter() - started
    return table, row


def _search(problem: Problem) -> Solution:
    config, grid = problem.config, problem.grid
    if config.method == "genetic":
        candidates = None
        if grid.points > MAX_PLACES:
            candidates = np.unique(np.linspace(0, grid.points, MAX_PLACES + 1).astype(np.int64))
        search = GeneticSearch(grid, config.entries, config.in_bits, config.coef_bits, config.seed, candidates)
        return search.run(config.pair)
    if config.method == "optimal":
        search = OptimalSearch(grid, config.entries, config.in_bits, config.coef_bits)
        return search.best() if config.pair is None else search.at(*config.pair)
    low, high = frac_bits_range(config.in_bits, config.coef_bits)
    every = [(s, i) for s in range(low, high + 1) for i in range(low, s + 1)]
    return uniform(
        grid,
        config.entries,
        problem.function.domain,
        config.coef_bits,
        np.array([config.pair] if config.pair else every),
    )


def _certificate(problem: Problem, mse: float, known: Solution | None) -> dict[str, float | None]:
    """The proven optimum for the same objective over all (λ, μ), and how far above it `mse` lies."""
    config = problem.config
    search = OptimalSearch(problem.grid, config.entries, config.in_bits, config.coef_bits)
    best = search.best(known)
    slopes, intercepts = filled(best)
    pair = best.slope_frac_bits, best.intercept_frac_bits
    table = _table(problem, pair, slopes, intercepts, breakpoints(problem.grid, best.boundaries))
    optimum = measure(table, problem.function, problem.codes, config.objective, problem.histogram).mse
    if mse <= optimum:  # another table of the same error, or the proof is wrong
        noise = PROOF_NOISE * (optimum + float(problem.grid.weight @ problem.grid.value**2))
        assert optimum - mse <= noise, f"the optimum {optimum} is disproved by {mse}"
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
    provenance: dict[str, Any] = {"method": config.method, "seed": config.seed}
    if problem.histogram is not None:
        provenance["weights_sha256"] = config.to_dict()["weights_sha256"]
    return PwlTable(
        function=config.function,
        domain=problem.function.domain,
        normaliser_step=problem.function.normaliser_step,
        scales=scales,
        objective=config.objective,
        in_bits=config.in_bits,
        in_signed=config.in_signed,
        coef_bits=config.coef_bits,
        out_bits=config.out_bits,
        out_signed=config.out_signed,
        slope_frac_bits=pair[0],
        intercept_frac_bits=pair[1],
        bp_frac_bits=bp_frac_bits,
        slopes=tuple(slopes.tolist()),
        intercepts=tuple(intercepts.tolist()),
        breakpoints=tuple(points.tolist()),
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


def _row(problem: Problem, table: PwlTable, seconds: float) -> dict[str, Any]:
    config, function = problem.config, problem.function
    errors = measure(table, function, problem.codes, config.objective, problem.histogram)
    findings = lint_structure(table)
    if config.in_bits <= 16:
        findings += lint_values(table, function.evaluate, errors.output_scale, function.defined, function.monotone)
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
        "notes": problem.notes,
        "seconds": seconds,
        "certificate_seconds": None,
        "sha256": table.digest,
    }


def _measured_where_finite(function: Function, codes: Codes) -> Function:
    """A user's function is measured on all codes where it is finite on all, else inside its domain."""
    x = np.unique(np.concatenate([codes.x(scale) for scale in codes.scales]))
    with np.errstate(all="ignore"):
        finite = np.isfinite(function.evaluate(x)).all()
    return function if finite else replace(function, measured_inside=True)
