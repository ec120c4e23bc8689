"""Tables of one function side by side, and the codes where their outputs differ."""

from pathlib import Path
from typing import Any

import numpy as np

from ga_search.exchange import function_of, table_output_scale
from ga_search.grid import Codes
from ga_search.metrics import table_errors
from sim.common.text_table import format_table
from sim.reference import InputError, PwlTable


def compare(paths: list[Path], own: str | None = None) -> list[dict[str, Any]]:
    """A row per table, measured on the scales that all share; `differing_codes` counts against the first table."""
    tables = [PwlTable.load(path) for path in paths]
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        for key in ("function", "in_bits", "in_signed"):
            if getattr(table, key) != getattr(first, key):
                raise InputError(
                    f"{path}: {key} must be {getattr(first, key)!r} as in {paths[0]}, not {getattr(table, key)!r}"
                )
    scales = tuple(s for s in first.scales if all(s in t.scales for t in tables))
    if not scales:
        raise InputError("the tables have no scale in common")
    codes = Codes(first.in_bits, first.in_signed, scales)
    function = function_of(first, own)
    scale_out = table_output_scale(first, function)
    rows = []
    for path, table in zip(paths, tables, strict=True):
        errors = table_errors(table, function, codes, "full")
        rows.append(
            {
                "table": str(path),
                "sha256": table.digest,
                "entries": table.entries,
                "scales": list(scales),
                "slope_frac_bits": table.slope_frac_bits,
                "intercept_frac_bits": table.intercept_frac_bits,
                "mse_full": errors.mse_full,
                "mse_inside": errors.mse_inside,
                "max_ulp": errors.max_ulp,
                "correctly_rounded": errors.correctly_rounded,
                "codes": len(scales) * len(codes.all()),
                "differing_codes": _differing(first, table, codes, scale_out),
            }
        )
    return rows


def compare_text(rows: list[dict[str, Any]]) -> str:
    """A table with one line for each row."""
    head = ("table", "hash", "N", "λ", "μ", "MSE full", "MSE inside", "max ULP", "correct", "differing codes")
    lines = []
    for row in rows:
        ulp = "-" if row["max_ulp"] is None else f"{row['max_ulp']:.2f}"
        correct = "-" if row["correctly_rounded"] is None else f"{row['correctly_rounded']:.1%}"
        lines.append(
            (
                row["table"], row["sha256"][:12], row["entries"], row["slope_frac_bits"], row["intercept_frac_bits"],
                f"{row['mse_full']:.3e}", f"{row['mse_inside']:.3e}", ulp, correct,
                f"{row['differing_codes']} of {row['codes']}",
            )
        )  # fmt: skip
    return f"{format_table(head, lines)}\nmeasured on scales {rows[0]['scales']}, domain of the first"


def _differing(one: PwlTable, other: PwlTable, codes: Codes, scale_out: int) -> int:
    """Codes over all scales whose output code differs at the same output scale."""
    count = 0
    for scale in codes.scales:
        possible = min(t.slope_frac_bits for t in (one, other)) + scale
        out = [t.lower(scale, min(scale_out, possible)).output(codes.all()) for t in (one, other)]
        count += int(np.count_nonzero(out[0] != out[1]))
    return count
