"""Tables of other widths in a network of all four functions."""

from functools import cache

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the model is one of transformers")

from sim.network.convert import convert
from sim.network.operators.tables import normaliser
from sim.network.table_sets import fitted_tables
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import plan
from tests.sim.network.specification import require_specified

FUNCTIONS = ("silu", "exp", "div", "rsqrt")
fitted = cache(lambda **widths: fitted_tables("genetic", 8, FUNCTIONS, **widths))


@pytest.mark.parametrize("widths", [{"coef_bits": 16}, {"probability_bits": 16}, {"folded": True}])
def test_wider_tables_give_the_integers_of_the_specification(widths):
    data, tables = {"input_ids": prompts()}, fitted(**widths)
    assert {table.coef_bits for table in tables.values()} == {widths.get("coef_bits", 8)}
    assert (tables["silu"].symmetry == "gated") == ("folded" in widths) and tables["exp"].symmetry == "none"
    bits = widths.get("probability_bits", 8)
    assert {name: table.in_bits for name, table in tables.items()} == dict.fromkeys(FUNCTIONS, 8) | {"div": bits}
    require_specified(
        convert(language_model("LlamaForCausalLM"), plan({**tables}, probability_bits=bits), [data]), data
    )


def test_a_reciprocal_of_8_bit_codes_is_as_wrong_as_its_control_and_one_of_16_bits_is_not():
    sums = np.random.default_rng(0).integers(1 << 15, 1 << 20, 2000)

    def error(bits, table):
        found = normaliser("div", table, 21, 15, bits).output(sums, 22, 24)
        return np.sqrt(np.mean((found / 2.0**22 * (sums / 2.0**15) - 1) ** 2))

    narrow, wide = (fitted(probability_bits=bits)["div"] for bits in (8, 16))
    assert error(8, narrow) < 1.2 * error(8, "exact")
    assert error(16, wide) < 0.5 * error(8, "exact")
