"""`python -m cost_model layer`: what a converted network costs on the engine. torch is imported when it runs."""

import argparse
from hashlib import sha256
from pathlib import Path
from typing import Any

from cost_model.analytical.estimate import coefficients
from cost_model.network.engine import report
from cost_model.network.machine import Machine
from sim.common.command import print_json
from sim.common.errors import require_range
from sim.common.results import write_results
from sim.common.text_table import format_table
from sim.network.program_cycles import cycles_text

LONGEST = 1 << 12  # tokens


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("layer", help="a network on the engine: area, memories, cycles and energy")
    parser.set_defaults(do=_layer)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="from python -m sim convert")
    given.add_argument("--from", dest="packaged", choices=("sentence",), help="all-MiniLM-L6-v2 in place of DIR")
    parser.add_argument("--tokens", type=int, default=128, metavar="N", help="tokens of a sequence (128)")
    parser.add_argument("--lanes", type=int, default=16, metavar="N", help="rows and columns of the array (16)")
    parser.add_argument(
        "--row-units", type=int, nargs="+", default=[6], metavar="N", help="units for softmax, norms and tokens (6)"
    )
    machine = Machine()
    libraries = ", ".join(coefficients()["libraries"])
    parser.add_argument("--library", default=machine.library, metavar="NAME", help=f"one of {libraries} (the first)")
    parser.add_argument("--clock", type=float, default=100.0, metavar="MHZ", help="clock in MHz (100)")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the record as JSON")
    parser.add_argument("--json", action="store_true", help="the record as JSON on stdout")


def _layer(arguments: argparse.Namespace) -> int:
    from sim.network.program import program_of
    from sim.network.program_engine import engine_for

    machine = Machine(library=arguments.library, clock_hz=arguments.clock * 1e6)
    require_range("--tokens", arguments.tokens, 2, LONGEST)
    network, name, about = _network(arguments)
    rows = []
    for row_units in arguments.row_units:
        config = engine_for(network, arguments.tokens, arguments.lanes, row_units)
        program = program_of(network, config, arguments.tokens)
        size = {
            "tokens": arguments.tokens, "lanes": config.lanes, "row_units": row_units, "memory_words": config.words,
            "words_used": program.words, "library": machine.library, "clock_hz": machine.clock_hz,
        }  # fmt: skip
        rows.append(size | report(config, program.instructions, arguments.tokens, machine))
    if arguments.output_file is not None:
        sizes = " ".join(map(str, arguments.row_units))
        options = f"--tokens {arguments.tokens} --lanes {arguments.lanes} --row-units {sizes}"
        command = f"python -m cost_model layer {name} {options} --library {machine.library} --clock {arguments.clock:g}"
        write_results(arguments.output_file, command, rows, ("torch",), **about)
    if arguments.json:
        print_json(rows)
    else:
        for row in rows:
            _print(row)
    return 0


def _network(arguments: argparse.Namespace) -> tuple[Any, str, dict[str, str]]:
    """The network, what the command calls it, and what it was made of."""
    if arguments.packaged is not None:
        from sim.workloads.sentence_layers import sentence_layers

        network, _, about = sentence_layers(1, arguments.tokens, 0)
        return network, f"--from {arguments.packaged}", {"network": about["network"]}
    from quant.formats.packed_index import DESCRIPTION
    from sim.network.packed import load

    network = load(arguments.folder)
    return network, "NETWORK", {"network_sha256": sha256((arguments.folder / DESCRIPTION).read_bytes()).hexdigest()}


def _print(row: dict[str, Any]) -> None:
    print(f"{row['lanes']} lanes, {row['row_units']} row units, {row['words_used']} words of {row['memory_words']}")
    totals, joules = row["totals"], row["energy_unit"] == "J"
    scale, unit = (1e6, "uJ") if joules else (1e-6, "M proxy")
    whole = totals["area_ge"]
    print(
        format_table(
            ("unit", "count", "GE", "share"),
            [(u["unit"], u["count"], round(u["area_ge"]), f"{u['area_ge'] / whole:.1%}") for u in row["units"]],
        )
    )
    print()
    print(cycles_text(row["kinds"]), "\n")
    held = [
        (m["name"], m["size"], None if m["area_um2"] is None else f"{m['area_um2'] * 1e-6:.2f}")
        for m in row["memories"]
    ]
    print(format_table(("memory", "bits, all copies", "mm2"), held))
    print()
    spent = sorted(row["energy_by_part"].items(), key=lambda item: -item[1])
    print(format_table(("energy of", unit), [(name, f"{energy * scale:.4g}") for name, energy in spent]))
    print()
    print(f"{totals['cycles']} cycles, {totals['seconds'] * 1e3:.4g} ms at {row['clock_hz'] / 1e6:g} MHz; ", end="")
    print(f"the array works in {totals['utilisation']:.1%}.")
    print(f"{totals['energy'] * scale:.4g} {unit} an inference, {totals['energy_per_token'] * scale:.4g} a token.")
    if joules:
        print(f"{totals['area_units_mm2']:.2f} mm2 of units, {totals['area_memories_mm2']:.2f} mm2 of memories.")
    for line in row["too_slow"]:
        print(f"TOO SLOW: {line}.")
    print("NOT counted:")
    for line in row["not_counted"]:
        print(f"  {line}")
