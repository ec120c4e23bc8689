"""The hardware table: the paper's records beside ours, each figure with its source.

A record is in long form; savings compare records of the same view, library and number of entries. `multiplier` is "own
tree" for units with the product of `rtl.blocks.multiplication`, else what synthesis makes of a `*`. The record of each
format's reference unit is marked. Further records show INT8 with a fixed output shift, in latches, and wired in.
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
from cost_model.measurement import measure
from cost_model.netlist.synthesis import Flow
from cost_model.reports import paper
from cost_model.reports.equal_clock import stage_count
from cost_model.reports.paper import saving
from sim.common.worker import end_with_parent

Record = dict[str, Any]
COLUMNS = (
    "unit", "format", "entries", "view", "library", "stages", "storage", "multiplier", "reference", "area", "area_unit",
    "power_w", "switching_proxy", "clock_hz", "area_saving_vs_fp32", "area_saving_vs_int32", "power_saving_vs_fp32",
    "power_saving_vs_int32", "source",
)  # fmt: skip
ENTRIES = (8, 16)
BESIDE: tuple[dict[str, Any], ...] = ({"output_shift_fixed": True}, {"storage": "latches"}, {"storage": "constants"})


@dataclass(frozen=True)
class Entry:
    """The design of one record: a unit in a format."""

    unit: str
    format: str
    entries: int | None
    changes: tuple[tuple[str, Any], ...] = ()

    def possible(self, flow: Flow) -> bool:
        """Whether the library has the cells: a table in latches needs a latch of known area."""
        return dict(self.changes).get("storage") != "latches" or flow.library.latch is not None

    def design(self, flow: Flow, cache: Path = CACHE) -> Design:
        """The design at the depth of equal clock in a flow."""
        stages = stage_count(self.unit, self.format, self.entries or 0, flow, cache)
        if self.unit == "element":
            return element_design(self.format, stages)
        assert self.entries is not None
        return reference_unit(self.format, self.entries, stages, **dict(self.changes))


def entries(numbers: Sequence[int] = ENTRIES, elements: bool = True) -> list[Entry]:
    """The table's records, in order."""
    found = [Entry("pwl", name, n) for n in numbers for name in FORMATS]
    found += [Entry("pwl", "INT8", n, tuple(changes.items())) for n in numbers for changes in BESIDE]
    return found + ([Entry("element", name, None) for name in ELEMENTS] if elements else [])


def measured_record(entry: Entry, flow: Flow, clock_hz: float, simulator: str, cache: Path) -> Record:
    """One record, its savings not yet filled in."""
    design = entry.design(flow, cache)
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


def records(
    flows: Sequence[tuple[Flow, float]],
    wanted: Sequence[Entry],
    simulator: str = "verilator",
    cache: Path = CACHE,
    jobs: int = 1,
) -> list[Record]:
    """The paper's records and ours, with savings; shows a progress bar on stderr.

    `flows` are the libraries, each with its clock in Hz; what one of them has no cells for is left out.
    """
    work = [(entry, flow, clock) for flow, clock in flows for entry in wanted if entry.possible(flow)]
    call = partial(_measured, simulator=simulator, cache=cache)
    if jobs == 1:
        ours = list(tqdm(map(call, work), total=len(work), unit="record", disable=None))
    else:
        with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
            ours = list(tqdm(pool.map(call, work), total=len(work), unit="record", disable=None))
    return with_savings([*paper_records(), *ours, *scaled_records(ours), *analytical_records(ours)])


def _measured(work: tuple[Entry, Flow, float], simulator: str, cache: Path) -> Record:
    return measured_record(*work, simulator, cache)


def paper_records() -> list[Record]:
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
            "area": record.area,
            "area_unit": "um2",
            "power_w": record.power_w,
            "switching_proxy": None,
            "clock_hz": paper.CLOCK_HZ,
            "source": {"publication": paper.SOURCE},
        }
        for name, record in paper.ROWS.items()
    ]


