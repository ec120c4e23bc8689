"""Lint for tables: wasted entries, f(0), tails, sign and monotonicity."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.reference.arithmetic import saturate
from sim.reference.pwl import PwlTable

TAIL_TOLERANCE_ULP = 1.0  # at the outermost codes, before saturation


@dataclass(frozen=True)
class Finding:
    """One fault: the check's name, the scale exponent at which it shows (None: all) and a line to read."""

    check: str
    scale: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.check}{'' if self.scale is None else f' at s={self.scale}'}: {self.message}"


def unreachable(table: PwlTable, output_scale: int) -> list[int]:
    """The table's scales that have no output code, because their accumulator is coarser than 2**-output_scale."""
    return [s for s in table.scales if table.slope_frac_bits + s < output_scale]


def lint_structure(table: PwlTable) -> list[Finding]:
    """Duplicate breakpoints and wasted entries.

    An entry is wasted if no code selects it at any of the table's scales, or if it repeats its neighbour.
    """
    findings = [
        Finding("duplicate breakpoints", None, f"breakpoints[{j}] = breakpoints[{j + 1}] = {p}")
        for j, p in enumerate(table.breakpoints[:-1])
        if p == table.breakpoints[j + 1]
    ]
    low, high = table.code_format.compared_range
    used: set[int] = set()
    for scale in table.scales:
        edges = [low, *(min(max(t, low), high + 1) for t in table.thresholds(scale)), high + 1]
        used |= {i for i in range(table.entries) if edges[i] < edges[i + 1]}
    for i in range(table.entries):
        if i not in used:
            findings.append(Finding("wasted entry", None, f"no code of any scale selects entry {i}"))
        elif i and (table.slopes[i], table.intercepts[i]) == (table.slopes[i - 1], table.intercepts[i - 1]):
            findings.append(Finding("wasted entry", None, f"entry {i} repeats entry {i - 1}"))
    return findings


def lint_values(
    table: PwlTable,
    function: Callable[[np.ndarray], np.ndarray],
    output_scale: int,
    natural: Callable[[np.ndarray], np.ndarray],
    monotone: int = 0,
) -> list[Finding]:
    """Check f(0), both tails, sign and monotonicity at each of the table's scales.

    `function` and `natural` take float64 x; `natural` says for which x f is defined. `monotone` is 1 if f rises, -1
    if it falls, else 0. f(0) and sign are judged on the rounded output code, the tails within
    `TAIL_TOLERANCE_ULP` before saturation, monotonicity on the output codes.
    """
    findings = []
    for scale in sorted(set(table.scales) - set(unreachable(table, output_scale))):
        lowered = table.lower(scale, output_scale)
        q = lowered.codes()
        q = q[natural(q * 2.0**-scale)]
        if not q.size:
            continue
        exact = function(q * 2.0**-scale) * 2.0**output_scale
        ideal = saturate(np.floor(np.clip(exact, -(2.0**40), 2.0**40) + 0.5), table.out_bits, table.out_signed)
        codes = lowered.output(q)
        acc = lowered.accumulate(q).astype(np.float64) * 2.0 ** (output_scale - table.slope_frac_bits - scale)
        at_zero = np.flatnonzero(q == 0)
        if at_zero.size and codes[at_zero[0]] != ideal[at_zero[0]]:
            findings.append(Finding("f(0)", scale, f"gives code {codes[at_zero[0]]}, should be {ideal[at_zero[0]]}"))
        for side, end in (("lower", 0), ("upper", -1)):
            error = abs(acc[end] - exact[end])
            if error > TAIL_TOLERANCE_ULP:
                findings.append(
                    Finding(f"{side} tail", scale, f"off by {error:.3g} ULP at x = {q[end] * 2.0**-scale:g}")
                )
        wrong = q[codes * np.sign(exact) < 0]
        if wrong.size:
            findings.append(
                Finding("sign", scale, f"{wrong.size} codes have the wrong sign, first x = {wrong[0] * 2.0**-scale:g}")
            )
        against = q[1:][np.diff(codes) * monotone < 0]
        if against.size:
            findings.append(
                Finding("monotonicity", scale, f"{against.size} steps go back, first x = {against[0] * 2.0**-scale:g}")
            )
    return findings
