"""The cycle formula: closed where rows are not limited, the recursion everywhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.reference.row_cycles import RowSchedule

depths = st.integers(2, 20)
schedules = st.integers(1, 3).flatmap(
    lambda passes: st.builds(
        RowSchedule,
        *[st.lists(depths, min_size=passes, max_size=passes).map(tuple)] * 2,
        rows=st.integers(1, 64),
    )
)


@given(schedules, st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_rows_in_any_order_take_their_elements_and_the_longest_row_for_each_pass(schedule, lengths):
    free = RowSchedule(schedule.delays, schedule.ways, rows=len(lengths))
    closed = sum(lengths) + free.passes * max(lengths) + free.latency
    assert free.cycles(lengths) == closed <= schedule.cycles(lengths)


@given(schedules, st.integers(1, 60), st.integers(1, 90))
def test_rows_of_one_length_are_unlimited_exactly_from_the_stated_length_on(schedule, length, count):
    closed = count * length + schedule.passes * length + schedule.latency
    limited = schedule.cycles([length] * count) > closed
    if count > schedule.rows:
        assert limited == (schedule.unlimited is None or length < schedule.unlimited)
    else:
        assert not limited


def test_more_rows_inside_keep_short_rows_from_waiting_behind_long_ones():
    lengths = np.random.default_rng(0).integers(1, 129, 2000).tolist()

    def lost(delays, ways, rows):
        return round(RowSchedule(delays, ways, rows).cycles(lengths) / sum(lengths) - 1, 3)

    softmax, norm = ((2, 7), (5, 3)), ((9,), (6,))  # at their default depths
    assert [lost(*softmax, rows) for rows in (4, 8)] == [0.115, 0.003]
    assert [lost(*norm, rows) for rows in (4, 8)] == [0.009, 0.001]


def test_a_row_alone():
    schedule = RowSchedule((3, 5), (4, 2), rows=4)
    # in 0..9; leaves the first memory in 12..21, enters the second in 16..25 and leaves it in 30..39, results in 32..41
    assert schedule.cycles([10]) == 42 == 10 + 2 * 10 + schedule.latency
