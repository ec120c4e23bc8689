"""The law itself: how much loss quantisation-aware training adds for a model size, tokens seen and a group size.

A model of N parameters trained on D tokens in full precision reaches L(N, D) = E + A / N^α + B / D^β (Chinchilla).
The same training with quantised weights and activations ends at L(N, D) + δ(N, D, G), with the group size G:

    δ(N, D, G) = k · D^γD · (log2 G)^γG / N^γN

All losses are in nats per token.

Source: "Scaling Law for Quantization-Aware Training", 2505.14302, equation 5 and tables of coefficients.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.common.errors import InputError

Values = NDArray[np.float64]
_SEARCH = (1.0, 1e18)  # parameters or tokens between which an inverse question is answered


def _require_finite(coefficients: Any, positive: bool) -> None:
    for field in fields(coefficients):
        value = getattr(coefficients, field.name)
        if not np.isfinite(value) or (positive and value <= 0):
            raise InputError(f"{field.name} must be a {'positive' if positive else 'finite'} number, not {value}")


@dataclass(frozen=True)
class Chinchilla:
    """The loss of training in full precision; the defaults are the paper's fit.

    Raises InputError unless every coefficient is a positive number.
    """

    e: float = 1.9279
    a: float = 237.7042
    b: float = 596.2490
    alpha: float = 0.3022
    beta: float = 0.3022

    def __post_init__(self) -> None:
        _require_finite(self, positive=True)

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Values:
        """L(N, D) in nats; arrays broadcast."""
        n, d = _positive("parameters", parameters), _positive("tokens", tokens)
        return self.e + self.a / n**self.alpha + self.b / d**self.beta


@dataclass(frozen=True)
class Law:
    """δ(N, D, G) of one quantisation scheme.

    Parameters
    ----------
    k : float
        Positive factor.
    gamma_n, gamma_d, gamma_g : float
        Exponents of the parameters, the tokens and log2 of the group size; δ grows with D and G, and falls with N.

    Raises InputError unless k is positive and the exponents are finite.
    """

    k: float
    gamma_n: float
    gamma_d: float
    gamma_g: float

    def __post_init__(self) -> None:
        _require_finite(self, positive=False)
        if self.k <= 0:
            raise InputError(f"k must be positive, not {self.k}")

    def delta(self, parameters: ArrayLike, tokens: ArrayLike, group: ArrayLike) -> Values:
        """The added loss in nats; arrays broadcast. A group of 1 is lossless: log2 G is 0 there.

        Raises InputError unless parameters and tokens are positive and groups at least 1.
        """
        n, d, g = _positive("parameters", parameters), _positive("tokens", tokens), _groups(group)
        return self.k * d**self.gamma_d * np.log2(g) ** self.gamma_g / n**self.gamma_n


PAPER = Chinchilla()
PUBLISHED = {
    "w4a4": Law(0.1582, 0.2186, 0.0745, 0.7779),
    "w4a16": Law(0.2522, 0.3589, 0.1610, 0.3533),
    "w16a4": Law(0.1004, 0.1816, 0.0331, 0.9812),
    "w4a4-fc2-8": Law(0.3519, 0.2637, 0.0964, 0.3407),
    "w16a4-fc2-8": Law(0.1273, 0.2347, 0.0827, 0.4491),
}
"""The paper's coefficients by scheme; `fc2-8` keeps the input of the second feed-forward layer at 8 bits."""


def scheme(name: str) -> Law:
    """The published law of a scheme. Raises InputError with the known names if there is none."""
    if name not in PUBLISHED:
        raise InputError(f"scheme must be one of {', '.join(PUBLISHED)}, not {name!r}")
    return PUBLISHED[name]


def effective_parameters(
    law: Law, parameters: ArrayLike, tokens: ArrayLike, group: ArrayLike, chinchilla: Chinchilla = PAPER
) -> Values:
    """The effective-parameter multiplier: the share of N that a full-precision model needs for the same loss.

    It is M / N with L(M, D) = L(N, D) + δ(N, D, G). The tokens' part cancels, which leaves
    M / N = (1 + δ N^α / A)^(-1/α). It is 1 where δ is 0.
    """
    n = _positive("parameters", parameters)
    delta = law.delta(n, tokens, group)
    return (1 + delta * n**chinchilla.alpha / chinchilla.a) ** (-1 / chinchilla.alpha)


@dataclass(frozen=True)
class Question:
    """Inverse questions about one scheme: what to spend for a wanted loss in nats."""

    law: Law
    chinchilla: Chinchilla = PAPER

    def loss(self, parameters: ArrayLike, tokens: ArrayLike, group: ArrayLike) -> Values:
        """L(N, D) + δ(N, D, G)."""
        return self.chinchilla.loss(parameters, tokens) + self.law.delta(parameters, tokens, group)

    def parameters(self, loss: float, tokens: float, group: float) -> float:
        """The fewest parameters that reach the loss. Raises InputError if none does."""
        return _smallest(lambda n: float(self.loss(n, tokens, group)), loss, "no number of parameters")

    def tokens(self, loss: float, parameters: float, group: float) -> float:
        """The fewest tokens that reach the loss. Raises InputError if none does.

        More tokens lower the full-precision loss and raise δ, so that the sum has one minimum.
        """
        grid = np.geomspace(_SEARCH[0], _SEARCH[1], 4001)
        best = int(np.argmin(self.loss(parameters, grid, group)))
        return _smallest(
            lambda d: float(self.loss(parameters, d, group)), loss, "no number of tokens", float(grid[best])
        )

    def group(self, loss: float, parameters: float, tokens: float) -> float:
        """The largest group size that still reaches the loss; infinite if every group does.

        Raises InputError if even a group of 1, which is full precision, does not.
        """
        room = loss - float(self.chinchilla.loss(parameters, tokens))
        if room < 0:
            raise InputError(f"no group size reaches {loss}: full precision is at {loss - room:.4f}")
        if self.law.gamma_g <= 0:
            raise InputError("the law does not grow with the group size, so that no group is the largest")
        per_log = float(self.law.delta(parameters, tokens, 2.0))
        log_group = (room / per_log) ** (1 / self.law.gamma_g)
        return 2.0**log_group if log_group < 1000 else float("inf")


def parameters_in(memory_bytes: float, weight_bits: float, group: float, scale_bits: float = 16) -> float:
    """How many parameters fit into a memory, with one scale for each group."""
    for name, value in (("memory_bytes", memory_bytes), ("weight_bits", weight_bits), ("scale_bits", scale_bits)):
        _positive(name, value)
    return 8 * memory_bytes / (weight_bits + scale_bits / float(_groups(group)))


def _smallest(loss_of: Callable[[float], float], wanted: float, what: str, high: float = _SEARCH[1]) -> float:
    """The smallest argument up to `high` that reaches the wanted loss on a falling curve, by bisection."""
    low = _SEARCH[0]
    if loss_of(high) > wanted:
        raise InputError(f"{what} reaches a loss of {wanted}: the best is {loss_of(high):.4f}")
    if loss_of(low) <= wanted:
        return low
    for _ in range(200):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if loss_of(middle) <= wanted else (middle, high)
    return high


def _positive(name: str, value: ArrayLike) -> Values:
    array = np.asarray(value, np.float64)
    if not np.all((array > 0) & np.isfinite(array)):
        raise InputError(f"{name} must be positive")
    return array


def _groups(value: ArrayLike) -> Values:
    array = np.asarray(value, np.float64)
    if not np.all((array >= 1) & np.isfinite(array)):
        raise InputError("group must be at least 1")
    return array
