"""A configuration with everything it names looked up: every mistake a user can make in it shows here."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ga_search.config import FitConfig
from ga_search.functions import Function, resolve
from ga_search.grid import Codes, Grid, build_grid, code_weights, measured_where_finite
from ga_search.methods.nn_lut import require_torch
from sim.common.files import require_regular
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

    def values_digest(self) -> str:
        """SHA-256 of the function's values on the measured points: another function under the same name shows here."""
        return hashlib.sha256(self.grid.position.tobytes() + self.grid.value.tobytes()).hexdigest()


def prepare(config: FitConfig) -> Problem:
    """Look everything up; every mistake a user can make in a configuration shows here, before any work."""
    function = resolve(config.function, config.domain)
    scales = config.scales or function.scales(config.in_bits, config.in_signed) or default_scales(config.in_bits)
    codes = Codes(config.in_bits, config.in_signed, scales)
    if ":" in config.function:
        function = measured_where_finite(function, codes)
    if config.method == "nn-lut":
        require_torch()
    histogram = None if config.weights is None else load_histogram(config.weights, codes)
    for protocol in ("full", "inside"):  # both are always reported
        code_weights(function, codes, protocol, None)
    if not config.out_signed:
        x = np.concatenate([np.linspace(*function.domain, 4097), *map(codes.x, scales)])
        x = x[function.inside(x)]
        value = function.evaluate(x)
        if (value < 0).any():
            at = int(value.argmin())
            raise InputError(
                f"--out-unsigned needs a function that is never negative, but {config.function} is {value[at]:.3g} "
                f"at x = {x[at]:g}"
            )
    grid = build_grid(function, codes, config.objective, histogram, config.symmetry)
    return Problem(config, function, codes, histogram, grid)


def load_histogram(path: str, codes: Codes) -> np.ndarray:
    """`histogram` from an .npz: counts per code, ascending, shape (codes,) or (scales, codes)."""
    require_regular(path)
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
