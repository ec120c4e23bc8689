"""A report of evaluated points as one HTML file that needs no network: a plot, filters, a table, a picked point.

`report.html` beside this file is the page; its script draws what is put into it as JSON.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.common.files import read_text, write_whole
from sim.reference import InputError

PAGE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Report:
    """What a page says besides its rows.

    Parameters
    ----------
    title, origin : str
        Headings: what the points are, and which command measured them on what.
    objectives : tuple of str
        Columns of the front; the first is the plot's y axis, the second its x axis.
    command : str
        Builds a point: the word POINT in it stands for the point's digest.
    filters : tuple of str
        Columns with a choice of their values.
    breakdowns : mapping
        A title to the columns that add up to it.
    hidden : tuple of str
        Columns that the table leaves out.
    """

    title: str
    origin: str
    objectives: tuple[str, ...]
    command: str
    filters: tuple[str, ...] = ()
    breakdowns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    def page(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """The HTML. The same rows give the same bytes.

        Raises
        ------
        InputError
            If there is no row, or a row lacks `point` or an objective.
        """
        if not rows:
            raise InputError("a report needs at least one point")
        for name in ("point", "on_front", "label", *self.objectives):
            if any(name not in row for row in rows):
                raise InputError(f"each point of a report must have {name!r}")
        columns = dict.fromkeys(("point", "label", "on_front", *self.objectives, *rows[0]))
        content = {
            "origin": self.origin, "objectives": self.objectives, "command": self.command,
            "filters": [name for name in self.filters if len({str(row[name]) for row in rows}) > 1],
            "breakdowns": self.breakdowns, "columns": [c for c in columns if c not in self.hidden], "rows": rows,
        }  # fmt: skip
        # "<" cannot end the script in this form, whatever a name holds
        text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
        head, tail = read_text(PAGE).replace("__TITLE__", html.escape(self.title)).split("__DATA__")
        return head + text + tail

    def write(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write the page, whole or not at all."""
        return write_whole(path, self.page(rows))
