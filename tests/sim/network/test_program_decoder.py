"""Programs of causal language models against the integer network that they were made from."""

from dataclasses import replace

import pytest

from sim.network.convert import convert
from sim.network.program import program_of
from sim.network.program_check import first_difference
from sim.network.program_engine import engine_for
from sim.reference import InputError
from tests.sim.network.decoders import FAULTS, LENGTH, decoder, decoder_program
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import TABLES, plan
from tests.sim.network.test_program import _changed

pytestmark = pytest.mark.filterwarnings("ignore:softmax")


@pytest.fixture(scope="module")
def network():
    return decoder()


@pytest.mark.parametrize("tokens", [2, 3, 4, 5, 8, LENGTH])
def test_every_operator_of_every_length_equals_the_network(network, tokens):
    assert first_difference(*decoder_program(network, tokens)) is None


@pytest.mark.parametrize("lanes, row_units", [(2, 1), (4, 4)])
def test_every_size_of_the_engine_equals_the_network(network, lanes, row_units):
    assert first_difference(*decoder_program(network, LENGTH - 1, lanes, row_units)) is None


@pytest.mark.parametrize("layers, operators", [((0, 0), 15), ((1, 1), 15), (None, 31)])
def test_layers_are_a_part_of_the_network(network, layers, operators):
    program, expected = decoder_program(network, layers=layers)
    assert program.operators == operators and first_difference(program, expected) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, settings",
    [
        ("LlamaForCausalLM", {"activation_granularity": "tensor"}),
        ("LlamaForCausalLM", {"weight_bits": 4}),
        ("LlamaForCausalLM", {"probability_bits": 16}),
        ("Qwen2Model", {}),
        ("GPT2LMHeadModel", {}),
    ],
)
def test_other_plans_and_models_equal_the_network(kind, settings):
    assert first_difference(*decoder_program(decoder(kind, **settings))) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_its_operator(network, fault):
    key, kind, changes = FAULTS[fault]
    program, expected = decoder_program(network)
    found = first_difference(_changed(program, key, kind, **changes), expected)
    assert found is not None and found.startswith(key) and " row " in found and " channel " in found


def test_what_no_unit_computes_is_refused(network):
    with pytest.raises(InputError, match=r"layers\.0\.q_rope: half a head's: 4 channels must be a multiple of the"):
        engine_for(network, LENGTH, 8)
    window = convert(language_model("MistralForCausalLM"), plan(TABLES), [{"input_ids": prompts(length=6)}])
    with pytest.raises(InputError, match="mask: the engine has no sliding window"):
        program_of(window, replace(engine_for(network, LENGTH, 4), words=1 << 16), 7)
