"""Measured points of the declared space: what `cost_model.calibration.design_space` draws, synthesised and simulated in
a library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.cache import CACHE
from cost_model.calibration.design_space import Point, design
from cost_model.measure import BIT_PARALLEL, measure
from cost_model.netlist.synthesis import Flow

Row = dict[str, Any]


def measured_row(point: Point, flow: Flow, cache: Path = CACHE) -> Row:
    """Area in the library's unit, energies per cycle and leakage in W, of one point; its netlist passed its vectors."""
    found = measure(design(point), flow, None, BIT_PARALLEL, False, cache)
    power = found.power
    return {
        "point": point,
        "area": found.area,
        "logic": power.logic,
        "registers": power.registers,
        "clock": power.clock,
        "leakage_w": power.leakage_w,
        "netlist_sha256": found.synthesis.netlist.sha256,
    }


def measured_rows(points: Sequence[Point], flow: Flow, cache: Path = CACHE) -> list[Row]:
    """A row for each point, with a bar on stderr."""
    return [measured_row(point, flow, cache=cache) for point in tqdm(points, unit="unit", desc=flow.library.name)]
