"""Units after placement and routing, beside the same netlists without wires: what of the savings survives?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.cache import CACHE
from cost_model.designs.design import Design, reference_unit
from cost_model.layout.layout import Layout, lay_out, require_programs
from cost_model.layout.lef import Lef
from cost_model.layout.placement import Core
from cost_model.measurement import activity, measure
from cost_model.netlist import timing
from cost_model.netlist.netlist import Netlist
from cost_model.netlist.synthesis import Flow
from cost_model.power.power import power
from cost_model.reports.equal_clock import stage_count
from cost_model.reports.paper import saving
from sim.reference import InputError

AGAINST = ("FP32", "INT32")
SAVED = ("area_um2", "power_w", "row_area_um2", "power_routed_w")  # without wires, and after routing


@dataclass(frozen=True)
class LayoutOptions:
    """How units are laid out: the LEF files, the rows, and the simulator whose toggles give power."""

    lef: Lef
    core: Core = field(default_factory=Core)
    simulator: str = "verilator"


def layout_rows(
    formats: Sequence[str], entries: int, flow: Flow, options: LayoutOptions, cache: Path = CACHE
) -> list[dict[str, Any]]:
    """A row for each format's reference unit at equal clock, with savings; shows a progress bar on stderr.

    Raises `InputError` if a tool is missing or the library has no delays.
    """
    if flow.period_s is None:
        raise InputError("--liberty must be a library with delays")
    require_programs()
    rows = []
    for number in tqdm(formats, unit="layout", disable=None):
        design = reference_unit(number, entries, stage_count("pwl", number, entries, flow, cache))
        rows.append({"unit": "pwl", "format": number, "entries": entries} | _row(design, flow, options, cache))
    by_format = {row["format"]: row for row in rows}
    return [row | _savings(row, by_format) for row in rows]


def _row(design: Design, flow: Flow, options: LayoutOptions, cache: Path) -> dict[str, Any]:
    assert flow.period_s is not None
    clock = 1 / flow.period_s
    measured = measure(design, flow, simulator=options.simulator, cache=cache)
    netlist = measured.synthesis.netlist
    laid = lay_out(netlist, options.lef, options.core, cache)
    toggles, verified = activity(design, netlist, options.simulator, cache)
    routed = power(laid.wired, toggles, verified)
    return {
        "library": netlist.library.name,
        "stages": design.stages,
        "clock_hz": clock,
        "cells": len(netlist.instances),
        "area_um2": measured.area,
        "lef_area_um2": laid.cell_area,
        "rows": laid.placement.rows,
        "row_area_um2": laid.placement.area,
        "wire_mm": laid.wires.length / 1000,
        "clock_wire_mm": _clock_wire(laid) / 1000,
        "wire_pf": sum(laid.wired.wires.values()) * 1e12,
        "vias": laid.wires.vias,
        "failed_nets": len(laid.wires.failed),
        "path_library_model_ns": _path(netlist, flow, cache),
        "path_no_wires_ns": _path(laid.without_wires, flow, cache),
        "path_routed_ns": _path(laid.wired, flow, cache),
        "power_w": measured.power.watts(clock),
        "power_routed_w": routed.watts(clock),
        "source": measured.synthesis.source | measured.power.source | {"lef_sha256": options.lef.sha256},
    }


def _path(netlist: Netlist, flow: Flow, cache: Path) -> float | None:
    """The shortest period in ns by OpenSTA; None if that is not installed."""
    if timing.tool() is None or flow.period_s is None:
        return None
    return round((flow.period_s - timing.analyse(netlist, flow, cache).slack_s) * 1e9, 3)


def _clock_wire(laid: Layout) -> float:
    clock = laid.netlist.ports["clk"][1][0]
    return sum(laid.wires.lengths.get(clock, {}).values()) if isinstance(clock, int) else 0.0


def _savings(row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """The shares of area and power that the unit saves of FP32's and INT32's, without and with wires."""
    found = {}
    for name in AGAINST:
        other = rows.get(name)
        for key in SAVED:
            compared = other is not None and other is not row
            found[f"{key.removesuffix('_um2').removesuffix('_w')}_saving_vs_{name.lower()}"] = (
                saving(row[key], other[key]) if compared and other is not None else None
            )
    return found
