"""The digits network learns, keeps its accuracy in integers, and the units give what it computes."""

import numpy as np
import pytest

from sim.cosim import run as runner
from sim.cosim.options import BenchOptions
from sim.reference import floating
from sim.reference.floating import FORMATS
from sim.vectors.vector_set import VectorSet
from sim.workloads.digits_vectors import FUNCTIONS, digits_sets
from tests.sim.tables import secant_table

TABLES = {name: secant_table(name) for name in FUNCTIONS}
IMAGES = 8


@pytest.fixture(scope="module")
def sets() -> dict[str, VectorSet]:
    return {v.name: v for v in digits_sets(TABLES, seed=0, images=IMAGES, epochs=12)}


def test_the_network_is_right_in_floating_point_and_in_integers(sets):
    source = sets["digits-gelu"].source
    assert source["accuracy"] > 0.9  # a guess is right once in ten
    assert source["accuracy_quantised"] > source["accuracy"] - 0.03


def test_every_kind_of_site_has_real_codes(sets):
    sites = ("softmax", "exp", "div", "layernorm", "layernorm-rsqrt", "gelu", "gelu-fp32", "gelu-fp16")
    assert set(sets) == {f"digits-{site}" for site in sites}
    exp, div, gelu = (sets[f"digits-{site}"] for site in ("exp", "div", "gelu"))
    assert (gelu.size, exp.size, div.size) == tuple(2 * IMAGES * n for n in (16 * 64, 2 * 16 * 16, 2 * 16))
    assert sets["digits-layernorm"].size == 5 * IMAGES * 16 * 32
    assert len(np.unique(gelu.arrays["inputs"])) > 50
    distances = exp.arrays["inputs"].reshape(-1, 16)
    assert (distances.max(1) == 0).all() and distances.min() < -20  # a row's maximum is at distance 0
    assert np.array_equal(np.maximum(exp.arrays["expected"].reshape(-1, 16), 0).sum(1), div.arrays["inputs"])


def test_the_gelus_inputs_are_numbers_for_the_floating_point_units(sets):
    for name, number in FORMATS.items():
        vectors = sets[f"digits-gelu-{name}"]
        assert vectors.unit == "fp-pwl" and vectors.size == sets["digits-gelu"].size
        x = floating.value(number, vectors.arrays["inputs"])
        assert np.array_equal(np.ldexp(x, 6), np.round(np.ldexp(x, 6)))  # codes at 2**-6 or coarser


@pytest.mark.parametrize("name", ["digits-gelu", "digits-exp", "digits-div"])
def test_the_units_equal_the_specification_on_real_activations(sets, name):
    outcome = runner.run_bulk(sets[name], BenchOptions("icarus"))
    assert outcome.passed and outcome.vectors == sets[name].size, outcome
