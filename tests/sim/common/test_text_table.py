"""Aligned tables."""

from sim.common.text_table import format_table


def test_numbers_are_aligned_to_the_right_and_text_to_the_left():
    records = [["gelu", 8, 1.0843e-05, "90.3%", None], ["hswish", 16, 5.0, "100%", "see below"]]
    assert format_table(["function", "N", "MSE", "correct", "note"], records).splitlines() == [
        "function   N        MSE  correct  note",
        "--------  --  ---------  -------  ---------",
        "gelu       8  1.084e-05    90.3%  -",
        "hswish    16          5     100%  see below",
    ]


def test_a_table_without_records_is_its_headings():
    assert format_table(["a", "bc"], []) == "a  bc\n-  --"
