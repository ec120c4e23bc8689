"""Fits of the law to measured runs, with intervals, and comparison with smaller laws.

In logarithms the law is linear in log k and the exponents: log δ = log k + γD log D + γG log log2 G - γN log N. The
loss is Huber's on log δ, minimised by L-BFGS from several starts. A run whose measured δ is not positive has no
logarithm. It is censored: it costs only as far as the fit lies above the smallest positive δ of the data.

Source: 2505.14302, section 3 (fitting by Huber loss and L-BFGS, after Hoffmann et al., 2203.15556, section D).
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.methods.scaling_law.law import Law, Values
from sim.common.errors import InputError

COLUMNS = ("parameters", "tokens", "group", "delta")
LAWS = {
    "full": ("gamma_n", "gamma_d", "gamma_g"),
    "without D": ("gamma_n", "gamma_g"),
    "without G": ("gamma_n", "gamma_d"),
}
"""The law and the smaller ones that it is compared with, by their free exponents."""
HUBER = 1e-2  # where the loss turns from squares to magnitudes, in nats of log δ


@dataclass(frozen=True)
class Runs:
    """Measured runs: parameters, tokens, group size and added loss δ in nats, one array element for each run.

    Raises InputError unless sizes agree, parameters and tokens are positive, groups above 1 (δ is 0 at 1), every δ is
    finite, and at least one is positive.
    """

    parameters: Values
    tokens: Values
    group: Values
    delta: Values

    def __post_init__(self) -> None:
        if len({getattr(self, name).shape for name in COLUMNS}) != 1 or self.delta.ndim != 1:
            raise InputError("runs must be columns of one length")
        for name, low in (("parameters", 0), ("tokens", 0), ("group", 1)):
            values = getattr(self, name)
            bad = np.flatnonzero(~(np.isfinite(values) & (values > low)))
            if bad.size:
                raise InputError(f"run {bad[0] + 1}: {name} must be above {low}, not {values[bad[0]]}")
        bad = np.flatnonzero(~np.isfinite(self.delta))
        if bad.size:
            raise InputError(f"run {bad[0] + 1}: delta must be finite, not {self.delta[bad[0]]}")
        if not np.any(self.delta > 0):
            raise InputError("no run has a positive delta, so that there is nothing to fit")

    def __len__(self) -> int:
        return len(self.delta)

    def __getitem__(self, index: NDArray) -> "Runs":
        return Runs(*(getattr(self, name)[index] for name in COLUMNS))

    @property
    def censored(self) -> NDArray[np.bool_]:
        """Runs whose δ is not positive."""
        return self.delta <= 0

    @classmethod
    def load(cls, path: str | Path, scheme: str | None = None) -> "Runs":
        """Runs of a CSV file with the columns `parameters`, `tokens`, `group` and `delta`.

        With `scheme`, only rows whose column `scheme` is that. Raises InputError with the file and the column.
        """
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: not a CSV file that can be read: {error}") from None
        for name in (*COLUMNS, *(["scheme"] if scheme else [])):
            if name not in (reader.fieldnames or ()):
                raise InputError(f"{path}: has no column {name}")
        rows = [row for row in rows if scheme is None or row["scheme"] == scheme]
        if not rows:
            raise InputError(f"{path}: has no rows" + (f" of the scheme {scheme!r}" if scheme else ""))
        columns = [np.array([_number(row[name]) for row in rows]) for name in COLUMNS]
        try:
            return cls(*columns)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Fit:
    """A fitted law, its Huber loss and how well it predicts.

    `residuals` are log δ - log δ^, 0 for a censored run that the law leaves below the limit. `aic` is Akaike's
    criterion with Gaussian residuals; smaller is better, and only differences on the same runs mean anything.
    """

    law: Law
    loss: float
    residuals: Values
    aic: float


def fit(runs: Runs, exponents: Sequence[str] = LAWS["full"], starts: int = 32, seed: int = 0) -> Fit:
    """The law of least Huber loss.

    Parameters
    ----------
    runs : Runs
        At least as many different settings as free coefficients.
    exponents : sequence of str
        The free ones of gamma_n, gamma_d, gamma_g; the others are 0.
    starts : int
        Random starting points of L-BFGS; the best end point wins.
    seed : int
        Of the starting points.

    Raises
    ------
    InputError
        The settings of the runs cannot tell the coefficients apart, such as tokens that never vary.
    """
    design = _design(runs, exponents)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(
            f"the runs' settings do not determine {', '.join(('k', *exponents))}: vary each of parameters, tokens and "
            "group on its own"
        )
    best, loss = _minimise(design, _targets(runs), runs.censored, starts, np.random.default_rng(seed))
    residuals = _residuals(best, design, _targets(runs), runs.censored)
    spread = max(float(np.mean(residuals**2)), np.finfo(float).tiny)
    aic = len(runs) * np.log(spread) + 2 * (design.shape[1] + 1)
    return Fit(_law(best, exponents), loss, residuals, float(aic))


def bootstrap(runs: Runs, replicates: int = 1000, seed: int = 0, exponents: Sequence[str] = LAWS["full"]) -> Values:
    """Coefficients (replicates, 4) of fits to resampled residuals, in the order k, gamma_n, gamma_d, gamma_g.

    The settings of the runs were chosen and are kept. Each replicate adds residuals to the fitted log δ, drawn with
    replacement and widened by the square root of n / (n - p), as n residuals of p coefficients are too small by that.
    A censored run stays censored.
    """
    fitted = fit(runs, exponents, seed=seed)
    design = _design(runs, exponents)
    known = ~runs.censored
    widened = fitted.residuals[known] * np.sqrt(known.sum() / max(known.sum() - design.shape[1], 1))
    center = _targets(runs) - fitted.residuals
    rng = np.random.default_rng(seed)
    start = _coefficients(fitted.law, exponents)
    found = np.empty((replicates, 4))
    for i in range(replicates):
        targets = np.where(known, center + rng.choice(widened - widened.mean(), len(runs)), _targets(runs))
        best, _ = _minimise(design, targets, runs.censored, 0, rng, start)
        law = _law(best, exponents)
        found[i] = law.k, law.gamma_n, law.gamma_d, law.gamma_g
    return found


def intervals(coefficients: Values, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Percentile intervals of `bootstrap`'s coefficients by name."""
    ends = np.quantile(coefficients, [(1 - level) / 2, (1 + level) / 2], axis=0)
    names = ("k", "gamma_n", "gamma_d", "gamma_g")
    return {name: (float(ends[0, i]), float(ends[1, i])) for i, name in enumerate(names)}


