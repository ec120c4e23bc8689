"""The hardware table: the paper's rows beside ours, each figure with its source.

A row is in long form; savings compare rows of one view, library and number of entries. `multiplier` is "own tree" for
units whose product is `rtl.blocks.multiplication`'s, else what the synthesiser makes of a `*`. The reference unit's row
of each format is marked; the rows beside it show INT8 with its output shift fixed, in latches, and wired in.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.analytical import estimate as analytical
from cost_model.cache import CACHE
from cost_model.designs.design import FLOAT_FORMATS, FORMATS, INTEGER_FORMATS, Design, reference_unit
from cost_model.designs.processing_element import ELEMENTS, INTEGER_ELEMENTS, element_design
from cost_model.measure import measure
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow
from cost_model.reports import node_scaling as technology
from cost_model.reports import paper
from cost_model.reports.paper import saving

Row = dict[str, Any]
COLUMNS = (
    "unit", "format", "entries", "view", "library", "stages", "storage", "multiplier", "reference", "area", "area_unit",
    "power_w", "switching_proxy", "clock_hz", "area_saving_vs_fp32", "area_saving_vs_int32", "power_saving_vs_fp32",
    "power_saving_vs_int32", "source",
)  # fmt: skip
ENTRIES = (8, 16)
BESIDE: tuple[dict[str, Any], ...] = ({"output_shift_fixed": True}, {"storage": "latches"}, {"storage": "constants"})


@dataclass(frozen=True)
class Entry:
    """What makes a row: a unit in a format, as the table asks for it."""

    unit: str
    format: str
    entries: int | None
    changes: tuple[tuple[str, Any], ...] = ()

    def design(self) -> Design:
        """At the recorded depth of equal clock."""
        if self.unit == "element":
            stages = 1 if self.format in INTEGER_ELEMENTS else timing.recorded("element", self.format, 0)["stages"]
            return element_design(self.format, stages)
        assert self.entries is not None
        stages = timing.recorded("pwl", self.format, self.entries)["stages"]
        return reference_unit(self.format, self.entries, stages, **dict(self.changes))


def entries(numbers: Sequence[int] = ENTRIES, elements: bool = True) -> list[Entry]:
    """The table's rows, in order."""
    found = [Entry("pwl", name, n) for n in numbers for name in FORMATS]
    found += [Entry("pwl", "INT8", n, tuple(changes.items())) for n in numbers for changes in BESIDE]
    return found + ([Entry("element", name, None) for name in ELEMENTS] if elements else [])


def measured_row(entry: Entry, flow: Flow, clock_hz: float, simulator: str, cache: Path) -> Row:
    """One row, its savings not yet filled in."""
    design = entry.design()
    found = measure(design, flow, None, simulator, False, cache).row(clock_hz)
    changes = dict(entry.changes)
    return {
        "unit": entry.unit,
        "format": entry.format,
        "entries": entry.entries,
        "view": "synthesised",
        "library": found["library"],
        "stages": design.stages,
        "storage": changes.get("storage", "flops") if entry.unit == "pwl" else None,
        "multiplier": flow.multiplier if entry.format in INTEGER_ELEMENTS else "own tree",
        "reference": entry.unit == "pwl" and not changes,
        "output_shift_fixed": bool(changes.get("output_shift_fixed")) or changes.get("storage") == "constants",
        "area": found["area"],
        "area_unit": found["area_unit"],
        "power_w": found["power_w"],
        "switching_proxy": found["switching_proxy"],
        "clock_hz": found["clock_hz"],
        "source": found["source"],
    }


def rows(
    flows: Sequence[Flow],
    clock_hz: float,
    wanted: Sequence[Entry],
    simulator: str = "verilator",
    cache: Path = CACHE,
    jobs: int = 1,
) -> list[Row]:
    """The paper's rows and ours, savings filled in; a bar on stderr."""
    work = [(entry, flow) for flow in flows for entry in wanted]
    call = partial(_measured, clock_hz=clock_hz, simulator=simulator, cache=cache)
    if jobs == 1:
        ours = list(tqdm(map(call, work), total=len(work), unit="row", disable=None))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            ours = list(tqdm(pool.map(call, work), total=len(work), unit="row", disable=None))
    return with_savings([*paper_rows(), *ours, *scaled_rows(ours), *analytical_rows(ours)])


def _measured(work: tuple[Entry, Flow], clock_hz: float, simulator: str, cache: Path) -> Row:
    return measured_row(*work, clock_hz, simulator, cache)


