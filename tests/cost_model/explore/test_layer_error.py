"""The guess that orders candidates: it follows the bits, agrees with what is measured, and is in no row."""

from dataclasses import replace
from typing import Any

import pytest

from cost_model.explore.layer_error import agreement, first_generation, guess
from cost_model.explore.network_space import NetworkPoint, NetworkSpace
from tests.cost_model.explore.toy import Toy

WIDE = NetworkSpace(attention=("w8a8", "w4g16a8", "w2g16a8"), fc1=("w8a8", "w8a4"), fc2=("w8a8", "w4a8"))


def test_fewer_bits_are_guessed_to_err_more_and_other_fields_change_nothing() -> None:
    plain = guess(Toy(), NetworkPoint())
    for name in ("attention", "fc1", "fc2"):
        chosen: list[dict[str, Any]] = [{name: text} for text in ("w8a8", "w4g16a8", "w2g16a8")]
        errors = [guess(Toy(), NetworkPoint(**fields)).error for fields in chosen]
        assert plain.error == errors[0] < errors[1] < errors[2]
    assert guess(Toy(), NetworkPoint(fc1="w8a4")).bit_products < plain.bit_products
    assert guess(Toy(), replace(NetworkPoint(), columns=8, exp_entries=4)) == plain


def test_the_first_generation_is_of_the_space_and_no_candidate_beats_its_first_point() -> None:
    points = first_generation(Toy(), WIDE, 6, seed=1)
    assert points == first_generation(Toy(), WIDE, 6, seed=1) != first_generation(Toy(), WIDE, 6, seed=2)
    assert len({point.digest for point in points}) == 6 and all(WIDE.holds(point) for point in points)
    first, *others = [guess(Toy(), point) for point in points]
    assert not any(other.error < first.error and other.bit_products < first.bit_products for other in others)


def test_the_agreement_is_one_where_the_errors_are_ordered_as_guessed_and_refused_points_do_not_count() -> None:
    pytest.importorskip("pandas", reason="the extra explore")
    points = [NetworkPoint(attention=text, columns=c) for text in WIDE.attention for c in (8, 16)]
    rows = [{**vars(p), "refused": None, "error_cosine": guess(Toy(), p).error ** 2} for p in points]
    found = agreement(Toy(), [*rows, {**rows[0], "refused": "no", "error_cosine": None}])
    assert found == {"model": "toy", "networks": 3, "rank_correlation": pytest.approx(1.0)}
    upside_down = [{**row, "error_cosine": -row["error_cosine"]} for row in rows]
    assert agreement(Toy(), upside_down)["rank_correlation"] == pytest.approx(-1.0)
