"""`python -m rtl.formal`: run every proof, and check that each finds its faults. Exit code 1 if one does not hold."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from rtl.formal.faults import DEEP_FAULTS, SHIFTED_FAULTS, TRUTH_TABLE_FAULTS, faulty
from rtl.formal.lines import SHAPE
from rtl.formal.prove import Proof, latch_proof, proofs, require_solver, stored_proof, table_proof, whole_proof
from rtl.formal.scaling import scaling_proofs
from rtl.formal.truth_tables import truth_table_proofs
from rtl.pwl import PwlConfig
from sim.common.command import Parser, print_json, run
from sim.reference import LoweredTable, PwlTable
from sim.reference.truth_table import TruthTable

# secants of GELU at s = 4 with the output at 2^-5: an example with slopes of both signs and a clamped end
EXAMPLE = LoweredTable(
    thresholds=(-48, -26, -9, 0, 11, 25, 48),
    slopes=(0, -6, -2, 17, 46, 68, 71, 64),
    intercepts=(-1, -16, -11, 0, 0, -12, -14, 0),
    intercept_shift=4,
    output_shift=5,
    s=4,
)
# few words, so that a trace which loads them and shows a fault is short
SHORT = LoweredTable(
    thresholds=(-3, 5), slopes=(-7, 3, 11), intercepts=(6, -2, 9), intercept_shift=1, output_shift=2, s=1,
    in_bits=5, coef_bits=5, out_bits=5,
)  # fmt: skip
# the same of |x|, with widths and signs of their own
FOLDED = replace(
    SHORT, thresholds=(2, 9), slopes=(3, 0, 11), intercepts=(-5, 0, -7), coef_bits=4, intercept_bits=3,
    slope_sign="unsigned", intercept_sign="negative",
)  # fmt: skip
FOLDS = {"odd": 0, "complement": 2, "gated": 3}
DEPTHS = (1, 3, 6)
DEEP = PwlConfig(8, max_intercept_shift=14)  # a wide shift at the reference unit's width
SMALL = PwlConfig(3, in_bits=4, coef_bits=4, out_bits=4, max_intercept_shift=2, max_output_shift=3, stages=2)


def table_proofs(lowered: LoweredTable) -> list[Proof]:
    """The wired-in table at several depths."""
    return [table_proof(lowered, stages) for stages in DEPTHS]


def small_proofs() -> list[Proof]:
    """Proofs on small units: a whole unit at once, a table in latches, a stored table, the carry."""
    latched = latch_proof(replace(SMALL, entries=4))
    return [
        whole_proof(SMALL),
        latched,
        stored_proof(SHORT, stages=2),
        *folded_proofs(),
        *shifted_proofs(),
        *wide_proofs(),
    ]


def folded_proofs() -> list[Proof]:
    """Units that are loaded with a table of half a function, one for each symmetry."""
    tables = {name: replace(FOLDED, symmetry=name, fold_bits=bits) for name, bits in FOLDS.items()}
    return [replace(stored_proof(table, 2), name=f"stored, {name}") for name, table in tables.items()]


def folded_faults() -> list[Proof]:
    """Each symmetry's unit against the specification of another one, or of another 1."""
    tables = {name: replace(FOLDED, symmetry=name, fold_bits=bits) for name, bits in FOLDS.items()}
    wrong = {
        "odd": tables["complement"],
        "complement": replace(tables["complement"], fold_bits=3),
        "gated": tables["odd"],
    }
    return [
        replace(table_proof(table, 2, expected=wrong[name]), name=f"table, another fold than {name}")
        for name, table in tables.items()
    ]


def shifted_proofs() -> list[Proof]:
    """Units without a multiplier, whose slopes are sums of two powers of two: of the whole function and of a half."""
    tables = {
        "stored, two powers": replace(SHORT, slopes=(-7, 3, 12)),
        "stored, two powers, gated": replace(FOLDED, slopes=(3, 0, 12), symmetry="gated", fold_bits=FOLDS["gated"]),
    }
    configs = {
        name: PwlConfig(3, **table.code_format.to_dict(), stages=2, slope_form="two-powers")
        for name, table in tables.items()
    }
    return [replace(stored_proof(table, 2, configs[name]), name=name) for name, table in tables.items()]


