"""The area of a piecewise-linear unit whose widths, signs, shift ranges and symmetry are its own.

Components and coefficients are those of `cost_model.analytical.units.Pwl`, and so is the sum for the reference unit in
one stage. What folding adds is priced as inverted bits. Units without a multiplier were not among those that the
coefficients are fitted to.
"""

from typing import Any

from cost_model.analytical.components import (
    BoothProduct,
    ComparatorBank,
    Fixed,
    MergedRecoding,
    PipelineRegisters,
    Rounding,
    Selection,
    ShiftedSum,
    Shifter,
    Sizes,
    added,
)
from cost_model.analytical.estimate import coefficients
from rtl.pwl import SHIFTS, PwlConfig
from sim.reference import InputError
from sim.reference.arithmetic import holding


def trimmed_area(config: PwlConfig, library: str = "gate_equivalents", tables: int = 1) -> float:
    """The area in gate equivalents of a unit of one stage with its table in flip-flops.

    With several `tables` it holds so many and selects one, which `rtl` does not build.

    Raises `InputError` if the library is unknown or the unit is another.
    """
    known = coefficients()["libraries"]
    if library not in known:
        raise InputError(f"library must be one of {', '.join(known)}, not {library!r}")
    if (config.stages, config.storage, config.output) != (1, "flops", "code"):
        raise InputError("the analytical model of trimmed units is for one stage, flip-flops and output codes")
    fitted: dict[str, Any] = known[library]
    area = sum(fitted["area"].get(name, 0.0) * float(size) for name, size in _sizes(config, tables).items())
    return area / fitted["nand2_area"] if fitted["physical"] else area


def table_bits(config: PwlConfig) -> int:
    """The bits of a unit's table."""
    (threshold, _), (slope, _), (intercept, _) = config.lists.values()
    return (config.entries - 1) * threshold + config.entries * (slope + intercept)


def _sizes(config: PwlConfig, tables: int) -> Sizes:
    numbers, entries, acc = config.code_format, config.entries, config.acc_bits
    _, (slope, _), (intercept, _) = config.lists.values()
    bits = tables * table_bits(config)
    distances = [config.ends(name)[1] - config.ends(name)[0] + 1 for name in SHIFTS]
    factor, _ = holding(*numbers.factor_range)
    product = [
        MergedRecoding(factor, 1),
        BoothProduct(config.in_bits, factor, acc, intercept + config.largest("intercept_shift")),
    ]
    if config.slope_form == "two-powers":
        product = [ShiftedSum(config.in_bits, config.coef_bits, acc, 1 + (numbers.symmetry == "gated"))]
    parts = [
        ComparatorBank(entries - 1, config.in_bits),
        Selection(entries, slope + intercept),
        *product,
        Shifter(intercept, distances[0]),
        Shifter(acc + 1 - config.ends("output_shift")[0], distances[1]),
        Rounding(acc, config.out_bits),
        PipelineRegisters(config.out_bits + 1),
        Fixed("pwl", 1),
    ]
    table = {
        "flip-flops": bits,
        "table bits in flip-flops": bits,
        "table words in flip-flops": tables * (3 * entries - 1),
    }
    if tables > 1:
        parts.append(Selection(tables, table_bits(config)))
    folding = {"inverted bits": config.in_bits + (0 if numbers.symmetry == "gated" else intercept)}
    return added(table, *(part.sizes() for part in parts), *([folding] if numbers.folded else []))
