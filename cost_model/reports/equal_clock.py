"""Equal clock: the pipeline stages with which each format meets the flow's period, recorded or searched for."""

from pathlib import Path

from cost_model.cache import CACHE
from cost_model.designs.design import FLOAT_FORMATS, FORMATS, reference_unit
from cost_model.designs.processing_element import element_design
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow
from sim.cosim.dut import Device

DEEPEST = dict(zip(FORMATS, (7, 7, 7, 12, 13), strict=True))
DEEPEST_MAC = {"FP16": 8, "FP32": 10}


def stage_count(unit: str, number: str, entries: int, flow: Flow, cache: Path = CACHE) -> int:
    """The fewest stages of a unit that meet the flow's period.

    They are the recorded ones if these hold for the flow, its library has no delays, or OpenSTA is not installed (see
    `unchecked`); otherwise they are counted.

    Raises `InputError` if even the deepest pipeline is too slow.
    """
    if unit == "element" and number not in FLOAT_FORMATS:
        return 1
    start = timing.recorded(unit, number, entries)["stages"]
    if flow.period_s is None or timing.recorded_for(flow) or timing.tool() is None:
        return start
    return count(unit, number, entries, flow, start, cache)[0]


def count(
    unit: str, number: str, entries: int, flow: Flow, start: int, cache: Path = CACHE
) -> tuple[int, timing.Timing]:
    """The fewest stages that meet the period, searched for from `start`, and their timing."""

    def make(stages: int) -> Device:
        design = element_design(number, stages) if unit == "element" else reference_unit(number, entries, stages)
        return design.device

    deepest = (DEEPEST_MAC if unit == "element" else DEEPEST)[number]
    return timing.fewest_stages(make, flow, start, deepest, cache)


def unchecked(flow: Flow) -> str | None:
    """A warning if the clock of a table in this flow was not checked, else None."""
    if flow.period_s is None or timing.recorded_for(flow) or timing.tool() is not None:
        return None
    return (
        f"warning: library {flow.library.name} at {flow.period_s * 1e9:g} ns: the clock was not checked; the stages "
        "are those recorded for another library or period, and OpenSTA, which counts them anew, is not installed"
    )