def compare(runs: Runs, seed: int = 0) -> list[dict[str, Any]]:
    """One row for each of `LAWS`: coefficients, AIC, and the error on held-out runs.

    Held out is the corner that matters: the runs of the most parameters and those of the most tokens, which a law
    fitted to smaller ones predicts. The error is the mean |log δ - log δ^| of its positive runs; None if what
    remains cannot be fitted.
    """
    corner = (runs.parameters == runs.parameters.max()) | (runs.tokens == runs.tokens.max())
    rows = []
    for name, exponents in LAWS.items():
        fitted = fit(runs, exponents, seed=seed)
        law = fitted.law
        try:
            rest = fit(runs[np.flatnonzero(~corner)], exponents, seed=seed).law
            test = runs[np.flatnonzero(corner & ~runs.censored)]
            log_error = np.log(test.delta) - np.log(rest.delta(test.parameters, test.tokens, test.group))
            held_out = float(np.mean(np.abs(log_error)))
        except InputError:
            held_out = None
        rows.append({"law": name, "k": law.k, "gamma_n": law.gamma_n, "gamma_d": law.gamma_d, "gamma_g": law.gamma_g,
                     "aic": fitted.aic, "held_out_log_error": held_out})  # fmt: skip
    return rows


def _number(text: str | None) -> float:
    """The number in a cell; NaN, which `Runs` refuses with its row, if it holds none."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _design(runs: Runs, exponents: Sequence[str]) -> Values:
    """Columns of the linear model in log k and the exponents."""
    columns = {
        "gamma_n": -np.log(runs.parameters),
        "gamma_d": np.log(runs.tokens),
        "gamma_g": np.log(np.log2(runs.group)),
    }
    return np.stack([np.ones(len(runs)), *(columns[name] for name in exponents)], axis=1)


def _targets(runs: Runs) -> Values:
    """log δ, and for censored runs the logarithm of the smallest positive δ."""
    limit = runs.delta[runs.delta > 0].min()
    return np.log(np.where(runs.censored, limit, runs.delta))


def _residuals(coefficients: Values, design: Values, targets: Values, censored: NDArray[np.bool_]) -> Values:
    residuals = targets - design @ coefficients
    return np.where(censored, np.minimum(residuals, 0), residuals)


def _minimise(
    design: Values, targets: Values, censored: NDArray[np.bool_], starts: int, rng: np.random.Generator,
    start: Values | None = None,
) -> tuple[Values, float]:  # fmt: skip
    """L-BFGS in coordinates in which the columns are orthonormal: log N and log D alone are badly scaled."""
    try:
        from scipy.optimize import minimize
    except ModuleNotFoundError:
        raise InputError('a fit needs scipy: pip install "bitwright[scaling-law]"') from None
    basis, triangle = np.linalg.qr(design)

    def objective(point: Values) -> tuple[float, Values]:
        residuals = _residuals(point, basis, targets, censored)
        magnitude = np.abs(residuals)
        loss = np.where(magnitude <= HUBER, residuals**2 / 2, HUBER * (magnitude - HUBER / 2)).sum() / HUBER
        return float(loss), -(basis.T @ np.clip(residuals, -HUBER, HUBER)) / HUBER

    least_squares = basis.T @ targets
    first = least_squares if start is None else triangle @ start
    points = [first, *(first + rng.normal(size=(starts, len(first))) * np.abs(targets).mean())]
    ends = [minimize(objective, point, jac=True, method="L-BFGS-B", options={"maxiter": 1000}) for point in points]
    best = min(ends, key=lambda end: end.fun)
    return np.linalg.solve(triangle, best.x), float(best.fun)


def _law(coefficients: Values, exponents: Sequence[str]) -> Law:
    values = dict.fromkeys(LAWS["full"], 0.0) | dict(zip(exponents, map(float, coefficients[1:]), strict=True))
    return Law(float(np.exp(coefficients[0])), **values)


def _coefficients(law: Law, exponents: Sequence[str]) -> Values:
    return np.array([np.log(law.k), *(getattr(law, name) for name in exponents)])
