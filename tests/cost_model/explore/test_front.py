"""The front by its definition, over random points, and its bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_model.explore.front import mark, nondominated
from sim.reference import InputError

POINTS = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.tuples(*[st.integers(0, 3)] * k), min_size=1, max_size=8)
)  # few values, so that many are equal


@given(POINTS)
def test_a_point_is_on_the_front_exactly_if_no_other_is_nowhere_worse_and_somewhere_better(points) -> None:
    beats = lambda a, b: all(x <= y for x, y in zip(a, b, strict=True)) and a != b  # noqa: E731
    assert nondominated(np.array(points)).tolist() == [not any(beats(a, b) for a in points) for b in points]


def test_a_point_without_a_figure_is_not_on_the_front() -> None:
    rows = mark([{"a": 1.0, "b": 2}, {"a": None, "b": 0}, {"a": 2.0, "b": 2}], ["a", "b"])
    assert [row["on_front"] for row in rows] == [True, False, False]


def test_an_unknown_objective_is_one_line() -> None:
    with pytest.raises(InputError, match="objective 'c' is no column; there are a"):
        mark([{"a": 1}], ["c"])
    assert mark([], []) == []
