"""Row memories: cut out of a netlist, and put beside it again for simulation.

A rowwise unit keeps a row in a ring, and a norm keeps gains and biases in memories. Real memories are SRAM macros,
which neither library here has; as flip-flops they would dominate the unit's figures. They are therefore cut out before
mapping and counted in bits. Their ports become ports of the netlist, so that the energy of driving them is included. A
queue of a few rows stays in flip-flops, and a list that is wired in becomes logic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cost_model.netlist.netlist import Netlist
from rtl import verilog_text
from sim.reference import InputError

NAMES = ("ring", "gain", "bias")  # their names in `rtl.rowwise`
PORTS = ("waddr", "wdata", "wen", "raddr", "ren", "rdata")


@dataclass(frozen=True)
class Memory:
    """A memory with one write port and one registered read port; `name` is its path in the flattened unit."""

    name: str
    words: int
    bits: int

    @property
    def address_bits(self) -> int:
        return max((self.words - 1).bit_length(), 1)

    @property
    def size(self) -> int:
        """In bits."""
        return self.words * self.bits


def found(verilog: str, top: str) -> tuple[Memory, ...]:
    """The row memories of a unit that Amaranth wrote, in the order of its text; one that nothing writes is left out."""
    return tuple(Memory(*row) for row in verilog_text.memories(verilog, top, NAMES))


def script(memories: Sequence[Memory], top: str) -> list[str]:
    """Yosys commands that make the ports of `memories` ports of the flat module; they read `files`."""
    lines = []
    for k, memory in enumerate(memories):
        lines += [f"read_verilog memory_{k}.v", f"techmap -map cut_{k}.v c:{memory.name}"]
        lines += [f"cd {top}", f"rename {memory.name} {_instance(k)}", "cd .."]
    return [*lines, f"expose -evert -sep __ t:{_instance('*')}"] if memories else []


def files(memories: Sequence[Memory]) -> dict[str, str]:
    """File name to text."""
    texts = {}
    for k, memory in enumerate(memories):
        word, address = f"[{memory.bits - 1}:0]", f"[{memory.address_bits - 1}:0]"
        texts[f"memory_{k}.v"] = (
            f"(* blackbox *)\nmodule {_instance(k)}(input {address} waddr, raddr, input {word} wdata, input wen, ren,\n"
            f"  output {word} rdata);\nendmodule\n"
        )
        texts[f"cut_{k}.v"] = _CUT.replace("INSTANCE", _instance(k))
    return texts


def require(netlist: Netlist, memories: Sequence[Memory]) -> None:
    """Raise `InputError` unless each of `memories` was cut out, with all its bits."""
    for k, memory in enumerate(memories):
        _, word = netlist.ports.get(f"{_instance(k)}__rdata", ("", ()))
        if len(word) != memory.bits:
            raise InputError(f"synthesis: the memory {memory.name} of {netlist.top} cannot be cut out")


def verilog(netlist: Netlist, name: str, memories: Sequence[Memory]) -> str:
    """The netlist as a module `name` with the unit's own ports, `memories` beside its cells; all start at 0."""
    if not memories:
        return netlist.verilog(name)
    own = {port: row for port, row in netlist.ports.items() if not port.startswith(_instance(""))}
    declared = ", ".join(f"{direction} {_range(len(bits))}{port}" for port, (direction, bits) in own.items())
    lines = [f"module {name}({declared});"]
    joined = [f".{port}({port})" for port in own]
    for k, memory in enumerate(memories):
        wires = {port: f"{_instance(k)}__{port}" for port in PORTS}
        lines += [f"  wire {_range(len(netlist.ports[wire][1]))}{wire};" for wire in wires.values()]
        joined += [f".{wire}({wire})" for wire in wires.values()]
        shape = f".WORDS({memory.words}), .BITS({memory.bits}), .ADDRESS_BITS({memory.address_bits})"
        ports = ", ".join(f".{port}({wire})" for port, wire in wires.items())
        lines.append(f"  row_memory #({shape}) {_instance(k)}(.clk(clk), {ports});")
    lines += [f"  {name}_cells cells({', '.join(joined)});", "endmodule", ""]
    return "\n".join(lines) + _BEHAVIOUR + netlist.verilog(f"{name}_cells")


def _instance(k: int | str) -> str:
    return f"row_memory_{k}"


def _range(bits: int) -> str:
    return f"[{bits - 1}:0] " if bits > 1 else ""


_CUT = """\
(* techmap_celltype = "$mem_v2" *)
module cut (RD_CLK, RD_EN, RD_ARST, RD_SRST, RD_ADDR, RD_DATA, WR_CLK, WR_EN, WR_ADDR, WR_DATA);
  parameter MEMID = "";
  parameter signed SIZE = 1, OFFSET = 0, ABITS = 1, WIDTH = 1, RD_PORTS = 1, WR_PORTS = 1, INIT = 0;
  parameter RD_CLK_ENABLE = 1, RD_CLK_POLARITY = 1, RD_TRANSPARENCY_MASK = 0, RD_COLLISION_X_MASK = 0;
  parameter RD_WIDE_CONTINUATION = 0, RD_CE_OVER_SRST = 0, RD_ARST_VALUE = 0, RD_SRST_VALUE = 0, RD_INIT_VALUE = 0;
  parameter WR_CLK_ENABLE = 1, WR_CLK_POLARITY = 1, WR_PRIORITY_MASK = 0, WR_WIDE_CONTINUATION = 0;
  input [RD_PORTS-1:0] RD_CLK, RD_EN, RD_ARST, RD_SRST;
  input [RD_PORTS*ABITS-1:0] RD_ADDR;
  output [RD_PORTS*WIDTH-1:0] RD_DATA;
  input [WR_PORTS-1:0] WR_CLK;
  input [WR_PORTS*WIDTH-1:0] WR_EN, WR_DATA;
  input [WR_PORTS*ABITS-1:0] WR_ADDR;
  wire _TECHMAP_FAIL_ = RD_PORTS != 1 || WR_PORTS != 1 || RD_CLK_ENABLE != 1 || RD_TRANSPARENCY_MASK != 0;
  INSTANCE _TECHMAP_REPLACE_ (
    .waddr(WR_ADDR), .wdata(WR_DATA), .wen(WR_EN[0]), .raddr(RD_ADDR), .ren(RD_EN), .rdata(RD_DATA));
endmodule
"""
_BEHAVIOUR = """\
module row_memory #(parameter WORDS = 1, BITS = 1, ADDRESS_BITS = 1)(
  input clk, input [ADDRESS_BITS-1:0] waddr, raddr, input [BITS-1:0] wdata, input wen, ren, output reg [BITS-1:0] rdata
);
  reg [BITS-1:0] words [0:WORDS-1];
  integer k;
  initial begin
    rdata = 0;
    for (k = 0; k < WORDS; k = k + 1) words[k] = 0;
  end
  always @(posedge clk) begin
    if (ren) rdata <= words[raddr];
    if (wen) words[waddr] <= wdata;
  end
endmodule
"""
