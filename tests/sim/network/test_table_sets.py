"""Tables of other widths in a network of all four functions."""

import pytest

pytest.importorskip("transformers", reason="the model is one of transformers")

from sim.network.convert import convert
from sim.network.table_sets import fitted_tables
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import plan
from tests.sim.network.specification import require_specified


def test_tables_with_coefficients_of_16_bits_give_the_integers_of_the_specification():
    data = {"input_ids": prompts()}
    tables = fitted_tables("genetic", 8, ("silu", "exp", "div", "rsqrt"), coef_bits=16)
    assert {table.coef_bits for table in tables.values()} == {16}
    require_specified(convert(language_model("LlamaForCausalLM"), plan({**tables}), [data]), data)
