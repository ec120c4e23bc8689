"""The bulk wrapper: a Verilog wrapper that feeds a unit from memory and compares at one vector a cycle.

Python only waits for `done`, so that the simulator runs at full speed. A program memory holds operations in order:
write a table word, set a quasi-static input, stream the next `count` vectors. A vector memory holds {expected, input}.
Both are read with `$readmemh` when the simulation starts, so that one build serves every set of vectors.
"""

from dataclasses import dataclass
from typing import Any

from sim.common.errors import require_range
from sim.cosim.dut import Device
from sim.cosim.names import require_module
from sim.reference import InputError
from sim.vectors.vector_set import VectorSet

VECTORS = 1 << 17  # depth of the vector memory
PROGRAM = 1 << 16  # depth of the program memory
PATIENCE = 4096  # cycles without a beat before a stream counts as stuck
VISIBLE = ("clk", "rst", "done", "mismatches", "first_index", "first_got", "checked", "extra", "cycles", "stuck")
QUIET = 64  # cycles after the last expected beat in which a further one is noticed

END, TABLE, STATIC, STREAM = range(4)

XORSHIFT = """\
  function [31:0] xorshift(input [31:0] x);
    reg [31:0] a, b;
    begin
      a = x ^ (x << 13);
      b = a ^ (a >> 17);
      xorshift = b ^ (b << 5);
    end
  endfunction
"""


@dataclass(frozen=True)
class Step:
    """One word of the program: `operation`, then its operands.

    `select` is the table port's, or a static's index; a static's upper bits, 48 at most, are its `address`.
    """

    operation: int
    value: int = 0
    address: int = 0
    select: int = 0

    def word(self) -> int:
        """The 64-bit program word: operation[63:56] select[55:48] address[47:32] value[31:0].

        Raises `InputError` if one of them does not fit its place.
        """
        for name, bits in (("operation", 8), ("select", 8), ("address", 16), ("value", 32)):
            require_range(f"the bench's {name}", getattr(self, name), 0, (1 << bits) - 1)
        return self.operation << 56 | self.select << 48 | self.address << 32 | self.value


