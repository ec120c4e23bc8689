"""Two small benches: a stream component in Amaranth's simulator, emitted Verilog in Icarus."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring
from amaranth.sim import Simulator, SimulatorContext

from rtl.pwl import Word


def simulate(
    dut: wiring.Component,
    beats: Sequence[Any],
    words: Iterable[Word] = (),
    settings: dict[str, int] | None = None,
    seed: int | None = None,
    limit: int | None = None,
) -> tuple[list[Any], list[int], list[int]]:
    """Load `words`, drive `beats` through `dut.i` and collect as many from `dut.o`.

    Returns (outputs, cycle in which each input was taken, cycle in which each output was). With a `seed` both streams
    stall at random. Raises `TimeoutError` if fewer outputs come within `limit` cycles.
    """
    outputs: list[Any] = []
    taken: list[int] = []
    given: list[int] = []
    limit = 40 * len(beats) + 200 if limit is None else limit
    rng = np.random.default_rng(seed)
    go_in, go_out = rng.random((2, limit)) < (rng.uniform(0.2, 0.9, (2, 1)) if seed is not None else 2)

    async def drive(ctx: SimulatorContext) -> None:
        for name, value in (settings or {}).items():
            ctx.set(getattr(dut, name), value)
        for word in words:
            for name in Word._fields:
                ctx.set(getattr(dut.table, name), getattr(word, name))
            ctx.set(dut.table.en, 1)
            await ctx.tick()
        if hasattr(dut, "table"):
            ctx.set(dut.table.en, 0)
        await ctx.tick().repeat(2)
        offered = False
        for cycle in range(limit):
            offered = len(taken) < len(beats) and (offered or bool(go_in[cycle]))  # an offer stands until it is taken
            ctx.set(dut.i.valid, offered)
            if offered:
                ctx.set(dut.i.payload, beats[len(taken)])
            ctx.set(dut.o.ready, bool(go_out[cycle]))
            _, _, in_ready, out_valid, payload = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload)
            if offered and in_ready:
                taken.append(cycle)
                offered = False
            if out_valid and go_out[cycle]:
                outputs.append(payload)
                given.append(cycle)
            if len(outputs) == len(beats):
                return
        raise TimeoutError(f"{len(outputs)} of {len(beats)} beats after {limit} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return outputs, taken, given


ICARUS = """
module bench;
  reg clk = 0, rst = 1, go = 0, en = 0;
  integer n = 0, k = 0, seed = SEED;
  reg [63:0] load [0:LOADS], beats [0:BEATS];
  reg [63:0] word, beat;
  wire ready, valid;
  wire [OUT_BITS-1:0] y;
  reg take = 0;
  always #5 clk = ~clk;
  initial begin $readmemh("load.hex", load); $readmemh("beats.hex", beats); end
  MODULE dut (.clk(clk), .rst(rst), .i__payload(beat[IN_BITS-1:0]), .i__valid(go), .i__ready(ready),
              .o__payload(y), .o__valid(valid), .o__ready(take)CONNECTIONS);
  initial begin
    @(posedge clk); @(posedge clk); rst <= 0;
    for (k = 0; k < LOADS; k = k + 1) begin word <= load[k]; en <= 1; @(posedge clk); end
    en <= 0; word <= 64'hx; k = 0; repeat (SETTLE) @(posedge clk);
    while (k < BEATS) begin
      beat <= beats[k]; go <= 1; @(posedge clk); if (ready) k = k + 1;
    end
    go <= 0;
  end
  always @(posedge clk) if (valid & take) begin
    $display("%h", y); n = n + 1; if (n == BEATS) $finish;
  end
  always @(posedge clk) take <= SEED == 0 || $random(seed) % 3 != 0;
  initial begin #(100 * (LOADS + 10 * BEATS + 100)); $display("timeout"); $finish; end
endmodule
"""


@dataclass(frozen=True)
class Drive:
    """How a unit is driven: the table's words, its quasi-static inputs, a seed other than 0 that stalls the output, and
    after how many cycles from the last word the first code is taken.
    """

    words: Iterable[Word] = ()
    settings: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    settle: int = 1


def icarus(verilog: Path, codes: Sequence[int], bits: tuple[int, int], drive: Drive = Drive()) -> list[int]:
    """The outputs of the emitted unit for `codes`, as unsigned bits; `bits` are those of a code and of an output.

    Everything is driven at the rising edge without delay.
    """
    folder, (in_bits, out_bits) = verilog.parent, bits
    words, settings, seed, settle = drive.words, drive.settings, drive.seed, drive.settle
    loads = [(w.select << 48) | (w.address << 32) | w.data for w in words]
    mask = (1 << in_bits) - 1
    (folder / "load.hex").write_text("".join(f"{w:x}\n" for w in [*loads, 0]))
    (folder / "beats.hex").write_text("".join(f"{c & mask:x}\n" for c in [*codes, 0]))
    table = {"en": "en", "select": "word[49:48]", "address": "word[47:32]", "data": "word[31:0]"}
    connections = [f", .table__{name}({wire})" for name, wire in table.items() if loads]
    connections += [f", .{name}({value})" for name, value in settings.items()]
    text = ICARUS.replace("MODULE", verilog.stem).replace("CONNECTIONS", "".join(connections))
    for name, value in (
        ("LOADS", len(loads)),
        ("BEATS", len(codes)),
        ("IN_BITS", in_bits),
        ("OUT_BITS", out_bits),
        ("SETTLE", settle - 1),
    ):
        text = text.replace(name, str(value))
    (folder / "bench.v").write_text(text.replace("SEED", str(seed)))
    build = ["iverilog", "-g2012", "-o", "bench.vvp", "bench.v", str(verilog.resolve())]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    run = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=folder, check=True, capture_output=True, text=True)
    lines = run.stdout.split()
    assert len(lines) == len(codes) and "timeout" not in lines, run.stdout[-200:]
    return [int(line, 16) for line in lines]
