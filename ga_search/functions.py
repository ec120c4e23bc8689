"""The functions that can be fitted: ours, by name, and a user's own `package.module:callable`."""

import contextlib
import difflib
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sim.reference import InputError

Real = np.ndarray  # float64


@dataclass(frozen=True)
class Function:
    """A real function of one variable and what a fit must know about it.

    Parameters
    ----------
    name : str
        A key of `FUNCTIONS`, or `package.module:callable`.
    evaluate : callable
        Maps a float64 array to a float64 array of the same shape.
    domain : tuple of float
        The interval of x that is fitted: closed, or without its upper end if `half_open`.
    natural : tuple of float
        The closed interval of x that the `full` protocol measures.
    half_open : bool
        Whether the upper end of `domain` is left out.
    normalised : bool
        Whether a normaliser brings inputs into `domain` first, as for 1/x.
    even_step : bool
        Whether that normaliser may only shift by even powers of two, as for a square root.
    monotone : int
        1 if the function rises, -1 if it falls, 0 if neither.
    measured_inside : bool
        Whether the `full` protocol measures `domain` alone and not `natural`.
    """

    name: str
    evaluate: Callable[[Real], Real]
    domain: tuple[float, float] = (-4.0, 4.0)
    natural: tuple[float, float] = (-math.inf, math.inf)
    half_open: bool = False
    normalised: bool = False
    even_step: bool = False
    monotone: int = 0
    measured_inside: bool = False

    def inside(self, x: Real) -> np.ndarray:
        """Which x lie in the fitted domain."""
        low, high = self.domain
        return (x >= low) & ((x < high) if self.half_open else (x <= high))

    def defined(self, x: Real) -> np.ndarray:
        """Which x the `full` protocol measures: the natural domain, or the fitted one if `measured_inside`."""
        if self.measured_inside:
            return self.inside(x)
        return (x >= self.natural[0]) & (x <= self.natural[1])

    @property
    def normaliser_step(self) -> int | None:
        """g with domain [lo, lo * 2**g), lo a power of two, if the function's normaliser can use it, else None."""
        low, high = self.domain
        if not self.half_open or low <= 0 or math.frexp(low)[0] != 0.5:
            return None
        mantissa, step = math.frexp(high / low)
        fits = mantissa == 0.5 and step > 1 and (step - 1) % (2 if self.even_step else 1) == 0
        return step - 1 if fits else None

    def scales(self, in_bits: int, in_signed: bool) -> tuple[int, ...] | None:
        """The one scale of a normalised function, at which its domain's top is just above the top code; else None."""
        if not self.normalised:
            return None
        top = max(abs(end) for end in self.domain)
        scale = math.floor(math.log2(2.0 ** (in_bits - in_signed) / top))
        return (min(max(scale, 0), in_bits - 1),)


def _elementwise(function: Callable[[float], float]) -> Callable[[Real], Real]:
    def evaluate(x: Real) -> Real:
        return np.array([function(v) for v in x.ravel().tolist()], dtype=np.float64).reshape(x.shape)

    return evaluate


_erf, _erfc = _elementwise(math.erf), _elementwise(math.erfc)


def gelu(x: Real) -> Real:
    """GELU(x) = x * Phi(x), Phi the normal distribution; the project's one definition in numpy.

    Parameters
    ----------
    x : float64 array of any shape

    Returns
    -------
    float64 array of the same shape

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
    """
    return 0.5 * x * _erfc(-x / math.sqrt(2.0))  # erfc keeps the digits of the left tail that 1 + erf loses


def _gelu_tanh(x: Real) -> Real:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x: Real) -> Real:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _softplus(x: Real) -> Real:
    return np.logaddexp(0.0, x)


