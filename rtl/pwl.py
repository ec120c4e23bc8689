"""The integer piecewise-linear unit: `sim.reference.LoweredTable` in gates.

i   = number of thresholds at or below q              N-1 parallel comparators, a thermometer code
acc = slopes[i] * q + (intercepts[i] << intercept_shift)
y   = saturate(round_half_up(acc, output_shift))      only where the output is a code

A folded table (`sim.reference.folding`) is of |q|, which is never formed. With x = ~q for a negative q, else q,
|q| > t is the comparison of x and the sign as one number, x high, with t and 0. The product keeps q: for a negative
one "gated" takes 1 from the slope and negates the product, and the other symmetries negate the intercept alone.

Where `slope_form` is "two-powers", every slope is ±2^a ± 2^b (`sim.reference.two_powers`). The unit keeps a, b and the
signs instead of the slope, and has no multiplier: q is shifted twice, and the two are added.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from amaranth.hdl import C, Cat, Module, Mux, Shape, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.arithmetic import round_and_saturate, shift_right
from rtl.blocks.multiplication import (
    Product,
    carry_save,
    carry_save_levels,
    product_name,
    shifted_sum,
    shifted_sum_levels,
)
from rtl.blocks.pipeline import Fields, Step, wire
from rtl.blocks.selection import edge, one_hot
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable
from sim.reference.arithmetic import code_range, holding
from sim.reference.code_format import CodeFormat, without_defaults
from sim.reference.pwl import ENTRIES_RANGE
from sim.reference.two_powers import SLOPE_FORMS, Power, exponent_bits, two_powers

OUTPUTS = ("code", "acc")
SHIFTS = ("intercept_shift", "output_shift")
LISTS = ("thresholds", "slopes", "intercepts")  # in load order
_ADDED = {"min_intercept_shift": 0, "min_output_shift": 0, "slope_form": "any"}  # named only where they differ


class Word(NamedTuple):
    """One write to a table: list (0 thresholds, 1 slopes, 2 intercepts), position, and the port's data bits."""

    select: int
    address: int
    data: int