def wide_proofs() -> list[Proof]:
    """Product and arithmetic of a unit whose adder passes a carry from its low to its high half."""
    found = {proof.name: proof for proof in proofs(SHAPE)}
    return [replace(found[name], name=f"{name}, wide shift") for name in ("product", "arithmetic")]


def deep_proofs() -> list[Proof]:
    """The same at the reference unit's width; the product takes a minute."""
    found = {proof.name: proof for proof in proofs(DEEP)}
    return [replace(found[name], name=f"{name}, deep shift") for name in ("product", "arithmetic")]


def table_faults(lowered: LoweredTable) -> list[Proof]:
    """The same unit with one flipped bit in its table: in a slope, an intercept or a threshold."""
    changes = {
        "slopes": (lowered.slopes[0] ^ 1, *lowered.slopes[1:]),
        "intercepts": (*lowered.intercepts[:-1], lowered.intercepts[-1] ^ 1),
        "thresholds": (lowered.thresholds[0] ^ 1, *lowered.thresholds[1:]),
    }
    bare = replace(lowered, output_shift=0, out_bits=32)  # no output rounding that could hide the bit
    return [
        replace(table_proof(replace(bare, **{name: values}), 3, expected=bare), name=f"table, a flipped bit in {name}")
        for name, values in changes.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    require_solver()
    config = PwlConfig(
        entries=arguments.entries,
        in_bits=arguments.width,
        coef_bits=arguments.width,
        out_bits=arguments.width,
        stages=arguments.stages,
    )
    lowered = EXAMPLE
    if arguments.table is not None:
        lowered = PwlTable.load(arguments.table).lower(arguments.scale, arguments.output_scale)
    loaded = replace(stored_proof(lowered, config.stages), name="stored, the table")
    claims, deep = [*proofs(config), *small_proofs(), *scaling_proofs(), *truth_table_proofs()], deep_proofs()
    if arguments.truth_table is not None:
        claims.append(truth_table_proofs(TruthTable.load(arguments.truth_table))[0])
    jobs = [(proof, "proved") for proof in [*table_proofs(lowered), loaded, *claims, *deep]]
    jobs += [
        (proof, "refuted")
        for proof in [
            *table_faults(EXAMPLE),
            *folded_faults(),
            *faulty(claims),
            *faulty(deep, DEEP_FAULTS),
            *faulty(shifted_proofs(), SHIFTED_FAULTS),
            *faulty(truth_table_proofs(), TRUTH_TABLE_FAULTS),
        ]
    ]
    rows, good = [], True
    for proof, expected in tqdm(jobs, unit="proof", disable=not sys.stderr.isatty()):
        result = proof.run(arguments.timeout)
        good &= result.outcome == expected
        rows.append(asdict(result) | {"expected": expected})
        if not arguments.json:
            mark = "ok " if result.outcome == expected else "BAD"
            print(f"{mark} {result.outcome:<9} {result.seconds:6.1f} s  {result.name}: {result.shape}", flush=True)
    if arguments.json:
        print_json(rows)
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl.formal", description=__doc__, epilog="example:\n  python -m rtl.formal --width 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--entries", type=int, default=8, metavar="N", help="entries of the unit for all tables (8)")
    parser.add_argument("--width", type=int, default=8, metavar="BITS", help="its three widths (8)")
    parser.add_argument("--stages", type=int, default=3, metavar="N", help="its stages (3)")
    parser.add_argument("--table", type=Path, metavar="JSON", help="the table to prove, instead of an example")
    parser.add_argument("--scale", type=int, default=5, metavar="S", help="its input scale exponent (5)")
    parser.add_argument("--output-scale", type=int, default=5, metavar="S", help="its output scale exponent (5)")
    parser.add_argument("--truth-table", type=Path, metavar="JSON", help="a truth table whose unit is proved too")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS", help="for one call of the solver (300)")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
