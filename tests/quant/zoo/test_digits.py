"""The digits network learns, survives its quantisation, and its activations are codes that the units get right."""

import math

import numpy as np
import pytest
import torch

from quant.zoo import digits
from quant.zoo.digits import Softmax, Tables, to_codes
from sim.cosim import run as runner
from sim.cosim.options import BenchOptions
from sim.reference import InputError, Normaliser, floating
from sim.reference.floating import FORMATS
from sim.vectors.vector_set import VectorSet
from sim.workloads.digits_vectors import DIV_SCALE, choose_tables, digits_sets
from tests.sim.tables import FUNCTIONS, secant_table

TABLES = Tables(*(secant_table(name) for name in ("gelu", "exp", "div")))


@pytest.fixture(scope="module")
def sets() -> dict[str, VectorSet]:
    return {v.name: v for v in digits_sets(TABLES, seed=0, images=8, epochs=12)}


def test_the_network_is_right_in_floating_point_and_with_every_site_in_integers(sets):
    source = sets["digits-block0-gelu"].source
    assert source["accuracy"] > 0.9  # a guess is right once in ten
    assert source["accuracy_quantised"] > 0.85


def test_every_site_of_both_blocks_gives_real_codes(sets):
    sites = ("gelu", "gelu-fp32", "gelu-fp16", "softmax-exp", "softmax-div")
    assert set(sets) == {f"digits-block{b}-{site}" for b in (0, 1) for site in sites}
    for block in (0, 1):
        gelu, exp, div = (sets[f"digits-block{block}-{site}"] for site in ("gelu", "softmax-exp", "softmax-div"))
        assert (gelu.size, exp.size, div.size) == (8 * 16 * 64, 8 * 2 * 16 * 16, 8 * 2 * 16)
        assert len(np.unique(gelu.arrays["inputs"])) > 50
        distances = exp.arrays["inputs"].reshape(-1, 16)
        assert (distances.max(1) == 0).all() and distances.min() < -20  # a row's maximum is at distance 0
        # what the EXP site gave is what the DIV site was given the sum of
        assert np.array_equal(np.maximum(exp.arrays["expected"].reshape(-1, 16), 0).sum(1), div.arrays["inputs"])


def test_the_gelu_site_s_codes_are_numbers_for_the_floating_point_unit_and_its_outputs_agree(sets):
    codes = sets["digits-block0-gelu"]
    scale = int(codes.arrays["s"][0])
    for name, number in FORMATS.items():
        vectors = sets[f"digits-block0-gelu-{name}"]
        assert vectors.unit == "fp-pwl"
        x, y = (floating.value(number, vectors.arrays[key]) for key in ("inputs", "expected"))
        assert np.array_equal(x * 2**scale, codes.arrays["inputs"])
        output, out_scale = codes.arrays["expected"], TABLES.gelu.slope_frac_bits + scale - codes.arrays["output_shift"]
        inside = abs(output) < 127
        error = abs(output / 2.0**out_scale - y)[inside] * 2.0**out_scale
        assert inside.mean() > 0.5 and error.max() < 0.51  # the integer unit rounds to a code


def test_the_units_equal_the_specification_on_real_activations(sets):
    for name in ("digits-block0-gelu", "digits-block1-softmax-exp", "digits-block1-softmax-div"):
        outcome = runner.run_bulk(sets[name], BenchOptions("icarus"))
        assert outcome.passed and outcome.vectors == sets[name].size, outcome


def test_the_same_seed_trains_the_same_network():
    data = digits.Data(torch.rand(128, 8, 8), torch.arange(128) % 10)
    first, same, other = (digits.train(data, seed, epochs=1).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_codes_are_rounded_half_up_and_saturated():
    x = torch.tensor([-0.75, -0.25, 0.25, 0.75, 1e9, -1e9, -4.0, 3.99])
    assert to_codes(x, 1).tolist() == [-1, 0, 1, 2, 127, -128, -8, 8]


def test_the_quantised_softmax_is_the_integer_algorithm():
    torch.manual_seed(0)
    x = torch.randn(20, 16) * 2
    exp, div = TABLES.exp.lower(4, 6), Normaliser(TABLES.div, 5, 16, 6)
    module = Softmax()
    module.quantise(exp, 6, div, DIV_SCALE)
    for row, codes in zip(x.double().numpy(), (module(x) * 128).tolist(), strict=True):
        q = [math.floor(v * 16 + 0.5) for v in row]
        powers = [max(int(exp.output(np.array([max(v - max(q), -128)]))[0]), 0) for v in q]
        inverse = int(div.output(np.array([sum(powers)]), DIV_SCALE, 16)[0])
        assert codes == [min((p * inverse + (1 << 12)) >> 13, 127) for p in powers]  # 6 + 14 - 7 bits to drop
        assert sum(codes) > 64


def test_the_smallest_fitting_tables_are_chosen_and_a_missing_one_is_named():
    tables = [secant_table(name, entries) for name in FUNCTIONS for entries in (16, 8)]
    assert choose_tables(tables) == TABLES
    with pytest.raises(InputError, match="tables must hold an 8-bit table of div"):
        choose_tables([t for t in tables if t.function != "div"])
    with pytest.raises(InputError, match="gelu must be a table of gelu, not of 'exp'"):
        Tables(secant_table("exp"), secant_table("exp"), secant_table("div"))