@dataclass(frozen=True)
class PwlConfig:
    """The configuration of a unit, checked on construction.

    Parameters
    ----------
    entries : int
        Segments of the table.
    in_bits, coef_bits, out_bits : int
        Widths in bits of q, of slopes and intercepts, and of y.
    in_signed, out_signed : bool
        Whether q and y are signed.
    output : str
        "code", rounded and saturated to `out_bits`, or "acc", the accumulator itself.
    storage : str
        How the table is kept: "flops", "latches", or "constants", wired in.
    constants : LoweredTable, optional
        The table to wire in; given if and only if `storage` is "constants".
    intercept_shift, output_shift : int, optional
        Fixed shifts in bits; None makes a shift an input of the unit.
    max_intercept_shift, max_output_shift : int, optional
        The largest value of such an input; in_bits - 1 and in_bits + coef_bits - 1 by default.
    stages : int
        Latency in cycles.
    intercept_bits, slope_sign, intercept_sign, symmetry, fold_bits
        As in `sim.reference.code_format.CodeFormat`: an own width of the intercepts, signs that are known, and a table
        of half the function.
    min_intercept_shift, min_output_shift : int
        The smallest value of a shift that is an input.
    slope_form : str
        "any", or "two-powers": slopes are sums of two powers of two, and the unit has no multiplier.

    Raises
    ------
    InputError
        If a value is out of its range, or two disagree; the line starts with the field's name.
    """

    entries: int = 8
    in_bits: int = 8
    in_signed: bool = True
    coef_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True
    output: str = "code"
    storage: str = "flops"
    constants: LoweredTable | None = None
    intercept_shift: int | None = None
    output_shift: int | None = None
    max_intercept_shift: int | None = None
    max_output_shift: int | None = None
    stages: int = 3
    intercept_bits: int | None = None
    slope_sign: str = "signed"
    intercept_sign: str = "signed"
    symmetry: str = "none"
    fold_bits: int = 0
    min_intercept_shift: int = 0
    min_output_shift: int = 0
    slope_form: str = "any"

    def __post_init__(self) -> None:
        require_range("entries", self.entries, *ENTRIES_RANGE)
        CodeFormat.of(self)  # checks the widths
        for name, choices in (("output", OUTPUTS), ("storage", storage.STYLES), ("slope_form", SLOPE_FORMS)):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        self._check_shift("intercept_shift", 2 * self.in_bits + self.coef_bits + 3)
        if self.output == "code":
            self._check_shift("output_shift", self.acc_bits)
        elif self.output_shift is not None or self.max_output_shift is not None or self.min_output_shift:
            raise InputError("output_shift must not be given if the output is the accumulator")
        pipeline.check_stages(self.stages, self.deepest)
        if (self.storage == "constants") != (self.constants is not None):
            raise InputError("constants must be a lowered table if and only if storage is constants")
        if self.constants is not None:
            if self.intercept_shift is None or (self.output == "code" and self.output_shift is None):
                raise InputError("intercept_shift and output_shift must be fixed if storage is constants")
            self.check_fit(self.constants)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object, without those that few units need and that have their default."""
        content = without_defaults({field.name: getattr(self, field.name) for field in fields(self)})
        if self.constants is not None:
            content["constants"] = self.constants.to_dict()
        return {key: value for key, value in content.items() if key not in _ADDED or value != _ADDED[key]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "PwlConfig":
        """The configuration from `to_dict`'s object, a vector set's or a description's parameters.

        A unit with storage "constants" takes the table from `load`, its lists and shifts by name, unless `content` has
        it. A description names the largest value of a fixed shift too, and the accumulator's width.
        """
        given = {key: value for key, value in content.items() if key != "acc_bits"}
        wired = given.get("storage") == "constants"
        if wired and given.get("constants") is None and load is not None:
            shifts = {name: load.get(name) for name in (*SHIFTS, "s")}
            given["constants"] = {**{name: load[name] for name in LISTS}, **shifts}
            given["constants"] |= CodeFormat.from_dict(given).to_dict()
            given |= {name: load.get(name) for name in SHIFTS} | {f"max_{name}": None for name in SHIFTS}
        if given.get("constants") is not None:
            given["constants"] = LoweredTable.from_dict(given["constants"])
        for name in SHIFTS:
            most = given.get(f"max_{name}")
            if most is not None and most == given.get(name):
                given[f"max_{name}"] = None
        if given.get("output") == "acc" and given.get("max_output_shift") == 0:
            given["max_output_shift"] = None
        return cls(**given)

    def _check_shift(self, name: str, limit: int) -> None:
        fixed = getattr(self, name) is not None
        if fixed and getattr(self, f"max_{name}") is not None:
            raise InputError(f"max_{name} must not be given if {name} is fixed")
        if fixed and getattr(self, f"min_{name}"):
            raise InputError(f"min_{name} must not be given if {name} is fixed")
        require_range(name if fixed else f"max_{name}", self.largest(name), 0, limit)
        require_range(f"min_{name}", getattr(self, f"min_{name}"), 0, self.largest(name))

    def largest(self, shift: str) -> int:
        """The largest value of "intercept_shift" or "output_shift" that the unit takes: fixed, given or by default."""
        if shift == "output_shift" and self.output == "acc":
            return 0
        default = self.in_bits - 1 + (self.coef_bits if shift == "output_shift" else 0)
        given = (value for value in (getattr(self, shift), getattr(self, f"max_{shift}")) if value is not None)
        return next(given, default)

    def ends(self, shift: str) -> tuple[int, int]:
        """The smallest and the largest value of "intercept_shift" or "output_shift" that the unit takes."""
        fixed = getattr(self, shift)
        return (getattr(self, f"min_{shift}") if fixed is None else fixed), self.largest(shift)

    @classmethod
    def hard_wired(cls, lowered: LoweredTable, stages: int = 3) -> "PwlConfig":
        """The unit of one table at one scale; its output is the accumulator if the table has no output shift."""
        return cls(
            entries=len(lowered.slopes),
            **lowered.code_format.to_dict(),
            output="acc" if lowered.output_shift is None else "code",
            storage="constants",
            constants=lowered,
            intercept_shift=lowered.intercept_shift,
            output_shift=lowered.output_shift,
            stages=stages,
        )

    @property
    def code_format(self) -> CodeFormat:
        """The widths and signs of the codes and coefficients."""
        return CodeFormat.of(self)

    @property
    def acc_bits(self) -> int:
        """Accumulator width that no code, table or admitted shift can overflow."""
        return self.code_format.acc_bits(self.largest("intercept_shift"))

    @property
    def deepest(self) -> int:
        """The most stages that the unit can be cut into."""
        return 7 if self.output == "code" else 5

    @property
    def in_shape(self) -> Shape:
        """The shape of q."""
        return Shape(self.in_bits, self.in_signed)

    @property
    def out_shape(self) -> Shape:
        """The shape of the output's payload."""
        return signed(self.acc_bits) if self.output == "acc" else Shape(self.out_bits, self.out_signed)

    @property
    def lists(self) -> dict[str, tuple[int, tuple[int, int]]]:
        """What the unit stores, as `sim.reference.code_format.CodeFormat.lists`.

        Where slopes are sums of two powers of two, `slope_powers` stands for them: from the lowest bit on the first
        exponent, the second one, 1 if the second power is negative, and for slopes of both signs 1 if the first is.
        """
        found = self.code_format.lists
        if self.slope_form == "any":
            return found
        bits = 2 * exponent_bits(self.coef_bits) + 1 + (self.slope_sign == "signed")
        return {"thresholds": found["thresholds"], "slope_powers": (bits, code_range(bits, False)),
                "intercepts": found["intercepts"]}  # fmt: skip

    @property
    def data_bits(self) -> int:
        """Width of the table's write port: that of the widest word."""
        return max(bits for bits, _ in self.lists.values())

    @property
    def shift_ports(self) -> list[str]:
        """The shifts that are inputs of the unit: those that can have more than one value."""
        return [name for name in SHIFTS if getattr(self, name) is None and len(set(self.ends(name))) > 1]

    def check_fit(self, lowered: LoweredTable) -> None:
        """Raise `InputError` if the unit would not compute `lowered` exactly: a table wider than the unit."""
        own, its = self.code_format, lowered.code_format
        widths = {
            "entries": (len(lowered.slopes), self.entries),
            "in_bits": (its.in_bits, own.in_bits),
            "coef_bits": (its.coef_bits, own.coef_bits),
            "intercept_bits": (its.intercept_width, own.intercept_width),
        }
        for name, (has, most) in widths.items():
            if has > most:
                raise InputError(f"{name} of the table must be at most the unit's {most}, not {has}")
        for name, (_, ends) in its.lists.items():
            for k, value in enumerate(getattr(lowered, name)):
                require_range(f"{name}[{k}] of the table", value, *ends)
        for k, value in enumerate(lowered.slopes):
            if self.slope_form != "any" and value not in self.slope_powers:
                raise InputError(f"slopes[{k}] of the table must be a sum of two powers of two, not {value}")
        if list(lowered.thresholds) != sorted(lowered.thresholds):
            raise InputError(f"thresholds of the table must be sorted, not {list(lowered.thresholds)}")
        same = ["in_signed", "slope_sign", "intercept_sign", "symmetry", "fold_bits"]
        same += ["out_bits", "out_signed"] if self.output == "code" else []
        for name in same:
            if getattr(lowered, name) != getattr(self, name):
                raise InputError(
                    f"{name} of the table must be the unit's {getattr(self, name)}, not {getattr(lowered, name)}"
                )
        for name in ["intercept_shift"] + (["output_shift"] if self.output == "code" else []):
            has, fixed, (lowest, highest) = getattr(lowered, name), getattr(self, name), self.ends(name)
            if has is None:
                continue  # lowered without an output scale: the shift is the user's to drive
            if fixed is not None and has != fixed:
                raise InputError(f"{name} of the table must be the unit's fixed {fixed}, not {has}")
            if has > highest:
                raise InputError(f"{name} of the table must be at most the unit's {highest}, not {has}")
            if has < lowest:
                raise InputError(f"{name} of the table must be at least the unit's {lowest}, not {has}")

    def filled(self, lowered: LoweredTable) -> dict[str, list[int]]:
        """The lists of `lowered`, in load order and as long as the unit's.

        A shorter table is filled up with thresholds at the top code and copies of its last entry, which is exact.
        Raises `InputError` if the table does not fit.
        """
        self.check_fit(lowered)
        spare = self.entries - len(lowered.slopes)
        top = self.code_format.threshold_range[1]
        return {
            "thresholds": [*lowered.thresholds, *[top] * spare],
            "slopes": [*lowered.slopes, *lowered.slopes[-1:] * spare],
            "intercepts": [*lowered.intercepts, *lowered.intercepts[-1:] * spare],
        }

    def stored(self, lowered: LoweredTable) -> dict[str, list[int]]:
        """What the unit keeps of `lowered`: the numbers of `filled`, but for `lists`' own form of slopes."""
        numbers = self.filled(lowered)
        if self.slope_form == "any":
            return numbers
        powers = [self._word_of(slope) for slope in numbers["slopes"]]
        return {"thresholds": numbers["thresholds"], "slope_powers": powers, "intercepts": numbers["intercepts"]}

    def _word_of(self, slope: int) -> int:
        """The word of `slope_powers` for a slope."""
        first, second = self.slope_powers[slope]
        bits = exponent_bits(self.coef_bits)
        word = first.exponent | second.exponent << bits | second.negative << 2 * bits
        return word | (first.negative << 2 * bits + 1 if self.slope_sign == "signed" else 0)

    @property
    def slope_powers(self) -> dict[int, tuple[Power, Power]]:
        """The slopes that the unit admits where they are sums of two powers of two, and their powers."""
        return two_powers(self.coef_bits, *self.code_format.slope_range)

    def words(self, lowered: LoweredTable) -> list[Word]:
        """The writes that load `lowered`, in load order: thresholds, slopes, intercepts; filled up as by `filled`."""
        widths = [bits for bits, _ in self.lists.values()]
        return [
            Word(select, address, value & ((1 << widths[select]) - 1))
            for select, values in enumerate(self.stored(lowered).values())
            for address, value in enumerate(values)
        ]


