"""What can be costed: a unit, the vectors that its netlist must pass, and those whose toggles count as its work.

**The reference unit** of every headline: one width for input, coefficients and output, table in flip-flops, parallel
comparators, streams that stall on both sides, intercept shift 0..7 and output shift 0..15 as inputs.

**The work** of a piecewise-linear unit is GELU on real inputs: 4,096 values that reached the first GELU of a small
transformer (scikit-learn's digits, `data/gelu_inputs.npy`), in the order in which they came, quantised to the unit's
format; the table is fitted at the unit's own precision. The input scale is the largest that keeps [-4, 4) and the
intercept shift within the unit's range: 2^-5 for 8 bits, 2^-7 for wider ones.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.netlist.memories import Memory, found
from ga_search import fit_table, gelu
from rtl.blocks.multiplication import as_operator
from rtl.floating.pwl import FloatPwl, FloatPwlConfig
from rtl.formal.stimulus import random_lowered
from rtl.pwl import SHIFTS as PWL_SHIFTS
from rtl.pwl import Pwl, PwlConfig
from rtl.verilog_text import tied
from sim.cosim.dut import Device, device, emitted
from sim.reference import InputError, LoweredTable, PwlTable, floating
from sim.reference.arithmetic import code_range
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FP16, FP32, FloatFormat
from sim.vectors.floating import float_pwl_set, random_float_pwl_set
from sim.vectors.pwl import corners, pwl_set
from sim.vectors.vector_set import VectorSet

INPUTS = Path(__file__).parents[1] / "data" / "gelu_inputs.npy"
SHIFTS = {"max_intercept_shift": 7, "max_output_shift": 15}  # the reference unit's
INTEGER_FORMATS = {"INT8": 8, "INT16": 16, "INT32": 32}
FLOAT_FORMATS = {"FP16": FP16, "FP32": FP32}
FORMATS = (*INTEGER_FORMATS, *FLOAT_FORMATS)
FITTED_BITS = 16  # the widest codes that a fit sees all of
CHECK_TABLES, CHECK_CODES = 48, 24  # random tables in the check of an integer netlist, and random codes for each
FLOAT_TABLES, FLOAT_CODES = 12, 120  # the same of a floating-point one


@dataclass(frozen=True)
class Design:
    """A unit to be costed.

    Parameters
    ----------
    name, format : str
        What tables of results call the unit and its number format.
    work : VectorSet
        The vectors whose toggles are counted.
    checks : tuple of VectorSet
        Further vectors that the netlist must pass.
    stalls : bool
        False ties `o__ready` to 1, to see what the stall logic costs.
    parameters : mapping
        The options that the design was made from, for records.
    emitted : Device or None
        The Verilog of the unit if it is not to be emitted for `work`.
    memories_inside : bool
        Whether row memories are in the netlist, as flip-flops, and not beside it.
    random_work : bool
        Whether the work is random operands, which toggle more nets than real ones.
    """

    name: str
    format: str
    work: VectorSet
    checks: tuple[VectorSet, ...]
    stalls: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    emitted: Device | None = None
    memories_inside: bool = False
    random_work: bool = False

    @cached_property
    def device(self) -> Device:
        """The unit's Verilog and ports."""
        unit = self.emitted or device(self.work)
        return unit if self.stalls else replace(unit, verilog=tied(unit.verilog, unit.module, "o__ready", 1))

    @cached_property
    def memories(self) -> tuple[Memory, ...]:
        """The unit's row memories."""
        return found(self.device.verilog, self.device.module)

    @property
    def beside(self) -> tuple[Memory, ...]:
        """Those that are not in its netlist."""
        return () if self.memories_inside else self.memories

    @property
    def in_rows(self) -> bool:
        """Whether it is a unit for rows."""
        return self.device.schedule is not None

    @property
    def unit(self) -> str:
        return self.work.unit

    @property
    def stages(self) -> int:
        return self.device.latency


