"""Tables in and out: lowered layouts for hardware and software, and the layout of the released GQA-LUT tables."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ga_search.functions import FUNCTIONS, Function, resolve
from ga_search.grid import Codes, measured_where_finite
from ga_search.metrics import output_scale
from ga_search.real_table import finest_fit, nearest
from sim.common.errors import require_range
from sim.common.files import PATIENCE, locked, read_json, write_whole
from sim.reference import InputError, PwlTable
from sim.reference.arithmetic import code_range
from sim.reference.code_format import WIDTH_RANGE
from sim.reference.layouts import to_c, to_hex, to_npz
from sim.reference.pwl import frac_bits_range

EXPORTS = {"hex": ".hex", "npz": ".npz", "c": ".h", "gqa-lut": ".gqa-lut.json"}
# the released files' names for functions and lists, beside ours
RELEASED_NAMES = {"reci": "div", "sqrt_reci": "rsqrt", "swish": "silu"}
RELEASED_KEYS = (("breakpoints", "split_points"), ("slopes", "coeff"), ("intercepts", "bias"))


def table_codes(table: PwlTable) -> Codes:
    """The input codes the table serves."""
    return Codes(table.in_bits, table.in_signed, table.scales)


def function_of(table: PwlTable, own: str | None = None) -> Function:
    """The table's function on the table's domain.

    A table is data: a `module:callable` that it names is never imported, unless the caller gives the same as `own`.
    Raises `InputError` if the function is neither in `FUNCTIONS` nor given.
    """
    if own is None and table.function not in FUNCTIONS:
        raise InputError(f"the table's function {table.function!r} must be given with --function to be called")
    function = resolve(own or table.function, table.domain)
    return measured_where_finite(function, table_codes(table)) if ":" in function.name else function


def table_output_scale(table: PwlTable, function: Function) -> int:
    """The output scale at which a fit of this table is judged."""
    return output_scale(function, (table.out_bits, table.out_signed), table_codes(table))


def export(
    path: Path,
    layout: str,
    scales: tuple[int, ...] | None = None,
    scale_out: int | None = None,
    folder: Path | None = None,
    own: str | None = None,
) -> list[Path]:
    """Write `path`'s table in `layout`; returns the files: one a scale (`NAME.s3.hex`), for gqa-lut one for all.

    Without `scale_out` the output scale is computed from the function (`own`: the user's, which is called), since the
    one in `provenance` is not part of the table's hash. Raises InputError if it can be neither computed nor is given,
    if it differs from the one in `provenance`, or if a scale cannot reach it.
    """
    table = PwlTable.load(path)
    folder = path.parent if folder is None else folder
    stem = path.name.removesuffix(".json")
    scales = scales or table.scales
    if layout == "gqa-lut" and scale_out is not None:
        raise InputError("--output-scale must not be given with gqa-lut, whose tables are real numbers")
    if layout == "gqa-lut":
        with locked(folder, PATIENCE):
            return [write_whole(folder / f"{stem}{EXPORTS[layout]}", to_gqa_lut(table, scales))]
    if scale_out is None:
        scale_out = _export_scale(path, table, own)
    lowered = [table.lower(scale, scale_out) for scale in scales]  # every refusal comes before the first file
    files = []
    with locked(folder, PATIENCE):
        for low in lowered:
            name = f"{stem}.s{low.s}"
            data = {"hex": to_hex, "npz": to_npz, "c": lambda t, name=name: to_c(t, name)}[layout](low)
            files.append(write_whole(folder / f"{name}{EXPORTS[layout]}", data))
    return files


def _export_scale(path: Path, table: PwlTable, own: str | None) -> int:
    """The output scale of the function; what `provenance` notes must agree, since no hash covers it."""
    noted = table.provenance.get("output_scale")
    if own is None and table.function not in FUNCTIONS:
        known = f" (its provenance notes {noted})" if type(noted) is int else ""
        raise InputError(f"{path}: give --output-scale{known}, or --function {table.function} to compute it")
    scale = table_output_scale(table, function_of(table, own))
    if noted is not None and noted != scale:
        raise InputError(
            f"{path}: provenance.output_scale must be {scale}, as {table.function} on its domain gives, not {noted!r}; "
            "--output-scale exports another"
        )
    return scale


def to_gqa_lut(table: PwlTable, scales: tuple[int, ...]) -> str:
    """The released layout: real numbers per scale, breakpoints as the codes see them."""
    table.code_format.require_unfolded("an export")
    content = {}
    for scale in scales:
        content[str(scale)] = {
            "breakpoints": [t * 2.0**-scale for t in table.thresholds(scale)],
            "slopes": [k * 2.0**-table.slope_frac_bits for k in table.slopes],
            "intercepts": [b * 2.0**-table.intercept_frac_bits for b in table.intercepts],
        }
    names = {ours: released for released, ours in RELEASED_NAMES.items()}
    return json.dumps({names.get(table.function, table.function): content}, indent=4) + "\n"


def import_gqa_lut(
    path: Path,
    in_bits: int = 8,
    in_signed: bool = True,
    domain: tuple[float, float] | None = None,
    coef_bits: int | None = None,
) -> dict[str, PwlTable]:
    """Tables by file stem from a file in the released layout, exactly, unless `coef_bits` says how wide to round.

    The layout knows no widths and no domain: they are the arguments', the domain the paper's unless given.

    If one set of breakpoints serves all scales, the result is one table, else one per scale (`STEM-s3`), since the
    released breakpoints are rounded at each scale by itself. Coefficients take the fewest bits, from 8 up, that are
    exact.
    """
    content = read_json(path)
    if not isinstance(content, dict) or len(content) != 1 or not isinstance(next(iter(content.values())), dict):
        raise InputError(f'{path}: must be one object {{"FUNCTION": {{"SCALE": {{...}}}}}}')
    name, by_scale = next(iter(content.items()))
    function = RELEASED_NAMES.get(str(name), str(name))
    if function in FUNCTIONS:
        target = resolve(function, domain)
    elif ":" not in function:
        raise InputError(f"{path}: unknown function {name!r}")
    elif domain is None:
        raise InputError(f"{path}: --domain must be given for a function of your own ({name})")
    else:
        target = Function(function, np.asarray, domain)  # a name; it is not called here
    parts = {_scale(path, key, in_bits): _lists(path, key, value) for key, value in by_scale.items()}
    if not parts:
        raise InputError(f"{path}: {name} must have at least one scale")
    stem = path.name.removesuffix(".json").removesuffix(".gqa-lut")
    if coef_bits is not None:
        require_range("coef_bits", coef_bits, *WIDTH_RANGE)
        parts = {scale: _rounded(lists, scale, in_bits, coef_bits) for scale, lists in parts.items()}
    whole = _build(path, target, parts, in_bits, in_signed)
    coefficients = next(iter(parts.values()))[1:]
    agrees = all(
        [t * Fraction(1, 2**scale) for t in whole.thresholds(scale)] == lists[0] and lists[1:] == coefficients
        for scale, lists in parts.items()
    )
    if agrees:
        return {stem: whole}
    return {f"{stem}-s{s}": _build(path, target, {s: part}, in_bits, in_signed) for s, part in sorted(parts.items())}


def _build(
    path: Path, function: Function, parts: dict[int, tuple[list, ...]], in_bits: int, in_signed: bool
) -> PwlTable:
    """A table from the finest scale's lists; the coefficients' fraction bits are the fewest that are exact."""
    b = max(parts)
    points, slopes, intercepts = parts[b]
    intercept_bits = _exact_bits(intercepts)
    slope_bits = max(_exact_bits(slopes), intercept_bits)
    integers = [0, *(v * 2**slope_bits for v in slopes), *(v * 2**intercept_bits for v in intercepts)]
    for coef_bits in range(8, WIDTH_RANGE[1] + 1):
        low, high = code_range(coef_bits, True)
        if low <= min(integers) and max(integers) <= high and slope_bits <= frac_bits_range(in_bits, coef_bits)[1]:
            break
    else:
        raise InputError(f"{path}: coefficients must be exact in 32 bits; --coef-bits 8 rounds them")
    try:
        return PwlTable(
            function=function.name,
            domain=function.domain,
            normaliser_step=function.normaliser_step,
            scales=tuple(sorted(parts)),
            in_bits=in_bits,
            in_signed=in_signed,
            coef_bits=coef_bits,
            slope_frac_bits=slope_bits,
            intercept_frac_bits=intercept_bits,
            bp_frac_bits=b,
            slopes=tuple(int(v * 2**slope_bits) for v in slopes),
            intercepts=tuple(int(v * 2**intercept_bits) for v in intercepts),
            breakpoints=tuple(_on_grid(path, v, b) for v in points),
            provenance={"imported_from": "gqa-lut"},
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _rounded(lists: tuple[list[Fraction], ...], scale: int, in_bits: int, coef_bits: int) -> tuple[list, ...]:
    """Breakpoints on the grid of the scale's codes, coefficients on the finest grid of `coef_bits` integers."""
    points, *coefficients = (np.array([float(v) for v in values]) for values in lists)
    parts = [[Fraction(int(v), 2**scale) for v in np.floor(points * 2.0**scale + 0.5)]]
    most = 64  # λ; μ is at most λ
    for values in coefficients:
        if not values.size:
            return lists  # refused later, with the number of entries
        most = finest_fit(values, in_bits, coef_bits, most)
        parts.append([Fraction(int(v)) / Fraction(2) ** most for v in nearest(values, most, coef_bits)])
    return tuple(parts)


def _scale(path: Path, key: str, in_bits: int) -> int:
    if not key.isdecimal() or int(key) >= in_bits:
        raise InputError(f"{path}: scale must be in 0..{in_bits - 1}, not {key!r}")
    return int(key)


def _lists(path: Path, scale: str, value: Any) -> tuple[list[Fraction], ...]:
    lists = []
    for names in RELEASED_KEYS:
        key = next((n for n in names if isinstance(value, dict) and n in value), None)
        if key is None:
            raise InputError(f"{path}: scale {scale}: missing key {names[0]!r}")
        numbers = value[key]
        good = isinstance(numbers, list) and all(type(v) in (int, float) and -(2**64) < v < 2**64 for v in numbers)
        if not good:
            raise InputError(f"{path}: scale {scale}: {key} must be a list of finite numbers below 2^64")
        lists.append([Fraction(v) for v in numbers])
    return tuple(lists)


def _exact_bits(values: list[Fraction]) -> int:
    """Fraction bits that make every value an integer; floats are dyadic, so there always are some."""
    return max((v.denominator.bit_length() - 1 for v in values), default=0)


def _on_grid(path: Path, value: Fraction, frac_bits: int) -> int:
    scaled = value * 2**frac_bits
    if scaled.denominator != 1:
        raise InputError(f"{path}: breakpoints must be multiples of 2^-{frac_bits}, not {float(value):g}")
    return int(scaled)