def scaled_records(ours: Sequence[Record]) -> list[Record]:
    """28 nm: the physical libraries' reference units, scaled so that FP32 is the paper's; the rest are predictions."""
    found = []
    records = [r for r in ours if r["reference"] and r["entries"] == paper.ENTRIES and r["power_w"] is not None]
    for name in dict.fromkeys(record["library"] for record in records):
        mine = {record["format"]: record for record in records if record["library"] == name}
        if "FP32" not in mine:
            continue
        areas = {number: record["area"] for number, record in mine.items()}
        scaled = paper.anchored(areas, {number: record["power_w"] for number, record in mine.items()})
        for number, record in mine.items():
            source = {"anchor": f"FP32 of {paper.SOURCE}", "netlist_sha256": record["source"]["netlist_sha256"]}
            figures = {"area": scaled[number].area, "power_w": scaled[number].power_w, "clock_hz": paper.CLOCK_HZ}
            found.append({**record, "view": "28 nm", "library": f"{name} at 28 nm", **figures, "source": source})
    return found


def analytical_records(ours: Sequence[Record]) -> list[Record]:
    """The analytical model's records beside the synthesised ones, if it has coefficients for the library.

    Widths above 24 bits are extrapolated: the space has them, but no point that was drawn.
    """
    found = []
    known = analytical.coefficients()["libraries"]
    for record in ours:
        priced = record["reference"] or record["unit"] == "element"
        if not priced or record["library"] not in known or record["source"]["multiplier"] != "tree":
            continue
        cost = analytical.estimate(_kind(record), library=record["library"], **_parameters(record)).total
        physical = known[record["library"]]["physical"]
        figures = {
            "area": float(cost.area_m2) * 1e12 if physical else float(cost.area_ge),
            "power_w": float(cost.energy_j) * record["clock_hz"] + float(cost.leakage_w) if physical else None,
            "switching_proxy": None if physical else float(cost.proxy),
        }
        source = {"model": "cost_model/data/coefficients.json", "extrapolated": record["format"] == "INT32"}
        found.append({**record, "view": "analytical", **figures, "source": source})
    return found


def _kind(record: Record) -> str:
    return ("fp-" if record["format"].startswith("FP") else "") + record["unit"]


def _parameters(record: Record) -> dict[str, Any]:
    number, stages = record["format"], record["stages"]
    if number.startswith("FP"):
        of = FLOAT_FORMATS[number]
        shape = {"exponent_bits": of.exponent_bits, "fraction_bits": of.fraction_bits, "stages": stages}
        return shape | ({"entries": record["entries"]} if record["unit"] == "pwl" else {"wide_sum": number == "FP16"})
    if record["unit"] == "pwl":
        return {"entries": record["entries"], "in_bits": INTEGER_FORMATS[number], "stages": stages}
    weight, activation = INTEGER_ELEMENTS[number]
    return {"rows": 16, "weight_bits": weight, "activation_bits": activation}


def with_savings(found: Sequence[Record]) -> list[Record]:
    """The records with the four savings against the reference records of their own view, library and entries."""

    def group(record: Record) -> tuple[Any, ...]:
        return record["unit"], record["entries"], record["view"], record["library"]

    def spent(record: Record) -> float | None:
        return record["power_w"] if record["power_w"] is not None else record["switching_proxy"]

    done = []
    for record in found:
        against = {
            other["format"]: other
            for other in found
            if group(other) == group(record) and (other["reference"] or other["unit"] == "element")
        }
        filled = dict(record)
        for name in ("FP32", "INT32"):
            other = against.get(name)
            compared = None if other is None or other is record else other
            area = None if compared is None else saving(record["area"], compared["area"])
            power = None if compared is None else saving(spent(record), spent(compared))
            filled |= {f"area_saving_vs_{name.lower()}": area, f"power_saving_vs_{name.lower()}": power}
        done.append({**{key: filled[key] for key in COLUMNS[:-1]}, **_rest(filled), "source": filled["source"]})
    return done


def _rest(record: Record) -> Record:
    return {"output_shift_fixed": record["output_shift_fixed"]}
