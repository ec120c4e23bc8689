"""SRAM macros from their Liberty files: words, bits, area, and the energy of a read and of a write.

The energy is that of the clock's edges with the port's enables set, an access inside the macro. That of toggling
addresses and data, which depends on what is accessed, is left out.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cost_model.cells.liberty import Group, parse
from sim.common.files import read_text
from sim.reference import InputError

PICOJOULE = 1e-12  # the unit of internal power in these files: pF * V^2
ENABLES = {"read": ("MEN", "!WEN", "REN"), "write": ("MEN", "WEN", "!REN")}


@dataclass(frozen=True)
class Macro:
    """A memory of `words` of `bits`.

    Parameters
    ----------
    name : str
        Of the cell.
    words, bits, ports : int
        Its shape.
    area_um2 : float
        Of the macro.
    read_j, write_j : float
        Energy of one access of a whole word in J.
    liberty_sha256 : str
        Of the file.
    """

    name: str
    words: int
    bits: int
    ports: int
    area_um2: float
    read_j: float
    write_j: float
    liberty_sha256: str

    @property
    def size(self) -> int:
        """In bits."""
        return self.words * self.bits


def load(path: Path) -> Macro:
    """The macro of a Liberty file. Raises `InputError` if it holds no memory, or gives no energy of an access."""
    text = read_text(path)
    for cell in parse(text, str(path)).of_kind("cell"):
        for memory in cell.of_kind("memory"):
            clocks = [pin for pin in cell.of_kind("pin") if re.fullmatch(r"[AB]_CLK", pin.arguments[0])]
            if not clocks:
                raise InputError(f"{path}: must have a pin A_CLK")
            return Macro(
                cell.arguments[0], 1 << int(memory.get("address_width")), int(memory.get("word_width")), len(clocks),
                float(cell.get("area")), _energy(clocks[0], "read", path), _energy(clocks[0], "write", path),
                hashlib.sha256(text.encode()).hexdigest(),
            )  # fmt: skip
    raise InputError(f"{path}: must hold a cell with a memory")


def _energy(clock: Group, access: str, path: Path) -> float:
    port = clock.arguments[0][0]
    wanted = sorted(name.replace("!", f"!{port}_") if name[0] == "!" else f"{port}_{name}" for name in ENABLES[access])
    for group in clock.of_kind("internal_power"):
        if sorted(re.findall(r"!?\w+", group.get("when"))) == wanted:
            return sum(_value(edge) for edge in group.of_kind("rise_power", "fall_power")) * PICOJOULE
    raise InputError(f"{path}: gives no energy of a {access}")


def _value(edge: Group) -> float:
    values: Any = edge.get("values")
    return float(values)