def paper_rows() -> list[Row]:
    """The published figures."""
    blank = dict(stages=None, storage=None, multiplier=None, reference=True, output_shift_fixed=False)
    return [
        {
            "unit": "pwl",
            "format": name,
            "entries": paper.ENTRIES,
            "view": "paper",
            "library": "TSMC 28 nm",
            **blank,
            "area": row.area,
            "area_unit": "um2",
            "power_w": row.power_w,
            "switching_proxy": None,
            "clock_hz": paper.CLOCK_HZ,
            "source": {"publication": paper.SOURCE},
        }
        for name, row in paper.ROWS.items()
    ]


def scaled_rows(ours: Sequence[Row]) -> list[Row]:
    """28 nm: the physical libraries' reference units, scaled so that FP32 is the paper's; the rest are predictions."""
    found = []
    rows = [r for r in ours if r["reference"] and r["entries"] == paper.ENTRIES and r["power_w"] is not None]
    for name in dict.fromkeys(row["library"] for row in rows):
        mine = {row["format"]: row for row in rows if row["library"] == name}
        if "FP32" not in mine:
            continue
        areas = {number: row["area"] for number, row in mine.items()}
        scaled = technology.anchored(areas, {number: row["power_w"] for number, row in mine.items()})
        for number, row in mine.items():
            source = {"anchor": f"FP32 of {paper.SOURCE}", "netlist_sha256": row["source"]["netlist_sha256"]}
            figures = {"area": scaled[number].area, "power_w": scaled[number].power_w, "clock_hz": paper.CLOCK_HZ}
            found.append({**row, "view": "28 nm", "library": f"{name} at 28 nm", **figures, "source": source})
    return found


def analytical_rows(ours: Sequence[Row]) -> list[Row]:
    """The analytical model's rows beside the synthesised ones, where it has coefficients of the library.

    Widths above 16 bits lie outside the space it was calibrated on.
    """
    found = []
    known = analytical.coefficients()["libraries"]
    for row in ours:
        priced = row["reference"] or row["unit"] == "element"
        if not priced or row["library"] not in known or row["source"]["multiplier"] != "tree":
            continue
        cost = analytical.estimate(_kind(row), library=row["library"], **_parameters(row)).total
        physical = known[row["library"]]["physical"]
        figures = {
            "area": float(cost.area_m2) * 1e12 if physical else float(cost.area_ge),
            "power_w": float(cost.energy_j) * row["clock_hz"] + float(cost.leakage_w) if physical else None,
            "switching_proxy": None if physical else float(cost.proxy),
        }
        source = {"model": "cost_model/data/coefficients.json", "extrapolated": row["format"] == "INT32"}
        found.append({**row, "view": "analytical", **figures, "source": source})
    return found


def _kind(row: Row) -> str:
    return ("fp-" if row["format"].startswith("FP") else "") + row["unit"]


def _parameters(row: Row) -> dict[str, Any]:
    number, stages = row["format"], row["stages"]
    if number.startswith("FP"):
        of = FLOAT_FORMATS[number]
        shape = {"exponent_bits": of.exponent_bits, "fraction_bits": of.fraction_bits, "stages": stages}
        return shape | ({"entries": row["entries"]} if row["unit"] == "pwl" else {"wide_sum": number == "FP16"})
    if row["unit"] == "pwl":
        return {"entries": row["entries"], "in_bits": INTEGER_FORMATS[number], "stages": stages}
    weight, activation = INTEGER_ELEMENTS[number]
    return {"rows": 16, "weight_bits": weight, "activation_bits": activation}


def with_savings(found: Sequence[Row]) -> list[Row]:
    """The rows with the four savings against the reference rows of their own view, library and entries."""

    def group(row: Row) -> tuple[Any, ...]:
        return row["unit"], row["entries"], row["view"], row["library"]

    def spent(row: Row) -> float | None:
        return row["power_w"] if row["power_w"] is not None else row["switching_proxy"]

    done = []
    for row in found:
        against = {
            other["format"]: other
            for other in found
            if group(other) == group(row) and (other["reference"] or other["unit"] == "element")
        }
        filled = dict(row)
        for name in ("FP32", "INT32"):
            other = against.get(name)
            compared = None if other is None or other is row else other
            area = None if compared is None else saving(row["area"], compared["area"])
            power = None if compared is None else saving(spent(row), spent(compared))
            filled |= {f"area_saving_vs_{name.lower()}": area, f"power_saving_vs_{name.lower()}": power}
        done.append({**{key: filled[key] for key in COLUMNS[:-1]}, **_rest(filled), "source": filled["source"]})
    return done


def _rest(row: Row) -> Row:
    return {"output_shift_fixed": row["output_shift_fixed"]}
