"""A unit's emitted Verilog with inner wires brought to ports, so that proofs are about the text that users get.

A shown wire becomes an output, which changes nothing. A cut wire loses its driver and becomes an input: a proof about
the rest then holds for every value of the wire, and another proof is about the wire's driver.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from amaranth.back import verilog
from amaranth.lib import wiring

from rtl.emit import ports


@dataclass(frozen=True)
class Port:
    """A port of the module; `width` in bits."""

    name: str
    direction: str
    width: int
    signed: bool

    @property
    def shape(self) -> str:
        """The text before its name in a declaration."""
        return f"{'signed ' if self.signed else ''}[{self.width - 1}:0]"


@dataclass(frozen=True)
class Opened:
    """The text of a module `unit`, and its ports without `clk` and `rst`."""

    text: str
    ports: tuple[Port, ...]

    def __getitem__(self, name: str) -> Port:
        return next(port for port in self.ports if port.name == name)

    def shown(self, wires: Mapping[str, bool]) -> "Opened":
        """A copy with these wires (name to whether it is signed) as outputs."""
        unit = self
        for name, signed in wires.items():
            unit = unit._ported(name, "output", signed)
        return unit

    def cut(self, wires: Mapping[str, bool]) -> "Opened":
        """A copy with these wires (name to whether it is signed) as inputs, without their drivers."""
        unit = self
        for name, signed in wires.items():
            text = _once(rf"^  assign {name} = .*;\n", "", unit.text)
            unit = replace(unit, text=text)._ported(name, "input", signed)
        return unit

    def freed(self, wires: Mapping[str, bool]) -> "Opened":
        """A copy with these wires as outputs, whose gate outputs are replaced by an input `free_NAME`.

        Bits that are constants or bits of another wire keep their drivers.
        """
        unit = self.shown(wires)
        for name in wires:
            found = re.search(rf"^  assign {name} = \{{ (.*) \}};$", unit.text, re.M)
            if found is None:
                raise ValueError(f"{name} is not a list of wires")
            text, port = unit.text, Port(f"free_{name}", "input", _width(name, unit.text), False)
            for k, net in enumerate(re.findall(r"(\\\$\d+) ", found[1])):
                text = _once(rf"^  assign {re.escape(net)}  = .*;$", f"  assign {net}  = {port.name}[{k}];", text)
            line = f"  input {port.shape} {port.name};\nendmodule"
            unit = replace(unit, text=text)._listed(port, text.replace("endmodule", line, 1))
        return unit

    def _ported(self, name: str, direction: str, signed: bool) -> "Opened":
        port = Port(name, direction, _width(name, self.text), signed)
        line = f"  {direction} [{port.width - 1}:0] {name};\n"
        return self._listed(port, _once(_DECLARED.format(name), lambda found: line + found[0], self.text))

    def _listed(self, port: Port, text: str) -> "Opened":
        return Opened(_once(r"^module unit\(", f"module unit({port.name}, ", text), (*self.ports, port))


def opened(component: wiring.Component) -> Opened:
    """The component as a module `unit`, with no wire shown or cut."""
    text = verilog.convert(component, name="unit", emit_src=False, strip_internal_attrs=True)
    rows = [row for row in ports(component) if row["width"] and row["name"] not in ("clk", "rst")]
    named = tuple(Port(row["name"], row["direction"], row["width"], row["signed"]) for row in rows)
    return Opened(text + getattr(component, "verilog", ""), named)


_DECLARED = r"^  (?:reg|wire) (?:\[(\d+):0\] )?{}(?: = .*)?;$"


def _width(name: str, text: str) -> int:
    found = re.search(_DECLARED.format(re.escape(name)), text, re.M)
    if found is None:
        raise ValueError(f"{name} is not a wire of the unit")
    return int(found[1] or 0) + 1


def _once(pattern: str, by: str | Callable[[re.Match[str]], str], text: str) -> str:
    result, count = re.subn(pattern, by, text, flags=re.M)
    if count != 1:
        raise ValueError(f"{pattern} is {count} times in the unit")
    return result
