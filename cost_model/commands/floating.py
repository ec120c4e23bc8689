"""`python -m cost_model floating`: the floating-point baseline in gate equivalents beside published figures."""

import argparse
from typing import Any

from amaranth.back import verilog

from cost_model.commands import options
from cost_model.library import GATE_EQUIVALENTS
from cost_model.synthesis import Flow, synthesise_all
from rtl.floating.mac import Mac, MacConfig
from rtl.floating.operators import Operator, OperatorConfig
from rtl.floating.pwl import FloatPwl, FloatPwlConfig
from sim.reference.command import print_json
from sim.reference.floating import FP16, FP32, FloatFormat

# Hennessy and Patterson, Computer Architecture: A Quantitative Approach, 6th edition, figure 1.13: synthesised by
# Design Compiler for TSMC 45 nm, the floating-point units from the DesignWare library; square micrometres
PUBLISHED_UM2 = {("add", FP32): 4184, ("add", FP16): 1360, ("multiply", FP32): 7700, ("multiply", FP16): 1640}
NAND2_UM2 = (
    0.798  # NAND2_X1 of the NanGate FreePDK45 Open Cell Library, of which the shipped gate equivalents are ratios
)
PWL_STAGES = {FP32: 7, FP16: 3}  # the fewest that meet 8 ns in IHP's library


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("floating", help="the floating-point units in gate equivalents beside published ones")
    parser.set_defaults(do=_floating)
    options.add_common(parser)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="syntheses at once (1)")


def _floating(arguments: argparse.Namespace) -> int:
    units = _units()
    flow = Flow(GATE_EQUIVALENTS)
    texts = [(_verilog(component), "unit") for _, _, component, _ in units]
    rows = []
    for (name, number, _, published), made in zip(
        units, synthesise_all(texts, flow, arguments.cache, arguments.jobs), strict=True
    ):
        flops = sum(bool(instance.cell.state) for instance in made.netlist.instances)
        converted = None if published is None else round(published / NAND2_UM2)
        rows.append(
            {
                "unit": name,
                "format": number,
                "area_ge": made.area,
                "flip_flops": flops,
                "logic_ge": made.area - _register(made.netlist.library) * flops,
                "published_um2": published,
                "published_ge": converted,
                "source": made.source,
            }
        )
    if arguments.json:
        print_json(rows)
        return 0
    columns = ["unit", "format", "area_ge", "flip_flops", "logic_ge", "published_um2", "published_ge"]
    options.print_table([name.replace("_", " ") for name in columns], [[row[name] for name in columns] for row in rows])
    print()
    print(
        "logic: without flip-flops and the multiplexers that hold them; published: Hennessy and Patterson, figure 1.13,"
    )
    print(f"45 nm, {NAND2_UM2} um2 a NAND2, for the mac the sum of adder and multiplier; library {flow.library.name}.")
    return 0


def _verilog(component: Any) -> str:
    return verilog.convert(component, name="unit", emit_src=False, strip_internal_attrs=True)


def _register(library: Any) -> float:
    """A flip-flop that holds, by the library's rule."""
    return float(library.cell("DFF").area + library.cell("MUX2").area)


def _units() -> list[tuple[str, str, Any, int | None]]:
    """(unit, format, component, published area); an operation is one stage, its inputs unregistered."""
    units: list[tuple[str, str, Any, int | None]] = []
    for number in (FP32, FP16):
        for operation in ("compare", "add", "multiply"):
            component = Operator(OperatorConfig(operation, number, 1))
            units.append((operation, str(number), component, PUBLISHED_UM2.get((operation, number))))
    for number, accumulator in ((FP32, FP32), (FP16, FP16), (FP16, FP32)):
        name = str(number) if number == accumulator else f"{number} in {accumulator}"
        units.append(("mac", name, Mac(MacConfig(number, accumulator, 1)), _published(number, accumulator)))
    for number, stages in PWL_STAGES.items():
        units.append((f"pwl-8, {stages} stages", str(number), FloatPwl(FloatPwlConfig(8, number, stages=stages)), None))
    return units


def _published(number: FloatFormat, accumulator: FloatFormat) -> int:
    return PUBLISHED_UM2["multiply", number] + PUBLISHED_UM2["add", accumulator]
