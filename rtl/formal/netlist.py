"""A gate-level netlist simulated for many faults at once: every net is a Python integer with one bit per copy."""

import json
from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from typing import Any

_GATES = {
    "$_BUF_": "{A}",
    "$_NOT_": "M ^ {A}",
    "$_AND_": "{A} & {B}",
    "$_OR_": "{A} | {B}",
    "$_XOR_": "{A} ^ {B}",
    "$_NAND_": "M ^ ({A} & {B})",
    "$_NOR_": "M ^ ({A} | {B})",
    "$_XNOR_": "M ^ {A} ^ {B}",
    "$_ANDNOT_": "{A} & (M ^ {B})",
    "$_ORNOT_": "{A} | (M ^ {B})",
    "$_MUX_": "{A} ^ (({A} ^ {B}) & {S})",
}


class Netlist:
    """`copies` instances of a flat netlist of two-input gates and rising-edge flip-flops, from the JSON of Yosys.

    Ports are set and read as lists of integers, one per bit, lowest first; bit k of each integer belongs to copy k.
    Flip-flops start at 0.
    """

    def __init__(self, text: str, top: str, copies: int) -> None:
        self.all = (1 << copies) - 1
        module = json.loads(text)["modules"][top]
        self.ports: dict[str, list[Any]] = {name: port["bits"] for name, port in module["ports"].items()}
        self._inputs = {name for name, port in module["ports"].items() if port["direction"] == "input"}
        cells = [
            (cell["type"], {p: bits[0] for p, bits in cell["connections"].items()}) for cell in module["cells"].values()
        ]
        self._flops = [(pins["C"], pins["D"], pins["Q"]) for kind, pins in cells if kind == "$_DFF_P_"]
        gates = {pins["Y"]: (kind, pins) for kind, pins in cells if kind != "$_DFF_P_"}
        self._net: dict[Any, int] = {"0": 0, "1": self.all, "x": 0}
        for bits in [*self.ports.values(), *self._flops]:
            self._net |= {bit: 0 for bit in bits if isinstance(bit, int)}
        self._settle = self._compile(gates)
        self._held: list[tuple[Any, int]] = []

    def stop_clocks(self) -> None:
        """From now on hold each flip-flop in the copies in which its clock pin does not follow `clk`."""
        levels = zip(self._flops, self._clock_pins(0), self._clock_pins(1), strict=True)
        self._held = [(q, self.all ^ low ^ high) for (_, _, q), low, high in levels if low ^ high != self.all]

    def _clock_pins(self, level: int) -> list[int]:
        self.drive(clk=level)
        self.settle()
        return [self._net[c] for c, _, _ in self._flops]

    def _compile(self, gates: dict[int, tuple[str, dict[str, Any]]]) -> Callable[[dict[Any, int], int], None]:
        """One straight-line function for all gates, inputs before outputs."""
        order = TopologicalSorter({y: [b for p, b in pins.items() if p != "Y"] for y, (_, pins) in gates.items()})
        seen = {bit for bits in [*self.ports.values(), *self._flops] for bit in bits if isinstance(bit, int)}
        lines, local = [], set()
        for bit in order.static_order():
            if bit in gates:
                kind, pins = gates[bit]
                named = {p: f"n{b}" if b in local else f"N[{b!r}]" for p, b in pins.items() if p != "Y"}
                lines.append(f" n{bit} = {_GATES[kind].format(**named)}")
                local.add(bit)
        lines += [f" N[{bit}] = n{bit}" for bit in local & seen]
        scope: dict[str, Any] = {}
        exec("def settle(N, M):\n" + "\n".join([*lines, " return"]), scope)
        return scope["settle"]

    def drive(self, **values: int | list[int]) -> None:
        """Set inputs: an integer is one value for all copies, a list has one integer per bit."""
        for name, value in values.items():
            bits = self.ports[name]
            if name not in self._inputs:
                raise ValueError(f"{name} is not an input of the netlist")
            lanes = value if isinstance(value, list) else [self.all * (value >> k & 1) for k in range(len(bits))]
            self._net.update(zip(bits, lanes, strict=True))

    def settle(self) -> None:
        """Let the gates follow the inputs and the flip-flops."""
        self._settle(self._net, self.all)

    def read(self, name: str) -> list[int]:
        """A port's bits in all copies."""
        return [self._net[bit] for bit in self.ports[name]]

    def clock(self) -> None:
        """One rising edge."""
        net = self._net
        held = [(q, copies, net[q]) for q, copies in self._held]
        net.update([(q, net[d]) for _, d, q in self._flops])
        for q, copies, value in held:
            net[q] ^= (net[q] ^ value) & copies


def differ(bits: Iterable[int], everywhere: int) -> int:
    """A mask of the copies in which any bit differs from copy 0."""
    result = 0
    for bit in bits:
        result |= bit ^ (everywhere if bit & 1 else 0)
    return result


def of_copy_0(bits: Iterable[int]) -> int:
    """The unsigned value in copy 0."""
    return sum((bit & 1) << k for k, bit in enumerate(bits))
