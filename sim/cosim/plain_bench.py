"""A set of vectors as a bench in plain Verilog: a simulator and a shell are all it needs.

The bench is the wrapper that the regression runs (`sim.cosim.wrapper`, `sim.cosim.array_wrapper`), with a top that
resets it, waits, and ends with an error if a result was wrong or missing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.cosim import array_wrapper, wrapper
from sim.cosim.dut import Device
from sim.cosim.run_array import write_operands
from sim.vectors.array import ArraySet
from sim.vectors.vector_set import VectorSet

SCRIPT = "run.sh"


def write_bench(folder: Path, vectors: VectorSet, unit: Device, verilog: str) -> None:
    """Write `bench.v`, the memories' files and `run.sh`, which builds and runs them in Icarus.

    Parameters
    ----------
    folder : Path
        An empty folder.
    vectors : VectorSet
        The set; every vector of it is compared.
    unit : Device
        The unit that it is for.
    verilog : str
        The path of the unit's Verilog from the folder.
    """
    if isinstance(vectors, ArraySet):
        text, top = array_wrapper.wrapper(vectors.config, unit, vectors.configuration["operands"] == "memory"), "array"
        name, runs = array_wrapper.TOP, [write_operands(vectors, folder) | {"jobs": 1}]
    else:
        text, top, name = wrapper.wrapper(unit), "unit", wrapper.top(unit)
        runs = [_chunk(folder, k, chunk, vectors, unit) for k, chunk in enumerate(wrapper.chunks(vectors, unit))]
    (folder / "bench.v").write_text(text + _TOP.format(name=name, checks=_CHECKS[top], ports=_PORTS[top]))
    lines = [f"vvp -n bench.vvp {_plusargs(run)}" for run in runs]
    script = _SCRIPT.format(name=vectors.name, size=vectors.size, verilog=verilog, runs="\n".join(lines))
    (folder / SCRIPT).write_text(script)


def _chunk(folder: Path, k: int, chunk: wrapper.Chunk, vectors: VectorSet, unit: Device) -> dict[str, Any]:
    """The files of a part of a set, and its plusargs."""
    files = {"vectors": chunk.vectors_hex(vectors, unit), "program": chunk.program_hex()}
    paths = {name: folder / f"{name}_{k}.hex" for name in files}
    for name, text in files.items():
        paths[name].write_text(text)
    return {**paths, "count": chunk.last - chunk.first, "program_length": len(chunk.steps) + 1}


def _plusargs(given: Mapping[str, Any]) -> str:
    named = {key: value.name if isinstance(value, Path) else value for key, value in given.items()}
    return " ".join(f"+{key}={value}" for key, value in named.items())


_PORTS = {"unit": "", "array": ", .left(left), .unstable(unstable)"}
_CHECKS = {"unit": "extra == 0", "array": "extra == 0 && left == 0 && unstable == 0"}
_TOP = """
module bench;
  reg rst = 1;
  reg [31:0] count;
  wire done, stuck;
  wire [63:0] mismatches;
  wire [31:0] checked, extra, left, unstable;
  {name} run(.rst(rst), .done(done), .mismatches(mismatches), .checked(checked), .extra(extra), .stuck(stuck){ports});
  initial begin
    if (!$value$plusargs("count=%d", count)) count = 0;
    #7 rst = 0;
    @(posedge done);
    if (mismatches == 0 && stuck === 1'b0 && checked == count && count != 0 && {checks}) begin
      $display("PASS %0d results", checked);
      $finish;
    end
    $display("FAIL %0d wrong, %0d of %0d compared, %0d too many", mismatches, checked, count, extra);
    $fatal(1);
  end
endmodule
"""
_SCRIPT = """\
#!/bin/sh
# {name}: {size} vectors; needs Icarus Verilog alone
set -eu
cd "$(dirname "$0")"
iverilog -g2012 -s bench -o bench.vvp bench.v {verilog}
trap 'rm -f bench.vvp' EXIT
{runs}
"""
