"""Memories of a machine: area and energy of SRAM from macros, and the energy of DRAM from the literature.

`data/memories.json` has the macros of IHP SG13G2, from `python -m cost_model memories`. A memory is made of one kind of
macro, as many as its bits need: that with the least product of area and energy for each bit. Only the macro that
is accessed spends energy. The macros' files give no leakage (it says 0), so none is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cost_model.network.traffic import Traffic
from sim.common.errors import require_range
from sim.common.results import read_results
from sim.reference import InputError

MEMORIES = Path(__file__).parents[1] / "data" / "memories.json"
DRAM_J = 1.3e-9 / 64  # of a bit
DRAM_SOURCE = "M. Horowitz, Computing's energy problem, ISSCC 2014: 1.3 to 2.6 nJ for 64 bits; the lower figure"
PLACES = ("dram", "sram")


@dataclass(frozen=True)
class Sram:
    """A kind of memory: the area of a bit in um2, and the energy of reading and writing it in J; a macro's bits."""

    macro: str
    size: int
    area_um2: float
    read_j: float
    write_j: float

    def area(self, bits: int) -> float:
        """In um2, of as many whole macros as hold the bits."""
        return -(-bits // self.size) * self.size * self.area_um2


@lru_cache(maxsize=4)
def sram(ports: int) -> Sram:
    """The memory of one or two ports with the least product of area and energy."""
    kinds = [
        Sram(row["name"], size, row["area_um2"] / size, row["read_j"] / row["bits"], row["write_j"] / row["bits"])
        for row in read_results(MEMORIES)["rows"]
        if row["ports"] == ports and (size := row["words"] * row["bits"])
    ]
    return min(kinds, key=lambda kind: kind.area_um2 * (kind.read_j + kind.write_j))


@dataclass(frozen=True)
class Memories:
    """The memories beside a machine's units.

    Parameters
    ----------
    weights : str
        Where the weights are between inferences, "dram" or "sram".
    stored_bits : int
        Of the whole model.
    buffer_bits : int
        Of activations that wait at once.
    row_bits : int
        In the units for rows.
    accumulator_bits : int
        Of all accumulators of the array; their memory has two ports.

    Raises
    ------
    InputError
        If a field is out of its range.
    """

    weights: str
    stored_bits: int
    buffer_bits: int
    row_bits: int
    accumulator_bits: int

    def __post_init__(self) -> None:
        if self.weights not in PLACES:
            raise InputError(f"weights must be in one of {', '.join(PLACES)}, not {self.weights!r}")
        for name in ("stored_bits", "buffer_bits", "row_bits", "accumulator_bits"):
            require_range(name, getattr(self, name), 0, 1 << 50)

    @property
    def area_um2(self) -> float:
        """Of all memories on the chip."""
        single = [self.buffer_bits, self.row_bits, *([self.stored_bits] if self.weights == "sram" else [])]
        return sum(sram(1).area(bits) for bits in single) + sram(2).area(self.accumulator_bits)

    @property
    def on_chip_bits(self) -> int:
        """The bits of all memories on the chip."""
        weights = self.stored_bits if self.weights == "sram" else 0
        return self.buffer_bits + self.row_bits + self.accumulator_bits + weights

    def energy(self, moved: Sequence[Traffic]) -> Mapping[str, float]:
        """The energy in J of what the sites move, on the chip and from DRAM."""
        buffer, accumulators = sram(1), sram(2)
        total = {key: sum(getattr(t, key) for t in moved) for key in ("read", "written", "weights", "accumulated")}
        on_chip = total["read"] * buffer.read_j + total["written"] * buffer.write_j
        on_chip += total["accumulated"] * (accumulators.read_j + accumulators.write_j)
        if self.weights == "sram":
            return {"sram": on_chip + total["weights"] * buffer.read_j, "dram": 0.0}
        return {"sram": on_chip, "dram": total["weights"] * DRAM_J}


def sources() -> dict[str, Any]:
    """The sources of the energies."""
    return {
        "sram": [sram(ports).macro for ports in (1, 2)],
        "file": "cost_model/data/memories.json",
        "dram": DRAM_SOURCE,
    }
