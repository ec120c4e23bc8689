import pytest

from cost_model.explore.budget import Budget
from sim.reference import InputError

FIGURES = {"mse_full": 2e-5, "mse_inside": 4e-5, "max_ulp": 0.8, "correctly_rounded": 0.9}


@pytest.mark.parametrize(
    ("texts", "met"),
    [
        (["mse_full=2e-5"], True),
        (["mse_full=1.9e-5"], False),
        (["mse_full=3e-5", "mse_inside=3e-5"], False),
        (["correctly_rounded=0.9"], True),
        (["correctly_rounded=0.95", "max_ulp=1"], False),
        (["correctly_rounded=1"], False),
    ],
)
def test_a_budget_is_met_if_every_limit_is(texts, met):
    assert Budget.parse(texts).met(FIGURES) is met


def test_a_figure_that_could_not_be_measured_is_not_within_its_limit():
    assert not Budget(max_ulp=1.0).met(FIGURES | {"max_ulp": None})


def test_the_released_budget_is_the_paper_s_table():
    assert Budget.released("gelu") == Budget(3.81e-5, 9.97e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(), "budget must limit one of mse_full, mse_inside, max_ulp, correctly_rounded"),
        (lambda: Budget(mse_full=0.0), "mse_full must be above 0 and at most inf, not 0.0"),
        (lambda: Budget(correctly_rounded=1.5), "correctly_rounded must be above 0 and at most 1, not 1.5"),
        (lambda: Budget.parse(["mse_full"]), "--budget must be NAME=NUMBER, not 'mse_full'"),
        (
            lambda: Budget.parse(["max_ulp=1", "max_ulp=2"]),
            "--budget must name each figure once, not max_ulp=1 max_ulp=2",
        ),
        (
            lambda: Budget.parse(["mse=1"]),
            "--budget must be of mse_full, mse_inside, max_ulp, correctly_rounded, not 'mse'",
        ),
        (
            lambda: Budget.released("tanh"),
            "--budget must be given for tanh; a released table is known of gelu, hswish, exp, div, rsqrt",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message