class Pwl(storage.StoringUnit):
    """The piecewise-linear unit as a component, with stall and reset as in `rtl.blocks.pipeline`.

    Streams: `i` carries codes q, `o` codes y or accumulators. The latency is `stages` cycles, the throughput one result
    per cycle.

    A stored table is written through `table` (see `rtl.blocks.storage`). Table and shifts are quasi-static: changing
    them with beats in flight is undefined. A word written in cycle n serves codes taken from cycle n + `storage.SETTLE`
    on.

    Parameters
    ----------
    config : PwlConfig
        The unit's widths, table storage and stages.
    latch_cell : str
        The name of the latch module if `storage` is "latches"; its text is `rtl.blocks.storage.latch_verilog`.
    product : callable
        Makes the multiplier's rows: `carry_save`, a tree of our own, or `as_operator`, a `*` for the synthesis tool.
    """

    def __init__(self, config: PwlConfig, latch_cell: str = "latch", product: Product = carry_save) -> None:
        if config.slope_form != "any" and product is not carry_save:
            raise InputError("product must be tree if slope_form is two-powers: there is no multiplier")
        self.product = product
        ports = {
            "i": In(stream.Signature(config.in_shape)),
            "o": Out(stream.Signature(config.out_shape)),
        }
        if config.storage != "constants":
            ports["table"] = In(storage.port(config.entries, config.data_bits))
        ports |= {name: In(range(config.largest(name) + 1)) for name in config.shift_ports}
        super().__init__(config, ports, latch_cell)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        parameters = {key: value for key, value in self.config.to_dict().items() if key != "constants"}
        parameters |= {f"max_{name}": self.config.largest(name) for name in SHIFTS}
        return {
            "parameters": parameters | {"acc_bits": self.config.acc_bits},
            "product": product_name(self.product),
            "result": self._meaning(),
            "ranges": {name: [*self.config.ends(name)] for name in self.config.shift_ports},
            "outside_ranges": "undefined",
            "latency": self.config.stages,
            "interval": 1,
            **describe_table(self.config),
        }

    def _meaning(self) -> str:
        exponent = "slope_frac_bits + s" + (" - output_shift" if self.config.output == "code" else "")
        return (
            "x = i__payload * 2**-s, s the scale exponent that the table was lowered for; "
            f"f(x) is o__payload * 2**-({exponent}), slope_frac_bits that of the table"
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        table = build_table(m, self.config, getattr(self, "table", None), self.latch_cell)
        shifts = self._shift("intercept_shift"), self._shift("output_shift")
        steps = pwl_steps(self.config, table, shifts, product=self.product)
        pipeline.build(m, self.i, self.o, steps, self.config.stages, result=self.config.output)
        return m

    def _shift(self, name: str) -> Value | int:
        return getattr(self, name) if name in self.config.shift_ports else self.config.ends(name)[0]


def build_table(m: Module, config: PwlConfig, write: Any, latch_cell: str) -> list[storage.Words]:
    """The table's words, [thresholds, slopes, intercepts], in the storage that `config` asks for."""
    shapes = [
        (name.removesuffix("s"), Shape(bits, low < 0 and high >= 0), count)
        for name, (bits, (low, high)), count in zip(LISTS, config.lists.values(), _counts(config), strict=True)
    ]
    if config.storage == "flops":
        return storage.flops(m, write, shapes)
    if config.storage == "latches":
        return storage.latches(m, write, shapes, latch_cell)
    assert config.constants is not None  # PwlConfig saw to it
    values: list[list[int]] = [[], [], []]
    for word in config.words(config.constants):
        values[word.select].append(word.data)
    return storage.constants([(name, shape, values[k]) for k, (name, shape, _) in enumerate(shapes)])


def table_lists(config: PwlConfig, prefix: str = "") -> list[tuple[str, int, int, bool]]:
    """(name, count, bits, signed) of a stored table's lists, in load order."""
    return [
        (f"{prefix}{name}", count, bits, low < 0)
        for (name, (bits, (low, _))), count in zip(config.lists.items(), _counts(config), strict=True)
    ]


def _counts(config: PwlConfig) -> tuple[int, int, int]:
    return config.entries - 1, config.entries, config.entries


def describe_table(config: PwlConfig) -> dict[str, Any]:
    """How a stored table is loaded; nothing where the table is wired in."""
    if config.storage == "constants":
        return {}
    described = storage.describe(config.storage, table_lists(config), "table and shifts")
    for row, (bits, ends) in zip(described["load_order"], config.lists.values(), strict=True):
        if holding(*ends)[0] > bits:  # the sign is left out
            row["range"] = list(ends)
    return {"table": described}


def pwl_steps(
    config: PwlConfig,
    table: tuple[storage.Words, storage.Words, storage.Words],
    shifts: tuple[Value | int, Value | int],
    source: str = "payload",
    product: Product = carry_save,
) -> list[Step]:
    """The steps from the field `source`, a code q, to the field `acc` or `code`.

    `table` is thresholds, slopes and intercepts; `shifts` are the intercept's and the output's.
    """
    thresholds, slopes, intercepts = table
    intercept_shift, output_shift = shifts

    def compare(m: Module, f: Mapping[str, Value]) -> Fields:
        q = f[source]
        if not config.code_format.folded:
            return {"q": q, "above": Cat(q >= t for t in thresholds)}
        magnitude = Cat(q[-1], q[:-1] ^ q[-1].replicate(len(q) - 1))
        return {"q": q, "above": Cat(magnitude > Cat(C(0, 1), t) for t in thresholds)}

    def select(m: Module, f: Mapping[str, Value]) -> Fields:
        hot = edge(f["above"])
        return {"slope": one_hot(hot, slopes), "intercept": one_hot(hot, intercepts)}

    def scale(m: Module, f: Mapping[str, Value]) -> Fields:
        least, rest = _split(config, "output_shift", output_shift)
        scaled = shift_right(f["acc"], rest if least is None else least)
        return {"scaled": scaled if least is None else scaled >> rest}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"code": round_and_saturate(m, f["scaled"], config.out_shape)}

    steps = [
        Step("compare", (source,), pipeline.compare_levels(config.in_bits), compare),
        Step("select", ("above",), pipeline.select_levels(config.entries), select),
        *_multiply_add_steps(config, intercept_shift, product),
    ]
    if config.output == "code":
        steps += [
            Step("scale", ("acc",), pipeline.shift_levels(config.largest("output_shift") + 1), scale),
            Step("limit", ("scaled",), pipeline.adder_levels(config.out_bits), limit),
        ]
    return steps


