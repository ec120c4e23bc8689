"""Plots: a unit's area and energy by component, savings over entries and width, and Pareto fronts."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.analytical.estimate import estimate
from cost_model.measurement import Measured
from cost_model.netlist import timing
from sim.common.files import write_whole


def breakdown(measured: Sequence[Measured], path: Path) -> Path:
    """Stacked area and energy per cycle by component, a bar for each unit; `measured` must have parts."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    names = [f"{m.design.name.removeprefix('pwl-')}\n{m.design.stages} stages" for m in measured]
    components = list(dict.fromkeys(p.component for m in measured for p in m.parts if p.component != "shared"))
    colours = dict(zip(components, pyplot.colormaps["tab20"](np.linspace(0, 1, len(components))), strict=True))
    physical = measured[0].power.physical
    unit = measured[0].synthesis.area_unit.replace("um2", "µm²")
    for axis, what in zip(axes, ("area", "energy"), strict=True):
        bottom = np.zeros(len(measured))
        for component in components:
            heights = np.array(
                [sum(float(getattr(p, what)) for p in m.parts if p.component == component) for m in measured]
            )
            heights = heights * (1e12 if what == "energy" and physical else 1.0)
            axis.bar(names, heights, bottom=bottom, color=colours[component], label=component)
            bottom += heights
        if what == "energy":
            unit = "pJ per cycle" if physical else "NAND2 inputs charged per cycle"
        axis.set_ylabel(f"{what} ({unit})")
        axis.grid(axis="y", alpha=0.3)
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    library = measured[0].synthesis.netlist.library.name
    figure.suptitle(f"Where area and energy go ({library}): the table and the multiplier grow with the width")
    return _save(figure, path)


def savings(path: Path, library: str = "gate_equivalents", stages: int = 3) -> Path:
    """Area saved against FP32 with as many entries, over entries for some widths and over width for some entries."""
    from matplotlib import pyplot

    deep = timing.recorded("pwl", "FP32", 8)["stages"]

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")

    def saved(entries: Any, bits: Any) -> np.ndarray:
        mine = estimate("pwl", library, entries=entries, in_bits=bits, stages=stages).total.area_ge
        floats = estimate("fp-pwl", library, entries=entries, exponent_bits=8, fraction_bits=23, stages=deep)
        theirs = floats.total.area_ge
        return 100 * (1 - mine / theirs)

    entries = np.arange(2, 17)
    for bits in (4, 6, 8, 12, 16):
        axes[0].plot(entries, saved(entries, np.full(len(entries), bits)), marker=".", label=f"{bits} bits")
    widths = np.arange(4, 17)
    for count in (4, 8, 16):
        axes[1].plot(widths, saved(np.full(len(widths), count), widths), marker=".", label=f"{count} entries")
    axes[0].set_xlabel("table entries")
    axes[1].set_xlabel("width of input, coefficients and output (bits)")
    axes[0].set_ylabel("area saved against FP32 (%)")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.suptitle(f"Analytical model ({library}): the width decides, the number of entries hardly")
    return _save(figure, path)


def front(rows: Sequence[Mapping[str, Any]], x: str, y: str, path: Path) -> Path:
    """Evaluated points over two columns, y logarithmic: dominated ones grey, those with a label named.

    Rows are those of `cost_model.explore.front.mark`, with `label`; one without a positive figure is left out.
    """
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 6), layout="constrained")
    drawn = [row for row in rows if all(row[name] is not None and row[name] > 0 for name in (x, y))]
    for on_front, colour, name in ((False, "0.7", "dominated"), (True, "tab:blue", "on the front")):
        part = [row for row in drawn if row["on_front"] == on_front]
        axis.scatter([row[x] for row in part], [row[y] for row in part], s=18, color=colour, label=name)
    for row in drawn:
        if row["label"]:
            axis.scatter(row[x], row[y], s=60, facecolors="none", edgecolors="tab:red")
            axis.annotate(row["label"], (row[x], row[y]), xytext=(6, 4), textcoords="offset points", fontsize="small")
    axis.set(yscale="log", xlabel=x, ylabel=y)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize="small")
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    """Write a figure whole and close it."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return write_whole(path, buffer.getvalue())
