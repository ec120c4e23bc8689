"""Formats, points and spaces check themselves, and a point is its fields."""

import json
import re
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_model.explore.network_space import PAPERS, LayerFormat, NetworkPoint, NetworkSpace, papers
from sim.reference import InputError

FORMATS = st.builds(LayerFormat, st.sampled_from([2, 3, 4, 8]), st.sampled_from([4, 8]), st.none() | st.integers(1, 99))


@given(FORMATS)
def test_a_format_is_its_name(given) -> None:
    assert LayerFormat.parse(str(given)) == given


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("attention", "8", "a format must look like w8a8 or w4g64a8, not '8'"),
        ("fc1", "w5a8", "weights must be of 2, 3, 4 or 8 bits, not 5"),
        ("fc2", "w8a16", "inputs must be of 4 or 8 bits, not 16"),
        ("exp_entries", 1, "exp_entries must be in 2..64, not 1"),
        ("weights_in", "disk", "weights_in must be one of dram, sram, not 'disk'"),
        ("rows", 0, "rows must be in 1..1024, not 0"),
        ("acc_bits", 2, "acc_bits must be at least"),
    ],
)
def test_a_point_that_cannot_be_is_one_line(field: str, value: object, line: str) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        replace(NetworkPoint(), **{field: value})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=re.escape(line)):
        replace(NetworkSpace(), **{field: (value,)})  # pyright: ignore[reportArgumentType]


def test_a_point_is_found_again_from_its_row() -> None:
    point = NetworkPoint(fc2="w4g64a4", rows=8, weights_in="sram")
    assert NetworkPoint.from_row(json.loads(json.dumps({**asdict(point), "other": 1}))) == point
    assert point.network == NetworkPoint(fc2="w4g64a4") and point.digest != point.network.digest
    with pytest.raises(InputError, match="a point must have attention"):
        NetworkPoint.from_row({})


def test_a_space_has_every_combination_once_and_the_papers_points() -> None:
    space = NetworkSpace.from_dict({name: list(axis[:1]) for name, axis in NetworkSpace().axes.items()})
    assert space.size == 1 and list(space.points()) == [space.usual]
    space = replace(space, fc1=("w8a8", "w4a8"), weights_in=("dram", "sram"))
    assert len({point.digest for point in space.points()}) == space.size == 4
    assert len(papers(space)) == 2 * len(PAPERS)
    axes = NetworkSpace().axes
    for point in papers(NetworkSpace()).values():
        assert all(value in axes[name] for name, value in asdict(point).items())


@pytest.mark.parametrize(
    ("content", "line"),
    [({"size": [1]}, "unknown key 'size'"), ({"rows": 16}, "rows must be a list"), ({"rows": []}, "at least one")],
)
def test_a_space_that_cannot_be_is_one_line(content: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        NetworkSpace.from_dict(content)
