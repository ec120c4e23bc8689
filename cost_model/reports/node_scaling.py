"""Scaling from one technology node to another by published factors [1]_, and 28 nm anchored on one published point.

Nodes between those of the publication are interpolated on logarithmic axes.

References
----------
.. [1] A. Stillmaker and B. Baas, "Scaling equations for the accurate prediction of CMOS device performance from 180 nm
   to 7 nm", Integration 58 (2017), 74-81, doi 10.1016/j.vlsi.2017.02.002.
"""

from dataclasses import dataclass

import numpy as np

from cost_model.reports import paper
from sim.reference import InputError

SOURCE = "Stillmaker and Baas, Integration 58 (2017), doi 10.1016/j.vlsi.2017.02.002"
NODES_NM = (130, 90, 65, 45, 32, 20, 16, 14, 10, 7)
AREAS = (1, 0.44, 0.23, 0.16, 0.072, 0.033, 0.03, 0.027, 0.016, 0.0092)  # of one circuit, 130 nm = 1
# energy of one circuit at V volts, in the same unit for every node: a V^2 + b V + c
ENERGIES = (
    (7.171, -6.709, 2.904), (4.762, -4.781, 2.092), (3.755, -4.398, 1.975), (1.103, -0.362, 0.2767),
    (0.9559, -0.7823, 0.471), (0.373, -0.1582, 0.04104), (0.2958, -0.1241, 0.03024), (0.2363, -0.09675, 0.02239),
    (0.2068, -0.09311, 0.02375), (0.1776, -0.09097, 0.02447),
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A technology: feature size in nm, 7..130, and supply in V, 0.4..1.5."""

    nm: float
    voltage_v: float

    def __post_init__(self) -> None:
        if not NODES_NM[-1] <= self.nm <= NODES_NM[0]:
            raise InputError(f"node must be in {NODES_NM[-1]}..{NODES_NM[0]} nm, not {self.nm}")
        if not 0.4 <= self.voltage_v <= 1.5:
            raise InputError(f"voltage must be in 0.4..1.5 V, not {self.voltage_v}")

    @property
    def area(self) -> float:
        """The area of one circuit, 130 nm = 1."""
        return self._between(np.array(AREAS))

    @property
    def energy(self) -> float:
        """The energy of one circuit, in the publication's unit."""
        return self._between(np.array([np.polyval(row, self.voltage_v) for row in ENERGIES]))

    def _between(self, values: np.ndarray) -> float:
        nodes = np.log(np.array(NODES_NM[::-1], dtype=np.float64))
        return float(np.exp(np.interp(np.log(self.nm), nodes, np.log(values[::-1]))))


def area_factor(source: Node, target: Node) -> float:
    """The factor of an area from `source` to `target`."""
    return target.area / source.area


def energy_factor(source: Node, target: Node) -> float:
    """The factor of an energy per operation from `source` to `target`."""
    return target.energy / source.energy


IHP = Node(130, 1.2)
PAPER = Node(28, 0.9)


def anchored(areas: dict[str, float], energies_j: dict[str, float]) -> dict[str, paper.Published]:
    """Every format at 28 nm and 500 MHz, scaled so that FP32 is the paper's: the others are predictions."""
    published = paper.ROWS["FP32"]
    per_area = published.area / areas["FP32"]
    per_energy = published.power_w / energies_j["FP32"]
    return {name: paper.Published(areas[name] * per_area, energies_j[name] * per_energy) for name in areas}
