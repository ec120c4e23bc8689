"""Where a unit keeps its table: flip-flops, latches, or wires.

A table is three lists of words (0 thresholds, 1 slopes, 2 intercepts). They are written one word at a time through a
port `en`, `select`, `address`, `data`; an address or a selection that does not exist writes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Shape, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

STYLES = ("flops", "latches", "constants")
SETTLE = {"flops": 1, "latches": 2}  # cycles from a write to the first beat that it serves
Words = list[Value]


def port(entries: int, data_bits: int, lists: int = 3) -> wiring.Signature:
    """The write port of a table, as its writer sees it: lists of up to `entries` words of up to `data_bits` bits."""
    return wiring.Signature(
        {
            "en": Out(1),
            "select": Out(range(lists)),
            "address": Out(range(entries)),
            "data": Out(unsigned(data_bits)),
        }
    )


def part(m: Module, write: wiring.PureInterface, first: int, count: int) -> wiring.PureInterface:
    """The write port of one table of several: the port's lists from `first` on, as lists 0 to `count - 1`."""
    own = port(1 << len(write.address), len(write.data), count).create(path=("write",))
    m.d.comb += [
        own.en.eq(write.en & (write.select >= first) & (write.select < first + count)),
        own.select.eq(write.select - first),
        own.address.eq(write.address),
        own.data.eq(write.data),
    ]
    return own


def describe(style: str, lists: Sequence[tuple[str, int, int, bool]], quasi_static: str) -> dict[str, Any]:
    """How a stored table with lists of (name, count, bits, signed) is loaded, for a unit's description."""
    return {
        "load_order": [
            {"list": name, "select": select, "count": count, "bits": bits, "signed": sign}
            for select, (name, count, bits, sign) in enumerate(lists)
        ],
        "write": "one word per clock with table__en at 1; the word is the low bits of table__data",
        "settle_cycles": SETTLE[style],
        "quasi_static": f"{quasi_static} must not change with beats in flight: drain first",
    }


def constants(lists: Sequence[tuple[str, Shape, Sequence[int]]]) -> list[Words]:
    """The words of (name, shape, values) as wires."""
    return [[Const(value, shape) for value in values] for _, shape, values in lists]


def flops(m: Module, write: wiring.PureInterface, lists: Sequence[tuple[str, Shape, int]]) -> list[Words]:
    """A register for each word of (name, shape, count); a word can be read in the cycle after it was written.

    Words have no reset: a table survives a reset, and a word that was never written is undefined.
    """
    result = []
    for select, (name, shape, count) in enumerate(lists):
        words: Words = []
        for address in range(count):
            word = Signal(shape, name=f"{name}_{address}", reset_less=True)
            with m.If(write.en & (write.select == select) & (write.address == address)):
                m.d.sync += word.eq(write.data)
            words.append(word)
        result.append(words)
    return result


def latches(m: Module, write: wiring.PureInterface, lists: Sequence[tuple[str, Shape, int]], cell: str) -> list[Words]:
    """A latch for each word of (name, shape, count); a word can be read in the second cycle after it was written.

    The port is registered at the rising edge, and the word's gate is open in the low half of the following cycle. The
    data register moves at the falling edge, when a gate opens, and not at the rising edge, when it closes: data is
    stable when a gate closes, and the address moves only while every gate is closed. `cell` names the module with ports
    `gate`, `d` and `q`, whose text is `latch_verilog(cell)`.
    """
    m.domains.falling = ClockDomain(clk_edge="neg", local=True, reset_less=True)
    m.d.comb += ClockSignal("falling").eq(ClockSignal())
    en = Signal(reset_less=True)
    select = Signal.like(write.select, reset_less=True)
    address = Signal.like(write.address, reset_less=True)
    taken = Signal.like(write.data, name="data_taken", reset_less=True)
    data = Signal.like(write.data, name="data_held", reset_less=True)
    m.d.sync += [en.eq(write.en), select.eq(write.select), address.eq(write.address), taken.eq(write.data)]
    m.d.falling += data.eq(taken)
    result = []
    for choice, (name, shape, count) in enumerate(lists):
        words: Words = []
        for k in range(count):
            word = Signal(shape, name=f"{name}_{k}")
            gate = Signal(name=f"gate_{name}_{k}")
            m.d.comb += gate.eq(~ClockSignal() & en & (select == choice) & (address == k))
            m.submodules[f"latch_{name}_{k}"] = Instance(
                cell, p_WIDTH=shape.width, i_gate=gate, i_d=data[: shape.width], o_q=word
            )
            words.append(word)
        result.append(words)
    return result


class StoringUnit(wiring.Component):
    """A component with a table, kept as `config.storage` says; `latch_cell` names the module of a latched word."""

    def __init__(self, config: Any, ports: Mapping[str, Any], latch_cell: str) -> None:
        self.config = config
        self.latch_cell = latch_cell
        super().__init__(dict(ports))

    @property
    def verilog(self) -> str:
        """The text of the modules that the emitted Verilog needs beside the unit's own."""
        return latch_verilog(self.latch_cell) if self.config.storage == "latches" else ""


def latch_verilog(cell: str) -> str:
    """The module of one latched word."""
    return f"""
/* One table word: q follows d while gate is 1 and holds while it is 0. A synthesis tool maps it to latches. */
/* verilator lint_save */
/* verilator lint_off LATCH */
module {cell} #(parameter WIDTH = 1) (input gate, input [WIDTH-1:0] d, output reg [WIDTH-1:0] q);
  always @* if (gate) q = d;
endmodule
/* verilator lint_restore */
"""