@dataclass(frozen=True)
class PwlOptions:
    """A piecewise-linear unit to be costed; by default the reference unit.

    Parameters
    ----------
    entries : int
        Segments of the table.
    in_bits, coef_bits, out_bits : int
        Widths in bits of inputs, coefficients and outputs; None is the inputs' width.
    stages : int
        Latency in cycles.
    storage, output : str
        As for `rtl.PwlConfig`.
    output_shift_fixed : bool
        Whether the unit is for one output shift only.
    stalls : bool
        False ties `o__ready` to 1.
    full_shifts : bool
        Whether it takes every shift that its widths can need; the vectors then use the whole input width.
    own_tree : bool
        Whether the product is `rtl`'s own carry-save tree; otherwise it is a `*`, left to the synthesis tool.
    """

    entries: int = 8
    in_bits: int = 8
    coef_bits: int | None = None
    out_bits: int | None = None
    stages: int = 3
    storage: str = "flops"
    output: str = "code"
    output_shift_fixed: bool = False
    stalls: bool = True
    full_shifts: bool = False
    own_tree: bool = True

    def __post_init__(self) -> None:
        for name in ("coef_bits", "out_bits"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.in_bits)

    @property
    def name(self) -> str:
        """INT8, or INT and the three widths if they differ."""
        widths = dict.fromkeys((self.in_bits, self.coef_bits, self.out_bits))
        one = len(widths) == 1
        return f"INT{self.in_bits}" if one else f"INT{self.in_bits}x{self.coef_bits}x{self.out_bits}"


def pwl_design(options: PwlOptions) -> Design:
    """The unit of `options`, with a GELU table and its vectors.

    Parameters
    ----------
    options : PwlOptions
        The unit.

    Returns
    -------
    Design
        Its work is GELU on recorded inputs; its checks are random tables, with none if the table is wired in.

    Raises
    ------
    InputError
        If `rtl.PwlConfig` refuses the options.
    """
    in_bits, coef_bits, out_bits = options.in_bits, options.coef_bits, options.out_bits
    assert coef_bits is not None and out_bits is not None
    scale = in_bits - 3 if options.full_shifts else min(in_bits - 3, SHIFTS["max_intercept_shift"])
    table = gelu_table(options.entries, in_bits, coef_bits, out_bits, scale)
    widest = max(in_bits + coef_bits, coef_bits + SHIFTS["max_intercept_shift"]) + 1  # the accumulator
    limit = in_bits + coef_bits - 1 if options.full_shifts else min(SHIFTS["max_output_shift"], widest)
    loaded = _lowered(table, scale, limit, options.output)
    wired = options.storage == "constants"
    changes: dict[str, Any] = {"stages": options.stages, "output": options.output, "storage": options.storage}
    if wired:
        changes |= {"intercept_shift": loaded.intercept_shift, "max_intercept_shift": None, "constants": loaded}
    elif not options.full_shifts:
        changes["max_intercept_shift"] = SHIFTS["max_intercept_shift"]
    if options.output == "code":
        if options.output_shift_fixed or wired:
            changes |= {"output_shift": loaded.output_shift, "max_output_shift": None}
        else:
            changes["max_output_shift"] = limit
    work = pwl_set("gelu", [(loaded, codes(scale, in_bits))], {"table": table.digest}, options.entries, **changes)
    checks = () if wired else (random_checks(PwlConfig(**work.configuration)),)
    other = None
    if not options.own_tree:
        config = PwlConfig.from_dict(work.configuration, work.loaded(0))
        other = emitted(Pwl(config, product=as_operator), "pwl")
    name = f"pwl-{options.name}-{options.entries}"
    return Design(name, options.name, work, checks, options.stalls, asdict(options), other)


def float_design(
    number: FloatFormat, entries: int = 8, stages: int = 3, storage: str = "flops", own_tree: bool = True
) -> Design:
    """The floating-point unit; its table is the 32-bit integer fit's, rounded to the format.

    Without `own_tree` the product of the significands is a `*`.

    Raises `InputError` for what `rtl.floating.pwl.FloatPwlConfig` refuses.
    """
    name = next((n for n, f in FLOAT_FORMATS.items() if f == number), f"E{number.exponent_bits}M{number.fraction_bits}")
    table = FloatTable.of_table(number, gelu_table(entries, 32, 32, 32, SHIFTS["max_intercept_shift"]))
    inputs = floating.encode(number, np.load(INPUTS).astype(np.float64))
    changes: dict[str, Any] = {"stages": stages, "storage": storage}
    wired = {"constants": table} if storage == "constants" else {}
    work = float_pwl_set("gelu", [(table, inputs)], {"table": "gelu"}, entries=entries, **changes, **wired)
    checks: tuple[VectorSet, ...] = ()
    if storage != "constants":
        checks = (random_float_pwl_set("random", number, 0, FLOAT_TABLES, entries, FLOAT_CODES, **changes),)
    other = None
    if not own_tree:
        config = FloatPwlConfig.from_dict(work.configuration, work.loaded(0))
        other = emitted(FloatPwl(config, product=as_operator), "fp-pwl")
    parameters = {"entries": entries, **changes, "own_tree": own_tree}
    return Design(f"pwl-{name}-{entries}", name, work, checks, parameters=parameters, emitted=other)


