"""A whole tiny Llama on the engine's Verilog, in both simulators, with stalls, a reset and faults."""

import pytest

from sim.cosim.run_layer import Options, run_layer
from sim.network.program_check import located
from tests.sim.cosim.test_run_layer import SIMULATORS
from tests.sim.network.decoders import FAULTS, LENGTH, decoder, decoder_program
from tests.sim.network.test_program import _changed

LENGTHS = {"verilator": (LENGTH, 2, 3, 7, 10), "icarus": (5, 2)}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:softmax")]


@pytest.fixture(scope="module")
def network():
    return decoder()


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    return tmp_path_factory.mktemp("builds")


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_two_layers_through_stalls_and_a_reset(network, builds, simulator):
    """The first simulation is undisturbed: there every instruction must take its schedule's cycles."""
    given = [decoder_program(network, tokens, seed=tokens)[0] for tokens in LENGTHS[simulator]]
    instructions = [instruction for program in given for instruction in program.instructions]
    for seed, reset in ((0, 0), (5, 6000)):
        options = Options(simulator, builds, stall_seed=seed, reset_after=reset)
        run = run_layer(given[0].config, instructions, options)
        assert (run.mismatches, run.problem, run.first, run.resets) == (0, None, None, bool(reset))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_program_is_named_by_operator_row_and_channel(network, builds, fault):
    key, kind, changes = FAULTS[fault]
    program, _ = decoder_program(network)
    wrong = _changed(program, key, kind, **changes)
    run = run_layer(program.config, wrong.instructions, Options("verilator", builds), program.instructions)
    found = located(program, run)
    assert run.mismatches and found.startswith(key) and " row " in found and " channel " in found
