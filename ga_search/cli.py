"""The command line: fit tables, and export, import, lint and compare them."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ga_search.config import METHODS, OBJECTIVES, FitConfig
from ga_search.functions import FUNCTIONS, PAPER
from sim.common.command import Parser, print_json, run
from sim.common.errors import require_range
from sim.common.files import PATIENCE, locked
from sim.reference import InputError, PwlTable
from sim.reference.code_format import SIGNS, WIDTH_RANGE
from sim.reference.folding import SYMMETRIES
from sim.reference.two_powers import SLOPE_FORMS

EXAMPLES = """\
examples:
  python -m ga_search                                     the paper's five functions at 8 and 16 entries
  python -m ga_search silu tanh --entries 8 12 --json     others, as JSON
  python -m ga_search div --domain 2 4                    the reciprocal of a network's normaliser
  python -m ga_search my.module:swish --domain -6 6       your own function on numpy arrays
  python -m ga_search export tables/gelu-8-genetic.json --format hex
  python -m ga_search lint tables/gelu-8-genetic.json
also: import FILE, compare TABLE TABLE, exact FUNCTION; each has --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    commands = {"export": _export, "import": _import, "lint": _lint, "compare": _compare, "exact": _exact}
    if argv and argv[0] in commands:
        return commands[argv[0]](argv[1:])
    return _fit(argv)


