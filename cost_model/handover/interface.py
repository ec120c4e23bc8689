"""SystemVerilog around an emitted unit: its streams become interfaces, its other ports stay as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

STREAM = """\
// A stream: a beat is transferred in a cycle in which valid and ready are both high.
interface bitwright_stream #(parameter int WIDTH = 1) (input logic clk);
  logic [WIDTH-1:0] payload;
  logic valid, ready;
  modport source(input clk, ready, output payload, valid);
  modport sink(input clk, payload, valid, output ready);
endinterface
"""


def wrapper(description: Mapping[str, Any]) -> str:
    """The module `MODULE_if` around the module of a description that `rtl.emit` wrote.

    Ports NAME__payload, NAME__valid and NAME__ready become the interface NAME: a sink if the unit takes the payload.
    """
    ports: Sequence[Mapping[str, Any]] = description["ports"]
    widths = {port["name"]: port["width"] for port in ports}
    streams = [name.removesuffix("__payload") for name in widths if name.endswith("__payload")]
    declared, connections = [], []
    for port in ports:
        name, stream = port["name"], port["name"].rpartition("__")[0]
        if stream in streams:
            connections.append(f".{name}({stream}.{name.rpartition('__')[2]})")
            if name == f"{stream}__payload":
                way = "sink" if port["direction"] == "input" else "source"
                declared.append(f"bitwright_stream.{way} {stream}")
        elif port["width"]:
            bits = f"[{port['width'] - 1}:0] " if port["width"] > 1 else ""
            declared.append(f"{port['direction']} logic {bits}{name}")
            connections.append(f".{name}({name})")
    module = description["module"]
    sizes = [f"{stream} of {widths[stream + '__payload']} bits" for stream in streams]
    lines = [f"// streams: {', '.join(sizes)}"]
    lines += [f"module {module}_if(", ",\n".join(f"  {row}" for row in declared), ");"]
    lines += [f"  {module} unit(", ",\n".join(f"    {row}" for row in connections), "  );", "endmodule"]
    return "\n".join(lines) + "\n"
