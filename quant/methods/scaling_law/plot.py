"""A picture of a fit: predicted against measured δ, and the residuals by group size."""

import io
from pathlib import Path

import numpy as np

from quant.methods.scaling_law.fit import Fit, Runs
from sim.common.files import write_whole


def save_fit(runs: Runs, fitted: Fit, path: str | Path) -> None:
    """Write parity and residuals of the runs with positive δ as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = ~runs.censored
    measured = runs.delta[known]
    predicted = fitted.law.delta(runs.parameters, runs.tokens, runs.group)[known]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    parity, residuals = figure.subplots(1, 2)
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    points = parity.scatter(measured, predicted, c=np.log2(runs.group[known]), s=16)
    parity.plot(ends, ends, color="grey", linewidth=1)
    parity.set(xscale="log", yscale="log", xlabel="measured δ (nats)", ylabel="predicted δ (nats)",
               title="on the line: the law predicts the run")  # fmt: skip
    figure.colorbar(points, ax=parity, label="log2 of the group size")
    residuals.axhline(0, color="grey", linewidth=1)
    residuals.scatter(runs.parameters[known], fitted.residuals[known], c=np.log2(runs.group[known]), s=16)
    residuals.set(xscale="log", xlabel="parameters N", ylabel="log δ measured - predicted",
                  title="no trend: nothing is left to explain")  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())
