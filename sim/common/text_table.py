"""Aligned text tables."""

import re
from collections.abc import Sequence
from typing import Any

_NUMBER = re.compile(r"[-+]?[\d.][\d.,]*([eE][-+]?\d+)?(%|·2\^-?\d+)?")  # 0.77·2^-4: in steps of 2^-4


def format_table(headings: Sequence[str], records: Sequence[Sequence[Any]]) -> str:
    """Headings, a rule, and one line for each record.

    Parameters
    ----------
    headings : sequence of str
        One for each column.
    records : sequence of sequences
        The cells: text as it is, a float with four significant digits, None as "-", anything else by `str`.

    Returns
    -------
    str
        Lines without trailing spaces and without a closing line break. A column of numbers is aligned to the right, any
        other to the left.
    """
    cells = [[_text(value) for value in record] for record in records]
    columns = [[line[k] for line in cells] for k in range(len(headings))]
    widths = [max(map(len, (heading, *column))) for heading, column in zip(headings, columns, strict=True)]
    right = [all(text in ("-", "") or _NUMBER.fullmatch(text) for text in column) for column in columns]

    def line(texts: Sequence[str]) -> str:
        aligned = zip(texts, widths, right, strict=True)
        return "  ".join(t.rjust(width) if number else t.ljust(width) for t, width, number in aligned).rstrip()

    return "\n".join([line(headings), "  ".join("-" * width for width in widths), *map(line, cells)])


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
