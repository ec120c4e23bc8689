"""The engine's figures in the documents, from `results/layer.json` and `results/engine.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

IN_ROWS = ("normalise", "quantise", "probabilities")


def cost(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines of the table of an engine's sizes."""
    headings = ["row units", "cycles", "array busy", "gate equivalents", "units, mm²", "memories, mm²", "µJ"]
    lines = []
    for row in rows:
        totals = row["totals"]
        lines.append(
            [
                str(row["row_units"]), f"{totals['cycles']:,}", f"{100 * totals['utilisation']:.1f} %",
                f"{totals['area_ge']:,.0f}", f"{totals['area_units_mm2']:.2f}", f"{totals['area_memories_mm2']:.1f}",
                f"{totals['energy'] * 1e6:,.0f}",
            ]
        )  # fmt: skip
    return headings, lines


def sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What `cost_model/README.md` says of the engine with the fewest row units that keep the array busy for 85 %."""
    row = next(row for row in rows if row["totals"]["utilisation"] >= 0.85)
    kinds, totals = row["kinds"], row["totals"]
    products = [kind for kind in kinds if kind["kind"].startswith("multiply")]
    filling = sum(kind["cycles"] - kind["busy_cycles"] for kind in products)
    waits = sum(kind["cycles"] for kind in kinds if kind["kind"] in IN_ROWS)
    words = sum(kind["cycles"] for kind in kinds if kind["kind"] in ("add", "map"))
    writes = sum(kind["cycles"] for kind in kinds if kind["kind"] == "writes of tables")
    share = {name: f"{100 * cycles / totals['cycles']:.1f} %" for name, cycles in (
        ("waits", waits), ("words", words), ("writes", writes), ("filling", filling)
    )}  # fmt: skip
    memory = next(bank for bank in row["memories"] if bank["name"] == "memory")
    other = next(other for other in rows if other["row_units"] != row["row_units"])
    further = (totals["area_ge"] - other["totals"]["area_ge"]) / (row["row_units"] - other["row_units"])
    energy = row["energy_by_part"]
    moved = energy["memory"] + energy["accumulators"] + energy["rows, gains and biases"]
    return [
        f"{row['tokens']} tokens, on {row['lanes']} lanes, in SG13G2 at {row['clock_hz'] / 1e6:.0f} MHz",
        f"With {row['row_units']} row units the array works in {100 * totals['utilisation']:.1f} % of the cycles",
        f"It waits for the row units in {share['waits']} of all cycles, for sums and tables in {share['words']}, and "
        f"for tables to be written in {share['writes']}; to load its first weights and to drain costs it "
        f"{share['filling']}",
        f"A further row unit takes {further:,.0f} gate equivalents",
        f"{memory['area_um2'] * 1e-6:.0f} mm² of it are the memory of {memory['words']:,} words",
        f"of which the network uses {row['words_used']:,}",
        f"An inference takes {totals['energy'] * 1e3:.1f} mJ, {totals['energy_per_token'] * 1e6:.0f} µJ a token: "
        f"{energy['elements'] * 1e3:.1f} mJ in processing elements, {moved * 1e3:.1f} in memories and "
        f"{energy['outside'] * 1e3:.1f} for what comes from outside",
    ]
