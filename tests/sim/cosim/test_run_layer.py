"""A whole tiny transformer on the engine's Verilog, in both simulators, with stalls, a reset and faults."""

import shutil

import numpy as np
import pytest

from sim.cosim.run_layer import Options, run_layer
from sim.network.convert import convert
from sim.network.program import program_of, results_of
from sim.network.program_builder import Program
from sim.network.program_check import located
from sim.network.program_engine import engine_for
from tests.sim.network.models import TABLES, bert, plan, token_batches
from tests.sim.network.test_program import FAULTS, _changed

LENGTH = 12
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
    return engine_for(network, LENGTH, 8, 3)


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    return tmp_path_factory.mktemp("builds")


def _program(network, config, tokens, seed) -> Program:
    [batch] = token_batches(1, rows=1, length=tokens, seed=seed)
    expected = results_of(network, batch)
    program = program_of(network, config, tokens, int(batch["attention_mask"].sum()))
    return program.with_inputs(expected)


def _right(run):
    return (run.mismatches, run.problem, run.first) == (0, None, None)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_two_layers_write_what_the_specification_writes_in_the_schedules_cycles(network, config, builds, simulator):
    program = _program(network, config, LENGTH, 3)
    run = run_layer(config, program.instructions, Options(simulator, builds))
    assert _right(run) and run.writes > 2000
    assert list(run.durations) == [config.schedule.cycles(i) for i in program.instructions]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_stalls_and_a_reset_in_mid_layer_change_nothing(network, config, builds, simulator):
    program = _program(network, config, 7, 4)
    plain = run_layer(config, program.instructions, Options(simulator, builds))
    run = run_layer(config, program.instructions, Options(simulator, builds, stall_seed=5, reset_after=3000))
    assert _right(run) and run.resets == 1 and run.cycles > plain.cycles


def test_a_thousand_batches_of_every_length(network, config, builds):
    rng, checked = np.random.default_rng(0), 0
    for part in range(10):
        lengths = [3 + k % (LENGTH - 2) for k in range(100)]
        rng.shuffle(lengths)
        every = [_program(network, config, int(n), part * 100 + k) for k, n in enumerate(lengths)]
        instructions = [i for program in every for i in program.instructions]
        run = run_layer(config, instructions, Options("verilator", builds, stall_seed=part))
        assert _right(run)
        checked += len(every)
    assert checked == 1000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_program_is_named(network, config, builds, fault):
    key, kind, changes = FAULTS[fault]
    program = _program(network, config, LENGTH, LENGTH)
    wrong = _changed(program, key, kind, **changes)
    run = run_layer(config, wrong.instructions, Options("verilator", builds), program.instructions)
    assert run.mismatches and located(program, run).startswith(key)


def test_an_engine_with_one_unit_for_rows_is_as_right(network, builds):
    config = engine_for(network, LENGTH, 4, 1)
    run = run_layer(config, _program(network, config, 5, 6).instructions, Options("icarus", builds))
    assert _right(run)
