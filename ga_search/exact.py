"""The truth table of a function: every code's correctly rounded output."""

import numpy as np

from ga_search.config import FitConfig
from ga_search.metrics import output_scale
from ga_search.problem import prepare
from sim.reference.arithmetic import saturate
from sim.reference.truth_table import TruthTable


def truth_table(
    function: str, scales: tuple[int, ...] | None = None, in_bits: int = 8, out_bits: int = 8
) -> TruthTable:
    """The correctly rounded output of every code at each scale, at the largest output scale that holds the domain.

    A code for which the function is not defined has the output of the nearest one for which it is.

    Parameters
    ----------
    function : str
        A key of `ga_search.FUNCTIONS`.
    scales : tuple of int or None
        Scale exponents of the input codes; None is the function's own.
    in_bits, out_bits : int
        Widths of the codes, which are signed.

    Raises
    ------
    InputError
        If the function is unknown or a scale out of its range.
    """
    problem = prepare(FitConfig(function, scales=scales, in_bits=in_bits, out_bits=out_bits, certificate=False))
    scale_out = output_scale(problem.function, (out_bits, True), problem.codes)
    rows = []
    for scale in problem.codes.scales:
        x = problem.codes.x(scale)
        defined = np.flatnonzero(problem.function.defined(x))
        places = np.arange(len(x))
        nearest = defined[np.abs(places[:, None] - defined[None, :]).argmin(axis=1)] if defined.size else places
        exact = problem.function.evaluate(x[nearest]) * 2.0**scale_out
        rows.append(tuple(saturate(np.floor(np.clip(exact, -(2.0**40), 2.0**40) + 0.5), out_bits, True).tolist()))
    return TruthTable(function, problem.codes.scales, scale_out, tuple(rows), in_bits, True, out_bits, True)
