"""The table of rows that a person reads."""

from typing import Any

from ga_search.paper import released_mse
from sim.common.text_table import format_table

COLUMNS = (
    "function", "N", "method", "λ", "μ", "MSE full", "released", "MSE inside", "released",
    "gap", "max ULP·step", "correct", "seconds",
)  # fmt: skip


def table_text(rows: list[dict[str, Any]]) -> str:
    """A table with one line for each row, then the notes."""
    text = [
        format_table(COLUMNS, [_cells(row) for row in rows]),
        "",
        "MSE on the accumulator, mean over scales; gap = objective's MSE over the proven optimum's at any λ, μ;",
        "released = the tables published with GQA-LUT (DIV and RSQRT: coefficients wider than 8 bits).",
    ]
    for row in rows:
        name = f"{row['function']}-{row['entries']}-{row['method']}"
        text += [f"note: {name}: {note}" for note in row["notes"]]
        if row["lint"]:
            more = len(row["lint"]) - 1
            text.append(f"lint: {name}: {row['lint'][0]}" + (f" (+{more} more)" if more else ""))
    return "\n".join(text)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    released = released_mse(row) or (None, None)
    return (
        row["function"],
        str(row["entries"]),
        row["method"],
        str(row["slope_frac_bits"]),
        str(row["intercept_frac_bits"]),
        _figure(row["mse_full"], ".2e"),
        _figure(released[0], ".2e"),
        _figure(row["mse_inside"], ".2e"),
        _figure(released[1], ".2e"),
        _figure(row["gap"], ".4f"),
        _figure(row["max_ulp"], ".2f") + f"·2^{-row['output_scale']}",
        _figure(row["correctly_rounded"], ".1%"),
        _figure(row["seconds"], ".2f"),
    )


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
