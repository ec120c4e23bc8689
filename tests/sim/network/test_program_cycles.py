"""Where a program's cycles go."""

from rtl.layer.config import EngineConfig
from sim.network.program_cycles import cycles_by_kind
from tests.rtl.layer.small import NORM, SOFTMAX, every_instruction


def test_the_rows_of_every_kind_add_up_to_the_run_and_none_is_quicker_than_its_unit():
    config = EngineConfig(SOFTMAX, NORM, lanes=4, words=64, row_units=2, max_tokens=5, max_inputs=8)
    program = every_instruction(config)
    durations = [config.schedule.cycles(instruction) for instruction in program]
    rows = cycles_by_kind(config, program, durations, sum(durations) + 9)
    assert sum(row["cycles"] for row in rows) == sum(durations) + 9 and rows[-1]["cycles"] == 9
    assert sum(row["instructions"] for row in rows) == len(program) + 9
    assert all(0 < row["busy_cycles"] <= row["cycles"] for row in rows)
    array = [row["busy_cycles"] for row in rows if row["kind"].startswith("multiply")]
    assert len(array) == 2 and sum(array) == config.schedule.products(program)
