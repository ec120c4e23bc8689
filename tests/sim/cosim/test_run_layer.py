"""A whole tiny transformer on the engine's Verilog, in both simulators, with stalls, resets and faults."""

import shutil
from functools import cache

import numpy as np
import pytest

from sim.cosim.run_layer import Options, run_layer
from sim.network.convert import convert
from sim.network.program import program_of, results_of
from sim.network.program_check import located
from sim.network.program_engine import engine_for
from sim.reference.engine import tiled, untiled
from tests.rtl.layer.user_bench import run_users_bench
from tests.sim.network.models import TABLES, bert, plan, token_batches
from tests.sim.network.test_program import FAULTS, _changed

LENGTH = 12
LENGTHS = range(3, LENGTH + 1)
RUNS = {"verilator": (10, 100), "icarus": (2, 5)}  # simulations, and token batches in each: Icarus takes 8 s for one
pytestmark = pytest.mark.slow
SIMULATORS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing"))
    for name, program in (("icarus", "iverilog"), ("verilator", "c++"))
]


@pytest.fixture(scope="module")
def network():
    return convert(bert(), plan(TABLES), token_batches())


@pytest.fixture(scope="module")
def config(network):
    return engine_for(network, LENGTH, 8, 2)


@pytest.fixture(scope="module")
def programs(network, config):
    """Makes the program of a random batch of so many tokens, and the codes that the network gives for it."""
    made = cache(lambda tokens, valid: program_of(network, config, tokens, valid))

    def program(tokens, seed):
        [batch] = token_batches(1, rows=1, length=tokens, seed=seed)
        expected = results_of(network, batch)
        found = made(tokens, int(batch["attention_mask"].sum())).with_inputs(expected)
        return found, expected[found.output]

    return program


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    return tmp_path_factory.mktemp("builds")


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_random_batches_of_every_length_through_stalls_and_resets(programs, config, builds, simulator):
    """The first simulation is undisturbed: there every instruction must take its schedule's cycles."""
    simulations, count = RUNS[simulator]
    every = np.random.default_rng(0).permutation(np.resize(LENGTHS, simulations * count))
    checked = 0
    for number, lengths in enumerate(every.reshape(simulations, count)):
        given = [programs(int(tokens), number * count + k) for k, tokens in enumerate(lengths)]
        instructions = [i for program, _ in given for i in program.instructions]
        options = Options(simulator, builds, stall_seed=number, reset_after=number and 1000 + 4000 * number)
        run = run_layer(config, instructions, options)
        assert (run.mismatches, run.problem, run.first, run.resets) == (0, None, None, bool(number))
        words = iter(run.stored)
        for program, expected in given:
            place = program.steps[-1].place
            own = np.array([next(words) for _ in range(place.tiles(config.lanes) * place.rows)])
            assert (untiled(own, place.rows, place.channels) == expected).all()
            checked += 1
        assert next(words, None) is None
    assert checked == simulations * count


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_program_is_named_by_operator_row_and_channel(programs, config, builds, fault):
    key, kind, changes = FAULTS[fault]
    program, _ = programs(LENGTH, LENGTH)
    wrong = _changed(program, key, kind, **changes)
    run = run_layer(config, wrong.instructions, Options("verilator", builds), program.instructions)
    found = located(program, run)
    assert run.mismatches and found.startswith(key) and " row " in found and " channel " in found


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is missing")
def test_the_network_runs_in_a_users_bench(programs, config, tmp_path):
    program, expected = programs(LENGTH, 1)
    results = tiled(expected, config.lanes)
    said = run_users_bench(tmp_path, config, program.instructions, results)
    assert said.startswith(f"{len(results)} results, 0 wrong, ")


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is missing")
def test_an_engine_with_one_unit_for_rows_is_as_right(network, builds):
    config = engine_for(network, LENGTH, 4, 1)
    [batch] = token_batches(1, rows=1, length=5, seed=6)
    program = program_of(network, config, 5, int(batch["attention_mask"].sum()))
    run = run_layer(config, program.with_inputs(results_of(network, batch)).instructions, Options("icarus", builds))
    assert (run.mismatches, run.problem, run.first) == (0, None, None)