_ALL = (
    Function("gelu", gelu),
    Function("gelu-tanh", _gelu_tanh),
    Function("hswish", lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0),
    Function("silu", lambda x: x * _sigmoid(x)),
    Function("sigmoid", _sigmoid, monotone=1),
    Function("tanh", np.tanh, monotone=1),
    Function("exp", np.exp, domain=(-8.0, 0.0), natural=(-math.inf, 0.0), monotone=1),
    Function("div", lambda x: 1.0 / x, (0.5, 4.0), half_open=True, normalised=True, monotone=-1, measured_inside=True),
    Function(
        "rsqrt", lambda x: 1.0 / np.sqrt(x), (0.25, 4.0), half_open=True, normalised=True, even_step=True, monotone=-1,
        measured_inside=True,
    ),
    Function("softplus", _softplus, monotone=1),
    Function("mish", lambda x: x * np.tanh(_softplus(x))),
    Function("erf", _erf, monotone=1),
    Function("log", np.log, (0.5, 4.0), half_open=True, normalised=True, monotone=1, measured_inside=True),
    Function(
        "sqrt", np.sqrt, (0.25, 4.0), half_open=True, normalised=True, even_step=True, monotone=1, measured_inside=True
    ),
)  # fmt: skip
FUNCTIONS = {function.name: function for function in _ALL}
# where a network's normaliser uses a table: the highest octave, two for the root; other functions take their own
NETWORK_DOMAINS = {"div": (2.0, 4.0), "rsqrt": (1.0, 4.0)}
PAPER = ("gelu", "hswish", "exp", "div", "rsqrt")  # the five of GQA-LUT, and our default


def resolve(name: str, domain: tuple[float, float] | None = None) -> Function:
    """The function called `name`, from `FUNCTIONS` or as `package.module:callable`, on `domain` if one is given.

    Parameters
    ----------
    name : a key of `FUNCTIONS`, or `package.module:callable` on float64 arrays
    domain : low and high; needed for a callable, else the function's own by default

    Returns
    -------
    Function

    Raises
    ------
    InputError
        If the name is unknown (the message names the nearest), the callable cannot be imported or does not return an
        array of its argument's shape, or the domain is empty or holds x at which the function is not finite.
    """
    if ":" in name:
        if domain is None:
            raise InputError(f"--domain must be given for a function of your own ({name})")
        function = Function(name, _users_callable(name), domain)
    elif name in FUNCTIONS:
        function = replace(FUNCTIONS[name], domain=domain) if domain else FUNCTIONS[name]
    else:
        near = difflib.get_close_matches(name, FUNCTIONS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(FUNCTIONS)}"
        raise InputError(f"unknown function {name!r}; {hint} (or package.module:callable)")
    low, high = function.domain
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"domain must be two finite numbers, low below high, not {low:g} {high:g}")
    if not (function.natural[0] <= low and high <= function.natural[1]):
        function = replace(function, measured_inside=True)
    with np.errstate(all="ignore"):
        probe = np.linspace(low, high, 257)[: -1 if function.half_open else None]
        values = function.evaluate(probe)
        if not np.isfinite(values).all():
            raise InputError(f"{name} is not finite everywhere on its domain {low:g} {high:g}")
        if (function.evaluate(probe) != values).any():
            raise InputError(f"{name} must return the same values each time it is called")
    return function


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    """The current folder on the module path, last, for the import of a user's module alone."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _users_callable(name: str) -> Callable[[Real], Real]:
    module_name, _, attribute = name.partition(":")
    try:
        with _current_folder():
            target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (Exception, SystemExit) as error:  # whatever a user's module raises on import is the user's to hear
        raise InputError(f"{name} cannot be imported: {type(error).__name__}: {_first_line(error)}") from None
    if not callable(target):
        raise InputError(f"{name} must be callable, not {type(target).__name__}")

    def evaluate(x: Real) -> Real:
        try:
            with np.errstate(all="ignore"):
                y = np.asarray(target(x.copy()))
        except (Exception, SystemExit) as error:
            raise InputError(f"{name} raised {type(error).__name__}: {_first_line(error)}") from None
        if y.shape != x.shape:
            raise InputError(f"{name} must return an array of its argument's shape {x.shape}, not {y.shape}")
        if y.dtype.kind not in "fiub":
            raise InputError(f"{name} must return real numbers, not {y.dtype}")
        return y.astype(np.float64)

    return evaluate


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
