"""The files of a hand-over folder for other tools and readers: FuseSoC's core, timing constraints, a first page."""

from collections.abc import Mapping, Sequence
from typing import Any

SDC = """\
# {period:g} ns; inputs and outputs have the whole period, as in bitwright's static timing analysis
create_clock -name clk -period {period:g} [get_ports clk]
set_input_delay 0 -clock clk [remove_from_collection [all_inputs] [get_ports clk]]
set_output_delay 0 -clock clk [all_outputs]
"""


def core(name: str, modules: Sequence[str], top: str) -> str:
    """A CAPI2 core with a fileset for the Verilog, for the SystemVerilog interfaces and for the constraints."""

    def fileset(key: str, kind: str, files: Sequence[str]) -> list[str]:
        return [f"  {key}:", "    files:", *(f"      - {path}" for path in files), f"    file_type: {kind}"]

    lines = ["CAPI=2:", f"name: ::{name}:0", "description: A point of bitwright's design space", "filesets:"]
    lines += fileset("rtl", "verilogSource", [f"rtl/{module}.v" for module in modules])
    interfaces = ["rtl/bitwright_stream.sv", *(f"rtl/{module}_if.sv" for module in modules)]
    lines += fileset("interfaces", "systemVerilogSource", interfaces)
    lines += fileset("constraints", "SDC", ["constraints.sdc"])
    lines += ["targets:", "  default:", "    filesets: [rtl, interfaces, constraints]", f"    toplevel: {top}"]
    return "\n".join(lines) + "\n"


def page(model: str, point: Mapping[str, Any], sets: Mapping[str, str]) -> str:
    """README.md of the folder: what each part is, and how to check it."""
    rows = "\n".join(f"| `{name}` | `{path}` | `bench/{name}/run.sh` |" for name, path in sets.items())
    formats = ", ".join(f"{name} {point[name]}" for name in ("attention", "fc1", "fc2"))
    return f"""\
# {model}, point {point["point"]}

Layers: {formats}. Array of {point["rows"]} x {point["columns"]}.

- `packed/`: the network's integers. `tables/`: the functions' tables. `cost.json`: what it costs, site by site.
- `rtl/`: the units as Verilog, each with its description, and wrappers with SystemVerilog interfaces.
- `vectors/`: inputs and expected outputs. `bench/`: the same as benches that need a Verilog simulator alone.
- `constraints.sdc`, `bitwright.core`: for synthesis, and for FuseSoC. `regress.json`: what the regression found.
- `manifest.json`: the SHA-256 of every file.

`sh run.sh` runs every bench in Icarus Verilog; each prints PASS. `python -m sim regress --from .` checks all hashes and
runs the vectors with and without stalls.

| vectors | unit | bench |
|---|---|---|
{rows}
"""


RUN = """\
#!/bin/sh
# every bench; needs Icarus Verilog alone
set -eu
cd "$(dirname "$0")"
for script in bench/*/run.sh; do
  echo "$script"
  sh "$script"
done
"""
