"""A configuration with everything it names looked up: every mistake a user can make in it shows here."""

from dataclasses import dataclass, replace

import numpy as np

from ga_search.catalogue import Function, resolve
from ga_search.config import FitConfig
from ga_search.grid import Codes, Grid, build_grid
from sim.reference import InputError
from sim.reference.pwl import default_scales

MAX_PLACES = 4096  # the genetic search cuts a larger grid at this many evenly drawn places only


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


def _measured_where_finite(function: Function, codes: Codes) -> Function:
    """A user's function is measured on all codes where it is finite on all, else inside its domain."""
    x = np.unique(np.concatenate([codes.x(scale) for scale in codes.scales]))
    with np.errstate(all="ignore"):
        finite = np.isfinite(function.evaluate(x)).all()
    return function if finite else replace(function, measured_inside=True)
