"""The functions of `FUNCTIONS` against independent formulas, and how names are resolved."""

import math

import numpy as np
import pytest

from ga_search.functions import FUNCTIONS, resolve
from sim.reference import InputError

X = np.linspace(-30, 30, 2001)
POSITIVE = np.linspace(0.05, 30, 500)


def scalar(name: str, x: float) -> float:
    sigmoid = 1 / (1 + math.exp(-x))
    softplus = max(x, 0) + math.log1p(math.exp(-abs(x)))
    return {
        "gelu": lambda: 0.5 * x * math.erfc(-x / math.sqrt(2)),
        "gelu-tanh": lambda: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "hswish": lambda: x * min(max(x + 3, 0), 6) / 6,
        "silu": lambda: x * sigmoid,
        "sigmoid": lambda: sigmoid,
        "tanh": lambda: math.tanh(x),
        "exp": lambda: math.exp(x),
        "div": lambda: 1 / x,
        "rsqrt": lambda: x**-0.5,
        "softplus": lambda: softplus,
        "mish": lambda: x * math.tanh(softplus),
        "erf": lambda: math.erf(x),
        "log": lambda: math.log(x),
        "sqrt": lambda: math.sqrt(x),
    }[name]()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_what_its_name_says(name):
    x = POSITIVE if name in ("div", "rsqrt", "log", "sqrt") else X
    expected = [scalar(name, v) for v in x.tolist()]
    np.testing.assert_allclose(FUNCTIONS[name].evaluate(x), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_called_monotone_are(name):
    function = FUNCTIONS[name]
    y = function.evaluate(np.linspace(*function.domain, 4001))
    if function.monotone:
        assert (np.diff(y) * function.monotone > 0).all()
    else:
        assert (np.diff(y) > 0).any() and (np.diff(y) < 0).any()


@pytest.mark.parametrize(
    "name, domain, step, scales",
    [
        ("div", None, 3, (5,)), ("rsqrt", None, 4, (5,)), ("sqrt", None, 4, (5,)), ("log", None, 3, (5,)),
        ("div", (2.0, 4.0), 1, (5,)), ("rsqrt", (1.0, 4.0), 2, (5,)), ("rsqrt", (2.0, 4.0), None, (5,)),
        ("div", (0.5, 3.0), None, (5,)), ("div", (1.0, 2.0), 1, (6,)), ("gelu", None, None, None),
    ],
)  # fmt: skip
def test_normalised_functions_know_their_step_and_scale(name, domain, step, scales):
    function = resolve(name, domain)
    assert function.normaliser_step == step and function.scales(8, True) == scales


def test_half_open_domains_leave_their_end_out():
    assert FUNCTIONS["div"].inside(np.array([0.25, 0.5, 3.99, 4.0])).tolist() == [False, True, True, False]
    assert FUNCTIONS["gelu"].inside(np.array([-4.0, 4.0, 4.01])).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "name, domain, message",
    [
        ("gelo", None, "unknown function 'gelo'; did you mean gelu"),
        ("qqq", None, "unknown function 'qqq'; known: gelu"),
        ("gelu", (1.0, 1.0), "domain must be two finite numbers, low below high, not 1 1"),
        ("gelu", (2.0, -2.0), "domain must be two finite numbers, low below high, not 2 -2"),
        ("gelu", (0.0, math.inf), "domain must be two finite numbers, low below high, not 0 inf"),
        ("log", (-1.0, 4.0), "log is not finite everywhere on its domain -1 4"),
        ("no.such.module:f", (0.0, 1.0), "no.such.module:f cannot be imported: ModuleNotFoundError"),
        ("math:no_such", (0.0, 1.0), "math:no_such cannot be imported: AttributeError"),
        ("math:pi", (0.0, 1.0), "math:pi must be callable, not float"),
        ("math:sin", (0.0, 1.0), "math:sin raised TypeError"),
        ("numpy:sum", (0.0, 1.0), "numpy:sum must return an array of its argument's shape (257,), not ()"),
        ("numpy:log", (-1.0, 1.0), "numpy:log is not finite everywhere on its domain -1 1"),
        ("numpy:sin", None, "--domain must be given"),
    ],
)
def test_a_mistake_is_one_line(name, domain, message):
    with pytest.raises(InputError) as error:
        resolve(name, domain)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
