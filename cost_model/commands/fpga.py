"""`python -m cost_model unit --fpga ecp5`: a unit's look-up tables, flip-flops, multipliers and clock on an FPGA."""

import argparse
from typing import Any

from cost_model.designs.design import Design
from cost_model.netlist.fpga import PACKAGES, SEED, place
from cost_model.power.gate_level import GateLevelError
from sim.common.command import print_json
from sim.common.results import write_results
from sim.common.text_table import format_table
from sim.reference import InputError


def report(arguments: argparse.Namespace, designs: dict[str, Design]) -> int:
    """Place designs, by what their product is, and show their rows."""
    if arguments.liberty or arguments.glitches:
        raise InputError("--fpga maps to the FPGA's own cells: --liberty and --glitches must not be given")
    rows = [_row(arguments, product, design) for product, design in designs.items()]
    if arguments.output_file is not None:
        write_results(arguments.output_file, "python -m cost_model unit --fpga ecp5", rows, PACKAGES)
    if arguments.json:
        print_json(rows)
    else:
        _print(rows)
    return 0


def _row(arguments: argparse.Namespace, product: str, design: Design) -> dict[str, Any]:
    placed = place(design.device, arguments.cache)
    verified = placed.verify(design.device, design.work)
    if verified == 0:
        raise GateLevelError(f"{design.name}: the netlist for {arguments.fpga} differs from its vectors")
    return {
        "unit": design.unit, "format": design.format, "stages": design.stages, "fpga": arguments.fpga,
        "product": product, "luts": placed.luts, "flip_flops": placed.flip_flops, "multipliers": placed.multipliers,
        "mhz": placed.mhz, "verified_vectors": verified, "seed": SEED,
    }  # fmt: skip


def _print(rows: list[dict[str, Any]]) -> None:
    headings = ("unit", "format", "stages", "product", "LUTs", "flip-flops", "multipliers", "MHz", "vectors")
    keys = ("unit", "format", "stages", "product", "luts", "flip_flops", "multipliers", "mhz", "verified_vectors")
    print(format_table(headings, [[row[key] for key in keys] for row in rows]))
    if any(row["verified_vectors"] is None for row in rows):
        print("a hard multiplier has no model here, so its netlist was not run on the vectors.")
