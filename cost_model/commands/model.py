"""`python -m cost_model model`: size, cycles and energy of a packed model, site by site."""

import argparse
from pathlib import Path
from typing import Any

from cost_model.analytical.estimate import coefficients
from cost_model.network.beside import beside, uncounted
from cost_model.network.cost import report
from cost_model.network.coverage import coverage, coverage_lines
from cost_model.network.machine import Machine
from cost_model.network.sites import sites
from quant.formats.packed_index import PackedIndex
from sim.common.command import print_json
from sim.common.errors import require_range
from sim.common.text_table import format_table

LARGEST = 1 << 24


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("model", help="a packed model: bytes, cycles and energy of each layer")
    parser.set_defaults(do=_model)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="from python -m sim convert or python -m quant quantize"
    )
    machine = Machine()
    for option, default, what in (
        ("tokens", 128, "tokens of a sequence"),
        ("batch", 1, "sequences"),
        ("rows", machine.rows, "rows of the array, its inputs"),
        ("columns", machine.columns, "columns of the array, its output channels"),
        ("depth", machine.depth, "accumulators of a column"),
        ("lanes", machine.lanes, "table units side by side"),
    ):
        parser.add_argument(f"--{option}", type=int, default=default, metavar="N", help=f"{what} ({default})")
    parser.add_argument("--image", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="pixels, for vision networks")
    parser.add_argument(
        "--two-pass",
        action="store_true",
        help="multipliers of 5-bit operands; activations above 4 bits go through twice",
    )
    libraries = ", ".join(coefficients()["libraries"])
    parser.add_argument("--library", default=machine.library, metavar="NAME", help=f"one of {libraries} (the first)")
    parser.add_argument("--clock", type=float, default=machine.clock_hz / 1e6, metavar="MHZ", help="clock in MHz (125)")
    parser.add_argument("--json", action="store_true", help="records, totals, hardware and sources as JSON on stdout")


def _model(arguments: argparse.Namespace) -> int:
    for name in ("tokens", "batch"):
        require_range(f"--{name}", getattr(arguments, name), 1, LARGEST)
    for pixels in arguments.image or ():
        require_range("--image", pixels, 1, LARGEST)
    machine = Machine(
        arguments.rows, arguments.columns, arguments.depth, arguments.two_pass, arguments.lanes, arguments.library,
        arguments.clock * 1e6,
    )  # fmt: skip
    index = PackedIndex.load(arguments.folder)
    listed = sites(index, arguments.folder, arguments.tokens, arguments.batch, arguments.image)
    found: dict[str, Any] = report(listed, machine) | {"coverage": coverage(index, listed)}
    lengths = {"tokens": arguments.tokens, "batch": arguments.batch}
    if arguments.image is not None:
        lengths |= dict(zip(("height", "width"), arguments.image, strict=True))
    found["beside"] = beside(index, listed, machine, lengths)
    found["not_counted"] = uncounted(found["not_counted"], found["beside"])
    found["source"] |= {"model_sha256": index.content["sha256"], "tokens": arguments.tokens, "batch": arguments.batch}
    if arguments.json:
        print_json(found)
    else:
        _print(found, machine)
    return 0


def _print(found: dict[str, Any], machine: Machine) -> None:
    joules = machine.physical
    scale, unit = (1e9, "nJ") if joules else (1e-6, "M proxy")
    columns = ["site", "kind", "shape", "jobs", "bits", "group", "bytes", "MACs", "cycles", "busy", unit, "FP32 / this"]
    lines = []
    for row in found["rows"]:
        shape = " x ".join(map(str, row["shape"])) if row["shape"] else "-"
        busy = "-" if row["busy"] is None else f"{row['busy']:.1%}"
        lines.append(
            [
                row["site"], row["kind"], shape, row["jobs"], row["bits"] or "-", row["group"], row["bytes"],
                row["macs"], row["cycles"], busy, *_energies(row["energy"], row["floating_energy"], scale),
            ]
        )  # fmt: skip
    totals = found["totals"]
    energies = _energies(totals["energy"], None, scale)
    lines.append(
        ["total", "", "", None, "", None, totals["bytes"], totals["macs"], totals["cycles"], "", *energies]
    )  # fmt: skip
    print(format_table(columns, lines))
    if totals["cycles"] is not None:
        print("cycles: of each site on an array configured for it, not of one array that takes them all.")
    print()
    units = [[p["unit"], p["count"], round(p["area_ge"]), _milli(p["leakage_w"]), p["what"]] for p in found["hardware"]]
    if units:
        print(format_table(["hardware", "count", "GE", "mW leakage", "of"], units))
    else:
        print("hardware: not known, as no site is for it.")
    print()
    source = found["source"]
    print(f"{source['tokens']} tokens x {source['batch']}; array of {machine.rows} x {machine.columns}, ", end="")
    if totals["seconds"] is None:
        print("time not known, as no site has cycles here.")
    else:
        print(f"{totals['seconds'] * 1e3:.4g} ms at {machine.clock_hz / 1e6:g} MHz, one site after the other.")
    if totals["energy"] is None:
        print("no site has an energy here.")
    elif joules:
        leakage = totals["leakage_energy"]
        print(f"energy {totals['energy'] * 1e6:.4g} uJ and leakage ", end="")
        print("not known;" if leakage is None else f"{leakage * 1e6:.4g} uJ;")
    else:
        print("proxy: NAND2 inputs charged, as the library has no energies.")
    _print_beside(found["beside"], scale, unit)
    own = totals["energy_beside_floating"]
    if own:
        ratios = ", ".join(f"{name} {energy / own:.2f}" for name, energy in totals["floating_energy"].items())
        print(f"the same products and tables in floating point take, times ours: {ratios}.")
    if totals["weights"]:
        stored = sum(row["bytes"] for row in found["rows"] if row["weights"])
        print(f"{totals['weights']} weights in {stored} bytes, constants included; in FP32 {4 * totals['weights']}.")
    print(f"source: analytical model of {source['library']} ({source['model']}); softmax and norms as measured.")
    for line in found["notes"]:
        print(f"NOTE: {line}.")
    for line in found["too_slow"]:
        print(f"TOO SLOW: {line}.")
    for line in found["too_long"]:
        print(f"TOO LONG: {line}.")
    for line in coverage_lines(found["coverage"]):
        print(line)
    print("NOT counted:")
    for line in found["not_counted"]:
        print(f"  {line}")


def _print_beside(found: dict[str, Any], scale: float, unit: str) -> None:
    """What the totals do not have: sums, tokens' scales and memories."""
    kinds = dict.fromkeys(row["unit"] for row in found["rows"])
    for kind in kinds:
        rows = [row for row in found["rows"] if row["unit"] == kind]
        cycles, energy = (sum(row[key] for row in rows) for key in ("cycles", "energy"))
        print(f"beside that: {kind}, {len(rows)} sites, {cycles} cycles, {energy * scale:.4g} {unit}.")
    held = found["memories"]
    if held is not None:
        print(f"beside that: memories of {held['bits']} bits, {held['area_um2'] * 1e-6:.3g} mm2, ", end="")
        print(f"{held['sram'] * 1e6:.4g} uJ, and {held['dram'] * 1e6:.4g} uJ to DRAM for the weights.")


def _energies(energy: float | None, floating: dict[str, float] | None, scale: float) -> list[str | None]:
    ratio = None if energy is None or floating is None else f"{floating['FP32'] / energy:.2f}"
    return [None if energy is None else f"{energy * scale:.4g}", ratio]


def _milli(watts: float | None) -> str | None:
    return None if watts is None else f"{watts * 1e3:.3g}"
