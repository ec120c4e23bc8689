"""`python -m cost_model floating`: the floating-point baseline in gate equivalents beside published figures."""

import argparse
import sys
from pathlib import Path
from typing import Any

from amaranth.back import verilog

from cost_model.cache import CACHE
from cost_model.cells.library import GATE_EQUIVALENTS
from cost_model.commands import options
from cost_model.netlist import breakdown, timing
from cost_model.netlist.synthesis import Flow, synthesise_all
from cost_model.reports import paper
from rtl.floating.mac import Mac, MacConfig
from rtl.floating.operators import Operator, OperatorConfig
from rtl.floating.pwl import FloatPwl, FloatPwlConfig
from sim.common.text_table import format_table
from sim.reference import InputError
from sim.reference.floating import FP16, FP32, FloatFormat

# Hennessy and Patterson, Computer Architecture: A Quantitative Approach, 6th edition, figure 1.13: synthesised by
# Design Compiler for TSMC 45 nm, the floating-point units from the DesignWare library; square micrometres
PUBLISHED_UM2 = {("add", FP32): 4184, ("add", FP16): 1360, ("multiply", FP32): 7700, ("multiply", FP16): 1640}
# of NAND2_X1 of the NanGate FreePDK45 Open Cell Library, of which the shipped gate equivalents are ratios; it stands in
# for TSMC's own 45 nm library, whose areas are not public
NAND2_UM2 = 0.798
# an assumption: the areas of TSMC's 28 nm libraries are not public, and no figure for them can be cited
NAND2_28_UM2 = (0.49, 0.63)
ENTRIES = paper.ENTRIES


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("floating", help="the floating-point units in gate equivalents beside published ones")
    parser.set_defaults(do=_floating)
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"netlists ({CACHE})")
    parser.add_argument("--json", action="store_true", help="records as JSON on stdout")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the records as JSON")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="syntheses at once (1)")


def _floating(arguments: argparse.Namespace) -> int:
    units = _units()
    flow = Flow(GATE_EQUIVALENTS)
    texts = [(_verilog(component), "unit") for _, _, component, _ in units]
    records = []
    for (name, number, _, published), made in zip(
        units, synthesise_all(texts, flow, arguments.cache, arguments.jobs), strict=True
    ):
        owners = breakdown.components(made.netlist)
        registers = [owners[i.name] for i in made.netlist.instances if i.cell.state]
        table = registers.count("table")
        each = _register(made.netlist.library)
        low, high = _gate_equivalents(published, paper_s=name.startswith("pwl"))
        records.append(
            {
                "unit": name,
                "format": number,
                "area_ge": made.area,
                "table_flip_flops": table,
                "pipeline_flip_flops": len(registers) - table,
                "table_ge": each * table,
                "pipeline_ge": each * (len(registers) - table),
                "logic_ge": round(made.area - each * len(registers), 2),
                "published_um2": published,
                "published_ge_low": low,
                "published_ge_high": high,
                "source": made.source,
            }
        )
    options.deliver(arguments, records, _print)
    return 0


def _print(records: list[dict[str, Any]]) -> None:
    columns = ["unit", "format", "area_ge", "table_ge", "pipeline_ge", "logic_ge", "published_um2"]
    print(
        format_table(
            [*(name.replace("_", " ") for name in columns), "published ge"],
            [
                [
                    *(_whole(record[name]) for name in columns),
                    _range(record["published_ge_low"], record["published_ge_high"]),
                ]
                for record in records
            ],
        )
    )
    print()
    print(_caption(GATE_EQUIVALENTS.stem))
    for record in records:
        if record["unit"].startswith("pwl") and record["published_um2"] is not None:
            print(_difference(record))


def _gate_equivalents(published: float | None, paper_s: bool) -> tuple[int | None, int | None]:
    """The published area in gate equivalents, for the largest and the smallest plausible area of a NAND2."""
    if published is None:
        return None, None
    small, large = NAND2_28_UM2 if paper_s else (NAND2_UM2, NAND2_UM2)
    return round(published / large), round(published / small)


def _whole(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else round(value)


def _range(low: int | None, high: int | None) -> str | None:
    return None if low is None else str(low) if low == high else f"{low}-{high}"


def _caption(library: str) -> str:
    small, large = NAND2_28_UM2
    return f"""\
ours: library {library}, operations of one stage, pwl units with the stages recorded for 8 ns in IHP's SG13G2.
table, pipeline: the flip-flops of the table and all others, each with a multiplexer that holds it; logic: the rest.
published operations: Hennessy and Patterson, figure 1.13, TSMC 45 nm (for the mac, adder and multiplier added up),
with the NAND2 of another 45 nm library, NanGate FreePDK45, {NAND2_UM2} um2, as TSMC's areas are not public.
published pwl: {paper.SOURCE}, {paper.CLOCK_HZ / 1e6:g} MHz; the NAND2 of that library is not public either and
assumed to be {small}-{large} um2. Its storage and its stages are not known here."""


def _difference(record: dict[str, Any]) -> str:
    """A line that compares a unit's area with the published one."""
    low, high = (round(record["area_ge"] - record[f"published_ge_{end}"]) for end in ("high", "low"))
    registers = round(record["table_ge"] + record["pipeline_ge"])
    return (
        f"{record['unit'].split(',')[0]} {record['format']}: ours less the published one is {low} to {high}; "
        f"table and pipeline take {registers}, logic {round(record['logic_ge'])}."
    )


def _verilog(component: Any) -> str:
    return verilog.convert(component, name="unit", emit_src=False, strip_internal_attrs=True)


def _register(library: Any) -> float:
    """The area of a flip-flop that holds, in the library."""
    return float(library.cell("DFF").area + library.cell("MUX2").area)


def _units() -> list[tuple[str, str, Any, float | None]]:
    """(unit, format, component, published area); an operation is one stage, its inputs unregistered."""
    units: list[tuple[str, str, Any, float | None]] = []
    for number in (FP32, FP16):
        for operation in ("compare", "add", "multiply"):
            component = Operator(OperatorConfig(operation, number, 1))
            units.append((operation, str(number), component, PUBLISHED_UM2.get((operation, number))))
    for number, accumulator in ((FP32, FP32), (FP16, FP16), (FP16, FP32)):
        name = str(number) if number == accumulator else f"{number} in {accumulator}"
        units.append(("mac", name, Mac(MacConfig(number, accumulator, 1)), _published(number, accumulator)))
    for number in (FP32, FP16):
        stages = _stages(number)
        component = FloatPwl(FloatPwlConfig(ENTRIES, number, stages=stages))
        published = paper.ROWS.get(str(number).upper())
        area = None if published is None else published.area
        units.append((f"pwl-{ENTRIES}, {stages} stages", str(number), component, area))
    return units


def _stages(number: FloatFormat) -> int:
    """The fewest stages that meet the recorded period; warns on stderr if none is recorded."""
    try:
        return timing.recorded("pwl", str(number).upper(), ENTRIES)["stages"]
    except InputError as error:
        print(f"{error}; {FloatPwlConfig.stages} taken", file=sys.stderr)
        return FloatPwlConfig.stages


def _published(number: FloatFormat, accumulator: FloatFormat) -> int:
    return PUBLISHED_UM2["multiply", number] + PUBLISHED_UM2["add", accumulator]
