"""Where a program's cycles go: for each kind of instruction, beside those that its unit alone would need."""

from collections.abc import Mapping, Sequence
from typing import Any

from rtl.layer.config import EngineConfig
from sim.common.text_table import format_table
from sim.reference import engine as hardware
from sim.reference.engine import Instruction, Walk


def cycles_by_kind(
    config: EngineConfig, program: Sequence[Instruction], durations: Sequence[int], cycles: int
) -> list[dict[str, Any]]:
    """A row for each kind of instruction: how many, their `cycles`, the unit's own `busy_cycles`, their `share`.

    `durations` are the cycles of each instruction and `cycles` those of the whole run. The rest are the writes of
    tables, gains and biases, the last row. As instructions run one by one, the array waits while any other runs.
    """
    rows: dict[str, dict[str, Any]] = {}
    for instruction, duration in zip(program, durations, strict=True):
        row = rows.setdefault(_kind(instruction), {"instructions": 0, "cycles": 0, "busy_cycles": 0})
        row["instructions"] += 1
        row["cycles"] += int(duration)
        row["busy_cycles"] += config.schedule.busy_cycles(instruction)
    rest = cycles - sum(row["cycles"] for row in rows.values())
    rows["writes of tables"] = {"instructions": rest, "cycles": rest, "busy_cycles": rest}
    return [{"kind": kind, **row, "share": round(row["cycles"] / cycles, 4)} for kind, row in rows.items()]


def cycles_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table."""
    cells = [(r["kind"], r["instructions"], r["cycles"], r["busy_cycles"], f"{r['share']:.1%}") for r in rows]
    return format_table(("kind", "instructions", "cycles", "of its unit alone", "share"), cells)


def _kind(instruction: Instruction) -> str:
    name = type(instruction).__name__.lower()
    if isinstance(instruction, hardware.Multiply):
        return f"{name}, weights from {'memory' if isinstance(instruction.weights, Walk) else 'outside'}"
    return name
