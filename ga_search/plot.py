"""One picture per fit: the function and its table, the error, and the mean squared error per scale."""

import io
from typing import Any

import numpy as np

from ga_search.functions import Function
from ga_search.grid import Codes
from ga_search.metrics import approximation
from sim.reference import PwlTable


def picture(table: PwlTable, function: Function, row: dict[str, Any]) -> bytes:
    """A PNG; the same table gives the same bytes with the same matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 6.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    curve = figure.add_subplot(grid[0, :])
    error = figure.add_subplot(grid[1, 0])
    bars = figure.add_subplot(grid[1, 1])

    x, value, got = _samples(table, function)
    points = np.array(table.breakpoints) * 2.0**-table.bp_frac_bits
    points = np.unique(points[(points >= x.min()) & (points <= x.max())])
    curve.plot(x, value, color="0.55", linewidth=4, label=row["function"])
    curve.plot(x, got, color="C0", linewidth=1.2, label=f"table, {table.entries} entries")
    curve.plot(points, np.interp(points, x, got), "o", color="C3", markersize=4, label="breakpoints")
    curve.set(xlabel="x", ylabel="f(x)", title=_title(row))
    curve.legend(frameon=False)

    error.axhline(0.0, color="0.8", linewidth=0.8)
    error.plot(x, got - value, ".", color="C0", markersize=2)
    for point in points:
        error.axvline(point, color="C3", linewidth=0.5, alpha=0.5)
    error.set(xlabel="x", ylabel="table - f(x)", title="error at every code of every scale")

    scales = [int(s) for s in row["mse_by_scale"]]
    inside = [int(s) for s in row["mse_inside_by_scale"]]
    bars.bar([s - 0.2 for s in scales], list(row["mse_by_scale"].values()), 0.4, label="full")
    bars.bar([s + 0.2 for s in inside], list(row["mse_inside_by_scale"].values()), 0.4, label="inside")
    if max(row["mse_by_scale"].values()) > 0:
        bars.set_yscale("log")
    bars.set(xlabel="scale exponent s (step 2^-s)", ylabel="mean squared error", xticks=sorted({*scales, *inside}))
    bars.set_title("error per scale: lower is better")
    bars.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _title(row: dict[str, Any]) -> str:
    gap = "" if row["gap"] is None else f", {row['gap']:.3f} times the optimum"
    return f"{row['method']}: MSE {row['mse']:.3g} ({row['objective']}){gap}"


def _samples(table: PwlTable, function: Function) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, f(x), table) for all codes of all scales inside the domain, ascending in x."""
    codes = Codes(table.in_bits, table.in_signed, table.scales)
    parts = []
    for scale in table.scales:
        x = codes.x(scale)
        kept = function.inside(x)
        parts.append((x[kept], approximation(table.lower(scale), table.slope_frac_bits, codes.all()[kept])))
    x = np.concatenate([p[0] for p in parts])
    got = np.concatenate([p[1] for p in parts])
    x, first = np.unique(x, return_index=True)
    thin = slice(None, None, max(1, len(x) // 8192))
    return x[thin], function.evaluate(x[thin]), got[first][thin]