def _multiply_add_steps(config: PwlConfig, intercept_shift: Value | int, product: Product) -> list[Step]:
    """From `q`, `slope`, `intercept` to `acc`: a tree, the intercept among its rows, and the carry in two halves."""
    width = config.acc_bits
    half = width // 2
    least, rest = _split(config, "intercept_shift", intercept_shift)

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        intercept = _unfolded_intercept(config, f["q"], f["intercept"])
        shifted = intercept << rest if least is None else (intercept << rest) << least
        shifted = shifted[:width]
        addend = wire(m, shifted.as_signed() if intercept.shape().signed else shifted, "addend")
        if config.slope_form == "two-powers":
            row_0, row_1 = _shifted(m, config, f["q"], f["slope"], addend)
        else:
            slope, negate = _unfolded_slope(config, f["q"], f["slope"])
            row_0, row_1 = product(m, wire(m, f["q"], "factor_0"), wire(m, slope, "factor_1"), width, addend, negate)
        return {"row_0": row_0, "row_1": row_1}

    def low(m: Module, f: Mapping[str, Value]) -> Fields:
        (low_0, high_0), (low_1, high_1) = ((row[:half], row[half:]) for row in (f["row_0"], f["row_1"]))
        return {"low": low_0 + low_1, "high_0": high_0, "high_1": high_1}

    def high(m: Module, f: Mapping[str, Value]) -> Fields:
        total = f["high_0"] + f["high_1"] + f["low"][half]
        return {"acc": Cat(f["low"][:half], total)[:width].as_signed()}

    powers = config.slope_form == "two-powers"
    rows = 3 + (config.symmetry == "gated")
    tree = shifted_sum_levels(config.coef_bits, rows) if powers else carry_save_levels(config.coef_bits, addends=1)
    return [
        Step("multiply", ("q", "slope", "intercept"), tree, multiply),
        Step("add low", ("row_0", "row_1"), pipeline.adder_levels(half), low),
        Step("add high", ("high_0", "high_1", "low"), pipeline.adder_levels(width - half), high),
    ]