def _fit(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python -m ga_search",
        description="Fit integer piecewise-linear tables to non-linear functions.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("functions", nargs="*", metavar="FUNCTION", help="names of functions or package.module:callable")
    add("--entries", type=int, nargs="+", default=[8, 16], help="table sizes, 2..64 (default: 8 16)")
    add("--method", nargs="+", default=["genetic"], choices=METHODS, help="default: genetic")
    add("--scales", type=int, nargs=2, metavar=("FIRST", "LAST"), help="inclusive range of scale exponents")
    add("--bits", type=int, default=8, help="width of input, coefficients and output (default: 8)")
    add("--in-bits", type=int, help="input width, if it differs")
    add("--coef-bits", type=int, help="coefficient width, if it differs")
    add(
        "--intercept-bits",
        type=int,
        help="intercept width, if it differs from the coefficients', which are then slopes",
    )
    add("--out-bits", type=int, help="output width, if it differs")
    add("--in-unsigned", action="store_true", help="input codes are unsigned")
    add("--out-unsigned", action="store_true", help="output codes are unsigned")
    for name in ("slope", "intercept"):
        add(f"--{name}-sign", choices=SIGNS, default="signed", help=f"a {name} of known sign takes a bit less (signed)")
    add("--slope-form", choices=SLOPE_FORMS, default="any", help="two-powers: each slope is ±2^a ± 2^b (any)")
    add("--symmetry", choices=SYMMETRIES, default="none", help="fit and store half of a symmetric function (none)")
    add(
        "--domain",
        type=float,
        nargs=2,
        metavar=("LO", "HI"),
        help="the x for which the fit is made (default: the function's own)",
    )
    add("--objective", default="full", choices=OBJECTIVES, help="codes that count in the fit (default: full)")
    add("--weights", metavar="FILE.npz", help="array 'histogram', counts per code, for --objective weights")
    add("--slope-frac-bits", type=int, help="fix λ (with --intercept-frac-bits); default: chosen by the fit")
    add("--intercept-frac-bits", type=int, help="fix μ")
    add("--restarts", type=int, default=8, help="networks that nn-lut trains (default: 8)")
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=os.cpu_count() or 1, help="parallel fits (default: the cores)")
    add("--no-certificate", action="store_true", help="skip the proven optimum beside each fit")
    add("--no-plots", action="store_true", help="write no pictures")
    add("--resume", action="store_true", help="do only what an interrupted run in the folder left")
    add(
        "-o",
        "--output",
        type=Path,
        default=Path("tables"),
        metavar="DIR",
        help="for the files, named by what is fitted (tables)",
    )
    add("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(argv)
    if options.jobs < 1:
        raise InputError(f"jobs must be at least 1, not {options.jobs}")
    scales = None
    if options.scales is not None:
        first, last = options.scales
        if first > last:
            raise InputError(f"scales must be a range, low first, not {first} {last}")
        scales = tuple(range(first, min(last, 64) + 1))
    configs = [
        FitConfig(
            function=function,
            entries=entries,
            method=method,
            domain=tuple(options.domain) if options.domain else None,
            scales=scales,
            in_bits=options.bits if options.in_bits is None else options.in_bits,
            in_signed=not options.in_unsigned,
            coef_bits=options.bits if options.coef_bits is None else options.coef_bits,
            out_bits=options.bits if options.out_bits is None else options.out_bits,
            intercept_bits=options.intercept_bits,
            slope_sign=options.slope_sign,
            intercept_sign=options.intercept_sign,
            symmetry=options.symmetry,
            slope_form=options.slope_form,
            out_signed=not options.out_unsigned,
            objective=options.objective,
            weights=options.weights,
            slope_frac_bits=options.slope_frac_bits,
            intercept_frac_bits=options.intercept_frac_bits,
            restarts=options.restarts,
            seed=options.seed,
            certificate=not options.no_certificate,
        )
        for function in options.functions or PAPER
        for entries in options.entries
        for method in options.method
    ]
    from ga_search.report import table_text
    from ga_search.sweep import Sweep

    rows = Sweep(tuple(configs), options.output, plots=not options.no_plots).run(options.jobs, options.resume)
    if options.json:
        print_json(rows)
    else:
        print(table_text(rows))
        print(f"\ntables, pictures and rows are in {options.output}/")
    return 0


def _export(argv: Sequence[str]) -> int:
    from ga_search.exchange import EXPORTS, export

    parser = Parser(prog="python -m ga_search export", description="Write a table in another layout.")
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("--format", required=True, choices=tuple(EXPORTS))
    parser.add_argument("--scale", type=int, nargs="+", help="scale exponents (default: the table's)")
    parser.add_argument("--output-scale", type=int, help="output is in units of 2^-OUTPUT_SCALE (default: the fit's)")
    _add_function(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: beside the table")
    options = parser.parse_args(argv)
    scales = tuple(options.scale) if options.scale else None
    for path in export(options.table, options.format, scales, options.output_scale, options.output, options.function):
        print(path)
    return 0


def _import(argv: Sequence[str]) -> int:
    from ga_search.exchange import import_gqa_lut

    parser = Parser(prog="python -m ga_search import", description="Read tables in the released GQA-LUT layout.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--in-bits", type=int, default=8)
    parser.add_argument("--coef-bits", type=int, help="round to coefficients of so many bits (default: exact)")
    parser.add_argument("--in-unsigned", action="store_true", help="input codes are unsigned")
    parser.add_argument("--domain", type=float, nargs=2, metavar=("LO", "HI"), help="default: the function's own")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: beside the file")
    options = parser.parse_args(argv)
    folder = options.output or options.file.parent
    require_range("in_bits", options.in_bits, *WIDTH_RANGE)
    domain = tuple(options.domain) if options.domain else None
    tables = import_gqa_lut(options.file, options.in_bits, not options.in_unsigned, domain, options.coef_bits)
    with locked(folder, PATIENCE):
        for name, table in tables.items():
            path = folder / f"{name}.json"
            if path.resolve() == options.file.resolve():
                raise InputError(f"{path}: would overwrite the file that is imported; give another folder with -o")
            print(table.save(path))
    print(f"domain {list(next(iter(tables.values())).domain)}, which the layout does not hold", file=sys.stderr)
    return 0


def _add_function(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--function", metavar="MODULE:CALLABLE", help="your own function, if it is the table's; it is called"
    )


def _lint(argv: Sequence[str]) -> int:
    from ga_search.exchange import function_of, table_output_scale
    from sim.reference.lint import lint_structure, lint_values, unreachable

    parser = Parser(
        prog="python -m ga_search lint",
        description="f(0), tails, sign, monotonicity, duplicate breakpoints, wasted entries; exit code 1 on a finding.",
    )
    parser.add_argument("table", type=Path, metavar="TABLE")
    _add_function(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    table = PwlTable.load(options.table)
    findings = lint_structure(table)
    if table.in_bits > 16:
        print("only the structure is linted above 16 input bits", file=sys.stderr)
    elif options.function is None and table.function not in FUNCTIONS:
        print(f"only the structure is linted: {table.function!r} is not known, see --function", file=sys.stderr)
    else:
        function = function_of(table, options.function)
        scale_out = table_output_scale(table, function)
        findings += lint_values(table, function.evaluate, scale_out, function.defined, function.monotone)
        if skipped := unreachable(table, scale_out):
            print(f"not linted, since the output scale {scale_out} is out of reach: scales {skipped}", file=sys.stderr)
    if options.json:
        print_json([asdict(finding) for finding in findings])
    else:
        print("\n".join(map(str, findings)) if findings else f"{options.table}: no findings")
    return 1 if findings else 0


def _compare(argv: Sequence[str]) -> int:
    from ga_search.compare import compare, compare_text

    parser = Parser(prog="python -m ga_search compare", description="Errors of tables of one function, side by side.")
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE")
    _add_function(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if len(options.tables) < 2:
        raise InputError("compare needs at least two tables")
    rows: list[dict[str, Any]] = compare(options.tables, options.function)
    if options.json:
        print_json(rows)
    else:
        print(compare_text(rows))
    return 0


def _exact(argv: Sequence[str]) -> int:
    from ga_search.exact import truth_table

    parser = Parser(
        prog="python -m ga_search exact",
        description="Write every code's correctly rounded output, for python -m rtl truth-table.",
    )
    parser.add_argument("function", metavar="FUNCTION")
    parser.add_argument("--scale", type=int, nargs="+", help="scale exponents of the codes (the function's own)")
    parser.add_argument("--in-bits", type=int, default=8)
    parser.add_argument("--out-bits", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    options = parser.parse_args(argv)
    scales = tuple(sorted(set(options.scale))) if options.scale else None
    table = truth_table(options.function, scales, options.in_bits, options.out_bits)
    print(table.save(options.output))
    return 0
