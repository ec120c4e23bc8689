"""Common parts of the rowwise units: tables behind one write port, and descriptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring

from rtl.blocks import storage
from rtl.pwl import PwlConfig, Word, build_table
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable
from sim.reference.row_cycles import RowSchedule

ROWS_RANGE = (1, 64)
LISTS = 3  # of a table
STALL = (
    "All registers of the unit move together, in a cycle where o__valid is 0 or o__ready is 1; otherwise none moves. "
    "i__ready is 1 in a cycle that moves, except before a row's first element while parameters.rows rows are inside; "
    "it depends on o__ready within the cycle. While o__valid is 1 and o__ready is 0, o__payload is stable."
)
RESET = (
    "rst is synchronous and active high. It empties the unit: rows inside, whole or in part, and any beat offered "
    "while it is high are dropped, o__valid is 0 from the next cycle on, and the next element taken begins a row. Data "
    "registers, memories and tables keep their content."
)


def with_stages(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `stages` as a tuple, which JSON has as a list."""
    return {key: tuple(value) if key == "stages" else value for key, value in fields.items()}


def check_stages(stages: Sequence[int], most: Sequence[int]) -> None:
    """Raise `InputError` unless there is a depth for each pipeline, of at most as many stages as it has steps."""
    if len(stages) != len(most):
        raise InputError(f"stages must be {len(most)} depths, not {len(stages)}")
    for k, (depth, limit) in enumerate(zip(stages, most, strict=True)):
        require_range(f"stages[{k}]", depth, 1, limit)


def table_port(tables: Sequence[PwlConfig], lists: int = 0, length: int = 1, bits: int = 1) -> wiring.Signature:
    """One write port for all tables and `lists` further lists of up to `length` words of `bits`."""
    entries = max(length, *(table.entries for table in tables))
    data_bits = max(bits, *(table.data_bits for table in tables))
    return storage.port(entries, data_bits, LISTS * len(tables) + lists)


def build_part(
    m: Module, name: str, table: PwlConfig, position: int, write: Any, latch_cell: str
) -> list[storage.Words]:
    """The words of the table at `position` of the port `write`, in a module of its own."""
    m.submodules[name] = own = Module()
    if table.storage != "constants":
        write = storage.part(own, write, LISTS * position, LISTS)
    return build_table(own, table, write, latch_cell)


def words(tables: Sequence[tuple[PwlConfig, LoweredTable]]) -> list[Word]:
    """The writes that load `tables`, in load order."""
    return [
        Word(LISTS * k + word.select, word.address, word.data)
        for k, (config, lowered) in enumerate(tables)
        for word in config.words(lowered)
    ]


def describe_shape(table: PwlConfig) -> dict[str, Any]:
    """A table's geometry."""
    shifts = {f"max_{name}": table.largest(name) for name in ("intercept_shift", "output_shift")}
    return {"entries": table.entries, **table.code_format.to_dict(), "acc_bits": table.acc_bits, **shifts}


def rings(row_length: int, delays: Sequence[int], widths: Sequence[int]) -> list[tuple[str, int, int]]:
    """(path in the unit, words, bits) of the memory of each pass, as `rtl.rowwise.passes` builds it."""
    both = enumerate(zip(delays, widths, strict=True))
    return [(f"pass_{k}.ring", row_length + delay, bits) for k, (delay, bits) in both]


def describe_memories(memories: Sequence[tuple[str, int, int]]) -> dict[str, Any]:
    """The unit's memories as (path in the unit, words, bits), for its description."""
    return {"memories": [{"name": name, "words": words, "bits": bits} for name, words, bits in memories]}


def describe(
    schedule: RowSchedule, style: str, lists: Sequence[tuple[str, int, int, bool]], streams: dict[str, str]
) -> dict[str, Any]:
    """Cycles, what the streams carry, and how stored lists are loaded, for a unit's description."""
    passes, latency, least = schedule.passes, schedule.latency, schedule.unlimited
    cycles = (
        f"E elements in rows of at most M: E + {passes} * M + {latency}, from the first element's being taken to the "
        f"last result's, both included, where nothing stalls and no row waits because {schedule.rows} are inside: "
    )
    cycles += "each waits for one before" if least is None else f"rows of one length never do from {least} elements on"
    loading = {} if style == "constants" else {"table": storage.describe(style, lists, "tables and further inputs")}
    return {
        "latency": latency,
        "interval": 1,
        "cycles": cycles,
        "streams": streams,
        "schedule": {"delays": list(schedule.delays), "ways": list(schedule.ways), "rows": schedule.rows},
        **loading,
    }
