"""How the paper's four savings change with one factor, all else as in the reference units at equal clock."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE
from cost_model.designs.design import Design, PwlOptions, pwl_design, reference_unit
from cost_model.measurement import BIT_PARALLEL, Measured, measure
from cost_model.netlist.synthesis import Flow
from cost_model.power.power import PowerParameters
from cost_model.reports import paper
from cost_model.reports.equal_clock import stage_count
from cost_model.reports.paper import saving

FORMATS = ("INT8", "FP32", "INT32")
Record = dict[str, Any]


@dataclass(frozen=True)
class Factor:
    """One change: `design(format, stages)` makes the unit, `flow` maps it, `parameters` are those of power."""

    factor: str
    value: str
    design: Callable[[str, int], Design] = lambda number, stages: reference_unit(number, paper.ENTRIES, stages)
    flow: Callable[[Flow], Flow] = lambda flow: flow
    parameters: PowerParameters = field(default_factory=PowerParameters)


def _changed(**changes: Any) -> Callable[[str, int], Design]:
    return lambda number, stages: reference_unit(number, paper.ENTRIES, stages, **changes)


def _fixed_shift(number: str, stages: int) -> Design:
    changes = {"output_shift_fixed": True} if number.startswith("INT") else {}
    return reference_unit(number, paper.ENTRIES, stages, **changes)


def _full_shifts(number: str, stages: int) -> Design:
    changes = {"full_shifts": True} if number.startswith("INT") else {}
    return reference_unit(number, paper.ENTRIES, stages, **changes)


def _narrow(bits: int) -> Callable[[str, int], Design]:
    def design(number: str, stages: int) -> Design:
        if number == "INT32":
            return pwl_design(PwlOptions(paper.ENTRIES, 32, bits, 32, stages))
        return reference_unit(number, paper.ENTRIES, stages)

    return design


def _no_stalls(number: str, stages: int) -> Design:
    return replace(reference_unit(number, paper.ENTRIES, stages), stalls=False)


def _at(depth: Callable[[int], int]) -> Callable[[str, int], Design]:
    return lambda number, stages: reference_unit(number, paper.ENTRIES, depth(stages))


def _int8_in(depth: int) -> Callable[[str, int], Design]:
    return lambda number, stages: reference_unit(number, paper.ENTRIES, depth if number == "INT8" else stages)


FACTORS = (
    Factor("reference", "equal clock"),
    Factor("pipeline depth", "one stage more", _at(lambda stages: stages + 1)),
    Factor("pipeline depth", "3 stages each", _at(lambda stages: 3)),
    Factor("pipeline depth", "INT8 in 3 stages", _int8_in(3)),
    Factor("pipeline depth", "INT8 in 4 stages", _int8_in(4)),
    Factor("multiplier", "the synthesiser's", _changed(own_tree=False)),
    Factor(
        "multiplier", "the synthesiser's, Booth", _changed(own_tree=False), lambda f: replace(f, multiplier="booth")
    ),
    Factor("table storage", "latches", _changed(storage="latches")),
    Factor("table storage", "wired in", _changed(storage="constants")),
    Factor("shifters", "output shift fixed", _fixed_shift),
    Factor("shifters", "every shift of the width", _full_shifts),
    Factor("stall logic", "none", _no_stalls),
    Factor("INT32 coefficients", "24 bits", _narrow(24)),
    Factor("INT32 coefficients", "16 bits", _narrow(16)),
    Factor("mapping", "for area alone", flow=lambda flow: replace(flow, period_s=None)),
    Factor("wires", "2 fF per pin", parameters=PowerParameters(wire_load_f=2e-15)),
    Factor("glitches", "1.5 in logic", parameters=PowerParameters(glitches=1.5)),
    Factor("clock", "80 % gated", parameters=PowerParameters(gated=0.8)),
    Factor("activity", "a beat in 4 cycles", parameters=PowerParameters(activity=0.25)),
)


def record(factor: Factor, flow: Flow, clock_hz: float, cache: Path = CACHE) -> Record:
    """The savings with one factor changed; toggles are from the bit-parallel evaluation."""
    found: dict[str, Measured] = {}
    mapped = factor.flow(flow)
    for number in FORMATS:
        stages = stage_count("pwl", number, paper.ENTRIES, flow, cache)
        found[number] = measure(factor.design(number, stages), mapped, factor.parameters, BIT_PARALLEL, False, cache)

    def spent(measured: Measured) -> float:
        return measured.power.watts(clock_hz) if measured.power.physical else measured.power.energy

    result: Record = {"factor": factor.factor, "value": factor.value, "library": flow.library.name}
    for number in FORMATS[1:]:
        result[f"area_saving_vs_{number.lower()}"] = saving(found["INT8"].area, found[number].area)
    for number in FORMATS[1:]:
        result[f"power_saving_vs_{number.lower()}"] = saving(spent(found["INT8"]), spent(found[number]))
    return result | {
        "stages": {number: measured.design.stages for number, measured in found.items()},
        "area": {number: measured.area for number, measured in found.items()},
        "power": {number: spent(measured) for number, measured in found.items()},
        "netlists": {number: measured.synthesis.netlist.sha256[:16] for number, measured in found.items()},
    }


def applies(factor: Factor, flow: Flow) -> bool:
    """Whether a factor applies to a library: wires need a voltage, periods need delays."""
    return flow.library.has_energies or factor.factor not in ("mapping", "wires")