def _split(config: PwlConfig, name: str, shift: Value | int) -> tuple[int | None, Value | int]:
    """A shift as the part that it always has and the rest; None and all of it where there is no such part."""
    low, high = config.ends(name)
    if isinstance(shift, int) or not low:
        return None, shift
    return low, (shift - low)[: (high - low).bit_length()]


def _unfolded_slope(config: PwlConfig, q: Value, word: Value) -> tuple[Value, Value | None]:
    """From an entry's slope what q is multiplied by, and whether the product is negated."""
    slope = _number(word, config.slope_sign)
    if config.symmetry != "gated":
        return slope, None
    factor = slope - (q[-1] << config.fold_bits)
    return factor[: holding(*config.code_format.factor_range)[0]].as_signed(), q[-1]


def _unfolded_intercept(config: PwlConfig, q: Value, word: Value) -> Value:
    """From an entry's intercept what is added for q."""
    intercept = _number(word, config.intercept_sign)
    if config.symmetry == "odd":
        return Mux(q[-1], -intercept, intercept)
    if config.symmetry == "complement":
        return Mux(q[-1], (1 << config.fold_bits) - intercept, intercept)
    return intercept


def _shifted(m: Module, config: PwlConfig, q: Value, word: Value, addend: Value) -> tuple[Value, Value]:
    """The rows of q times a slope that is kept as its powers of two, and the addend."""
    bits, gated = exponent_bits(config.coef_bits), config.symmetry == "gated"
    first = word[2 * bits + 1] if config.slope_sign == "signed" else C(config.slope_sign == "negative", 1)
    signs = [first, word[2 * bits]]
    addends = [addend]
    if gated:  # for a negative q the slope less 1, negated
        signs = [wire(m, sign ^ q[-1], f"sign_{k}") for k, sign in enumerate(signs)]
        addends.append((Mux(q[-1], q, 0) << config.fold_bits)[: config.acc_bits].as_signed())
    return shifted_sum(m, q, signs, (word[:bits], word[bits : 2 * bits]), config.acc_bits, addends)


def _number(word: Value, sign: str) -> Value:
    """A stored word as a number."""
    return Cat(word, word.any()).as_signed() if sign == "negative" else word