@dataclass(frozen=True)
class Chunk:
    """A part of a set that fits the memories: the vectors `first` to `last` (excluded) and the program for them."""

    first: int
    last: int
    steps: tuple[Step, ...]

    def program_hex(self) -> str:
        """The program memory's file: one word a line, closed by END."""
        return "".join(f"{step.word():016x}\n" for step in (*self.steps, Step(END)))

    def vectors_hex(self, vectors: VectorSet, device: Device) -> str:
        """The vector memory's file: {expected, input} as two's complement, one vector a line."""
        digits = -(-(device.in_bits + device.out_bits) // 4)
        part = slice(self.first, self.last)
        pairs = zip(vectors.payloads("inputs", part), vectors.payloads("expected", part), strict=True)
        return "".join(f"{y << device.in_bits | x:0{digits}x}\n" for x, y in pairs)


def chunks(vectors: VectorSet, device: Device) -> list[Chunk]:
    """The whole set, every vector once and in order; a load that spans two chunks is loaded in both."""
    done: list[Chunk] = []
    steps: list[Step] = []
    start = first = 0
    for load, count in enumerate(vectors.counts.tolist()):
        loading = load_steps(vectors, device, load)
        end = start + count
        while start < end:
            stop = min(end, vectors.cut(start, first + VECTORS))
            if stop > start and len(steps) + len(loading) + 2 <= PROGRAM:
                steps += [*loading, Step(STREAM, stop - start)]
                start = stop
            elif start > first:
                done.append(Chunk(first, start, tuple(steps)))
                first, steps = start, []
            else:
                raise InputError(
                    f"{vectors.name}: the row at {start} or its load is larger than the wrapper's memories"
                )
    return [*done, Chunk(first, start, tuple(steps))]


def load_steps(vectors: VectorSet, device: Device, load: int) -> list[Step]:
    """Everything to be written before a load's vectors: the table in load order, then each quasi-static input."""
    steps = []
    if device.table is not None:
        mask = (1 << device.table["data"]) - 1
        for select, key in enumerate(device.lists):
            words = vectors.arrays[key][load].tolist()
            steps += [Step(TABLE, word & mask, address, select) for address, word in enumerate(words)]
    for select, (name, bits) in enumerate(device.statics.items()):
        word = int(vectors.arrays[name][load]) & ((1 << bits) - 1)
        steps.append(Step(STATIC, word & 0xFFFF_FFFF, word >> 32, select))
    return steps


def top(device: Device) -> str:
    """The wrapper's name, which is never that of the device's module."""
    return f"bulk_{device.module}"


def wrapper(device: Device) -> str:
    """The wrapper's Verilog (module `top(device)`), to be compiled together with the device's.

    Raises `InputError` if the module or a port is not named by a plain identifier.
    """
    require_module(device.module, device.ports)
    statics = list(device.statics.items())
    fields: dict[str, Any] = {
        "top": top(device),
        "module": device.module,
        "in_top": device.in_bits - 1,
        "out_top": device.out_bits - 1,
        "word_top": device.in_bits + device.out_bits - 1,
        "in_bits": device.in_bits,
        "vectors": VECTORS,
        "program": PROGRAM,
        "patience": PATIENCE,
        "quiet": QUIET,
        "stream": STREAM,
        "end": END,
        "xorshift": XORSHIFT,
        "static_registers": "".join(f"  reg [{bits - 1}:0] static_{name};\n" for name, bits in statics),
        "static_writes": "".join(
            f"        if (operation == {STATIC} && select == {k}) static_{name} <= step[{bits - 1}:0];\n"
            for k, (name, bits) in enumerate(statics)
        ),
        "connections": "".join(f",\n    .{name}(static_{name})" for name, _ in statics)
        + "".join(
            f",\n    .{name}({value})"
            for name, value in table_connections(device, f"fetching && operation == {TABLE}", "step")
        ),
    }
    return _WRAPPER.format(**fields)


def table_connections(device: Device, en: str, word: str) -> list[tuple[str, str]]:
    """(port, wires) of the device's table, if it has one: written with `word` while `en` is 1.

    Of the 64 bits of `word` the select lies from bit 48 on, the address from 32 on, the data from 0 on.
    """
    if device.table is None:
        return []
    fields = zip(device.table.items(), (48, 32, 0), strict=True)
    return [
        ("table__en", en),
        *((f"table__{name}", f"{word}[{low + bits - 1}:{low}]") for (name, bits), low in fields),
    ]


_WRAPPER = """\
module {top}(
  input rst,
  output reg done,
  output reg [63:0] mismatches,
  output reg [31:0] first_index,
  output reg [{out_top}:0] first_got,
  output reg [31:0] checked,
  output reg [31:0] extra,
  output reg [63:0] cycles,
  output reg stuck
);
  reg [{word_top}:0] vectors [0:{vectors} - 1];
  reg [63:0] program_words [0:{program} - 1];
  reg [31:0] repeats;
  reg [31:0] stall_seed;  // 0: nothing stalls
  reg [31:0] count;
  reg [31:0] program_length;
  string path;
  initial begin
    if (!$value$plusargs("repeats=%d", repeats)) repeats = 1;
    if (!$value$plusargs("stall_seed=%d", stall_seed)) stall_seed = 0;
    if (!$value$plusargs("count=%d", count)) count = 0;
    if (!$value$plusargs("program_length=%d", program_length)) program_length = 0;
    if ($value$plusargs("vectors=%s", path)) $readmemh(path, vectors, 0, count - 1);
    if ($value$plusargs("program=%s", path)) $readmemh(path, program_words, 0, program_length - 1);
  end

  reg clk = 0;
  always #1 clk = ~clk;  // here and not in Python: a clock that crosses the interface is the slowest part

  reg fetching = 0, streaming = 0;  // nothing is offered before the reset
  reg [31:0] counter, remaining, fed, idle, stalls;
  reg held;
{static_registers}
  wire [63:0] step = program_words[counter];
  wire [7:0] operation = step[63:56];
  wire [7:0] select = step[55:48];

  // a valid beat is held until it is taken; readiness may come and go
  wire i_valid = streaming && fed != remaining && (held || stall_seed == 0 || stalls[3]);
  wire o_ready = !streaming || stall_seed == 0 || stalls[17];
  wire i_ready, o_valid;
  wire [{out_top}:0] o_payload;
  wire [{word_top}:0] feeding = vectors[fed];
  wire [{word_top}:0] checking = vectors[checked];

  {module} unit(
    .clk(clk), .rst(rst),
    .i__payload(feeding[{in_top}:0]), .i__valid(i_valid), .i__ready(i_ready),
    .o__payload(o_payload), .o__valid(o_valid), .o__ready(o_ready){connections}
  );

  wire taken = i_valid && i_ready === 1'b1;  // X on valid or ready is not a transfer; the stream then times out
  wire given = o_valid === 1'b1 && o_ready;
  wire last = checked + 1 == remaining;

  always @(posedge clk) begin
    // xorshift32: the stalls of a seed are the same in every simulator
    stalls <= xorshift(stalls);
    if (rst) begin
      done <= 0; mismatches <= 0; first_index <= 0; first_got <= 0; checked <= 0; extra <= 0; cycles <= 0; stuck <= 0;
      fetching <= 1; streaming <= 0; counter <= 0; remaining <= 0; fed <= 0; idle <= 0; held <= 0;
      stalls <= stall_seed;
    end else if (!done) begin
      held <= i_valid && !i_ready;
      if (fetching) begin
        counter <= counter + 1;
{static_writes}        if (operation == {stream}) begin
          fetching <= 0; streaming <= 1; remaining <= remaining + step[31:0]; idle <= 0;
        end
        if (operation == {end}) begin
          if (repeats > 1) begin
            repeats <= repeats - 1;
            counter <= 0; remaining <= 0; fed <= 0; checked <= 0;
          end else fetching <= 0;
        end
      end else if (streaming) begin
        cycles <= cycles + 1;
        fed <= fed + {{31'd0, taken}};
        idle <= taken || given ? 0 : idle + 1;
        if (given) begin
          checked <= checked + 1;
          if (o_payload !== checking[{word_top}:{in_bits}]) begin
            if (mismatches == 0) begin
              first_index <= checked; first_got <= o_payload;
            end
            mismatches <= mismatches + 1;
          end
          if (last) begin
            streaming <= 0; fetching <= 1;
          end
        end
        if (idle == {patience}) begin
          stuck <= 1; done <= 1;
        end
      end else begin
        idle <= idle + 1;
        if (idle == {quiet}) done <= 1;
      end
      if (given && !streaming) extra <= extra + 1;
    end
  end

{xorshift}endmodule
"""
