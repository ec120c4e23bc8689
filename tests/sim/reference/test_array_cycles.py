"""The closed cycle formula against a count that walks through every cycle, and against SCALE-Sim's formula."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.array_cycles import Schedule


def walked(schedule: Schedule, tokens: int, inputs: int, outputs: int, passes: int) -> int:
    """Cycles counted one by one: take the job, load, then slots that end when beats, rows and accumulators are done."""
    cycle = 1 + schedule.rows
    last_beat = 0
    for _ in range(0, outputs, schedule.columns):
        for block in range(0, tokens, schedule.depth):
            size = min(schedule.depth, tokens - block)
            k = 0
            while k < inputs:  # a tile: as many inputs as there are rows, up to the group's border
                border = inputs if schedule.group is None else (k // schedule.group + 1) * schedule.group
                k = min(k + schedule.rows, border, inputs)
                for step in range(max(passes * size, schedule.rows, 2)):
                    last_beat = cycle if step < passes * size else last_beat
                    cycle += 1
    return last_beat + schedule.latency + 1


@settings(deadline=None)
@given(
    st.builds(
        Schedule, st.integers(1, 5), st.integers(1, 5), st.integers(1, 7), st.none() | st.integers(1, 9),
        st.integers(3, 12),
    ),
    st.integers(1, 15), st.integers(1, 20), st.integers(1, 11), st.integers(1, 2),
)  # fmt: skip
def test_the_closed_formula_equals_a_walk_through_every_cycle(schedule, tokens, inputs, outputs, passes):
    assert schedule.cycles(tokens, inputs, outputs, passes) == walked(schedule, tokens, inputs, outputs, passes)


@given(st.integers(1, 9), st.none() | st.integers(1, 20), st.integers(1, 60))
def test_tiles_cover_the_inputs_once_and_never_straddle_a_group_border(rows, group, inputs):
    tiles = Schedule(rows, 1, 1, group, 1).input_tiles(inputs)
    assert [k for first, end in tiles for k in range(first, end)] == list(range(inputs))
    for first, end in tiles:
        assert 0 < end - first <= rows
        assert group is None or first // group == (end - 1) // group


def scale_sim(rows: int, columns: int, tokens: int, inputs: int, outputs: int) -> int:
    """The analytical run time of SCALE-Sim for weights that stay (Samajdar et al., ISPASS 2020)."""
    return (2 * rows + columns + tokens - 2) * -(-inputs // rows) * -(-outputs // columns)


def test_one_tile_takes_scale_sim_s_time_and_the_registers_that_the_model_has_not():
    for rows, columns, tokens in ((16, 16, 128), (8, 32, 40), (4, 4, 9)):
        schedule = Schedule(rows, columns, 128, None, latency=rows + columns + 3)
        assert schedule.cycles(tokens, rows, columns) == scale_sim(rows, columns, tokens, rows, columns) + 3 + 3


def test_more_tiles_overlap_what_scale_sim_lets_follow():
    schedule = Schedule(16, 16, 512, None, latency=36)
    assert schedule.cycles(512, 512, 512) == 1024 * 512 + 16 + 36 + 1
    assert scale_sim(16, 16, 512, 512, 512) == 1024 * (512 + 46)


def test_512_cubed_keeps_at_least_97_percent_of_the_multipliers_busy_load_and_drain_included():
    for depth, passes in ((32, 1), (128, 1), (512, 1), (128, 2)):
        assert Schedule(16, 16, depth, None, latency=40).utilisation(512, 512, 512, passes) > 0.9998


def test_a_schedule_or_a_job_that_cannot_be_is_refused():
    good: dict[str, Any] = {"rows": 4, "columns": 4, "depth": 8, "group": None, "latency": 12}
    for change in ({"rows": 0}, {"columns": -1}, {"depth": 0}, {"group": 0}, {"latency": 0}, {"rows": 2.5}):
        with pytest.raises(InputError, match=f"{next(iter(change))} must be "):
            Schedule(**(good | change))
    for job in ((0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (1, 1, 1, 3)):
        with pytest.raises(InputError, match=r"(tokens|inputs|outputs|passes) must be in"):
            Schedule(**good).cycles(*job)


def test_groups_shorter_than_the_rows_and_few_tokens_cost_what_the_formula_says():
    assert Schedule(64, 16, 128, 32, latency=90).utilisation(512, 512, 512) < 0.5  # half of the rows are idle
    assert Schedule(16, 16, 128, None, latency=36).utilisation(1, 512, 512) < 1 / 16  # one token: rows must be loaded


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 500), st.integers(1, 2))
def test_an_interval_and_its_loads_are_those_of_the_blocks_one_by_one(rows, depth, tokens, passes):
    schedule = Schedule(rows, 3, depth, 4, 5)
    blocks = schedule.blocks(tokens)
    tiles = 3 * len(schedule.input_tiles(11))
    assert schedule.interval(tokens, 11, 7, passes) == 1 + rows + tiles * sum(
        schedule.period(b, passes) for b in blocks
    )
    assert schedule.tiles(tokens, 11, 7) == tiles * len(blocks)
