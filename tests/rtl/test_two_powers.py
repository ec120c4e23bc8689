"""The unit without a multiplier: its slopes are sums of two powers of two, and it refuses others."""

from dataclasses import replace

import numpy as np
import pytest

from rtl.blocks.multiplication import as_operator
from rtl.formal.stimulus import random_lowered
from rtl.pwl import Pwl, PwlConfig
from sim.reference import InputError
from tests.rtl.bench import simulate
from tests.rtl.test_folding import FORMATS, mismatches

NUMBERS = [*FORMATS[::3], FORMATS[2], FORMATS[-1], {"in_signed": False}, {"coef_bits": 4, "intercept_bits": 2}]


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda n: " ".join(map(str, n.values())))
def test_every_code_equals_the_reference(numbers):
    seed = NUMBERS.index(numbers)
    fold_bits = seed % 7 if numbers.get("symmetry") in ("gated", "complement") else 0
    config = PwlConfig(
        4, 6, output=("code", "acc")[seed % 2], stages=1 + seed % 5, max_intercept_shift=6, fold_bits=fold_bits,
        slope_form="two-powers", **numbers,
    )  # fmt: skip
    assert mismatches(config, seed) == []


@pytest.mark.parametrize("sign", ["signed", "unsigned", "negative"])
def test_every_slope_times_every_code_is_exact(sign):
    config = PwlConfig(2, 4, coef_bits=5, output="acc", stages=1, slope_sign=sign, slope_form="two-powers")
    drawn = random_lowered(np.random.default_rng(0), config)
    for slope in config.slope_powers:
        lowered = replace(drawn, slopes=(slope, slope))
        settings = {"intercept_shift": lowered.intercept_shift}
        got = simulate(Pwl(config), lowered.codes().tolist(), config.words(lowered), settings)[0]
        assert got == lowered.accumulate(lowered.codes()).tolist()


def test_a_slope_that_is_no_such_sum_and_a_multiplier_are_refused_by_name():
    config = PwlConfig(3, slope_form="two-powers")
    lowered = replace(random_lowered(np.random.default_rng(0), config), slopes=(5, 11, 6))
    with pytest.raises(InputError, match=r"slopes\[1\] of the table must be a sum of two powers of two, not 11"):
        config.check_fit(lowered)
    with pytest.raises(InputError, match="product must be tree if slope_form is two-powers"):
        Pwl(config, product=as_operator)
    with pytest.raises(InputError, match="slope_form must be one of any, two-powers, not 'csd'"):
        PwlConfig(slope_form="csd")


def test_the_description_names_what_is_loaded_and_other_units_keep_theirs():
    about = Pwl(PwlConfig(slope_form="two-powers")).describe()
    assert [(row["list"], row["bits"]) for row in about["table"]["load_order"]] == [
        ("thresholds", 8), ("slope_powers", 8), ("intercepts", 8),
    ]  # fmt: skip
    assert about["parameters"]["slope_form"] == "two-powers" and "slope_form" not in PwlConfig().to_dict()
    assert PwlConfig.from_dict(PwlConfig(slope_form="two-powers").to_dict()).slope_form == "two-powers"