@lru_cache(maxsize=64)
def reference_unit(number: str, entries: int, stages: int, **changes: Any) -> Design:
    """The reference unit in a format: INT8, INT16, INT32, FP16 or FP32; `changes` as for the format's own design."""
    if number in INTEGER_FORMATS:
        return pwl_design(PwlOptions(entries, INTEGER_FORMATS[number], stages=stages, **changes))
    if number not in FLOAT_FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {number!r}")
    return float_design(FLOAT_FORMATS[number], entries, stages, **changes)


def codes(scale: int, bits: int) -> np.ndarray:
    """The real inputs as codes at 2**-scale; int64, saturated."""
    values = np.load(INPUTS).astype(np.float64)
    return np.clip(np.floor(values * 2.0**scale + 0.5), *code_range(bits, True)).astype(np.int64)


@lru_cache(maxsize=256)
def gelu_table(entries: int, in_bits: int, coef_bits: int, out_bits: int, scale: int) -> PwlTable:
    """GELU fitted for one scale with the coefficients' full precision; the same arguments give the same table.

    Above 16 bits a fit would see a few codes of the domain only: there the breakpoints are those of 16 bits, and each
    inner segment is the least squares line of GELU on it, rounded to the wider coefficients; the outer are 0 and x.
    """
    if in_bits > FITTED_BITS:
        return _wide_table(entries, in_bits, coef_bits, out_bits, scale)
    fraction = coef_bits - 2  # slopes of GELU reach 1.13
    return fit_table(
        "gelu", entries, scales=(scale,), in_bits=in_bits, coef_bits=coef_bits, out_bits=out_bits,
        slope_frac_bits=fraction, intercept_frac_bits=fraction,
    )  # fmt: skip


def _wide_table(entries: int, in_bits: int, coef_bits: int, out_bits: int, scale: int) -> PwlTable:
    base = gelu_table(entries, FITTED_BITS, FITTED_BITS, FITTED_BITS, SHIFTS["max_intercept_shift"])
    ends = np.array(base.breakpoints) * 2.0**-base.bp_frac_bits
    lines = [(0.0, 0.0)]
    for low, high in pairwise(ends):
        x = np.linspace(low, high, 1001)
        slope, intercept = np.polyfit(x, gelu(x), 1)
        lines.append((float(slope), float(intercept)))
    lines.append((1.0, 0.0))
    unit = 2.0 ** (coef_bits - 2)
    slopes, intercepts = (tuple(floor(line[k] * unit + 0.5) for line in lines) for k in range(2))
    return replace(
        base,
        scales=(scale,),
        in_bits=in_bits,
        coef_bits=coef_bits,
        out_bits=out_bits,
        slope_frac_bits=coef_bits - 2,
        intercept_frac_bits=coef_bits - 2,
        slopes=slopes,
        intercepts=intercepts,
    )


def _lowered(table: PwlTable, scale: int, limit: int, output: str) -> LoweredTable:
    if output == "acc":
        return table.lower(scale)
    finest = table.slope_frac_bits + scale
    return table.lower(scale, max(min(table.out_bits - 3, finest), finest - limit))


def random_checks(config: PwlConfig) -> VectorSet:
    """Random tables with every shift the unit takes, random codes and the corners.

    Of three tables one has any shifts. The other two have codes in every segment: one has results inside the output's
    range or just outside, one has coefficients so small that their lowest bits are seen in the code.
    """
    rng = np.random.default_rng(0)
    loads = []
    for k in range(CHECK_TABLES):
        drawn = random_lowered(rng, config, results=("anywhere", ("inside", "around")[k % 2], "anywhere")[k % 3])
        if k % 3:
            low, high = config.code_format.threshold_range
            apart = low + rng.choice(high - low, config.entries - 1, replace=False)
            drawn = replace(drawn, thresholds=tuple(np.sort(apart).tolist()))
        if k % 3 == 2:
            ends = config.code_format.slope_range, config.code_format.intercept_range
            small = rng.integers(-2, 2, (2, config.entries))
            slopes, intercepts = (np.clip(row, *pair).tolist() for row, pair in zip(small, ends, strict=True))
            shifts = {name: config.ends(name)[0] for name in PWL_SHIFTS if getattr(drawn, name) is not None}
            drawn = replace(drawn, slopes=tuple(slopes), intercepts=tuple(intercepts), **shifts)
        loads.append((drawn, corners(drawn, rng, CHECK_CODES)))
    shape = {key: value for key, value in config.to_dict().items() if key != "constants"}
    return pwl_set("random", loads, {"seed": 0}, **shape)
