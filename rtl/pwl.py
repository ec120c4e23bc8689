"""The integer piecewise-linear unit: `sim.reference.LoweredTable` in gates.

i   = number of thresholds at or below q              N-1 parallel comparators, a thermometer code
acc = slopes[i] * q + (intercepts[i] << intercept_shift)
y   = saturate(round_half_up(acc, output_shift))      only where the output is a code
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Shape, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.arithmetic import round_and_saturate, shift_right
from rtl.blocks.multiplication import Product, carry_save, carry_save_levels, product_name
from rtl.blocks.pipeline import Fields, Step, wire
from rtl.blocks.selection import edge, one_hot
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable
from sim.reference.arithmetic import code_range
from sim.reference.code_format import CodeFormat
from sim.reference.pwl import ENTRIES_RANGE

OUTPUTS = ("code", "acc")
SHIFTS = ("intercept_shift", "output_shift")
LISTS = ("thresholds", "slopes", "intercepts")  # in load order


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

    def __post_init__(self) -> None:
        require_range("entries", self.entries, *ENTRIES_RANGE)
        CodeFormat.of(self)  # checks the widths
        for name, choices in (("output", OUTPUTS), ("storage", storage.STYLES)):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        self._check_shift("intercept_shift", 2 * self.in_bits + self.coef_bits + 3)
        if self.output == "code":
            self._check_shift("output_shift", self.acc_bits)
        elif self.output_shift is not None or self.max_output_shift is not None:
            raise InputError("output_shift must not be given if the output is the accumulator")
        pipeline.check_stages(self.stages, self.deepest)
        if (self.storage == "constants") != (self.constants is not None):
            raise InputError("constants must be a lowered table if and only if storage is constants")
        if self.constants is not None:
            if self.intercept_shift is None or (self.output == "code" and self.output_shift is None):
                raise InputError("intercept_shift and output_shift must be fixed if storage is constants")
            self.check_fit(self.constants)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "PwlConfig":
        """The configuration from `to_dict`'s object, a vector set's or a description's parameters.

        A unit with storage "constants" takes the table from `load`, its lists and shifts by name, unless `content` has
        it. A description names the largest value of a fixed shift too, and the accumulator's width.
        """
        fields = {key: value for key, value in content.items() if key != "acc_bits"}
        wired = fields.get("storage") == "constants"
        if wired and fields.get("constants") is None and load is not None:
            shifts = {name: load.get(name) for name in (*SHIFTS, "s")}
            fields["constants"] = {**{name: load[name] for name in LISTS}, **shifts}
            fields["constants"] |= asdict(CodeFormat.from_dict(fields))
            fields |= {name: load.get(name) for name in SHIFTS} | {f"max_{name}": None for name in SHIFTS}
        if fields.get("constants") is not None:
            fields["constants"] = LoweredTable.from_dict(fields["constants"])
        for name in SHIFTS:
            most = fields.get(f"max_{name}")
            if most is not None and most == fields.get(name):
                fields[f"max_{name}"] = None
        if fields.get("output") == "acc" and fields.get("max_output_shift") == 0:
            fields["max_output_shift"] = None
        return cls(**fields)

    def _check_shift(self, name: str, limit: int) -> None:
        fixed = getattr(self, name) is not None
        if fixed and getattr(self, f"max_{name}") is not None:
            raise InputError(f"max_{name} must not be given if {name} is fixed")
        require_range(name if fixed else f"max_{name}", self.largest(name), 0, limit)

    def largest(self, shift: str) -> int:
        """The largest value of "intercept_shift" or "output_shift" that the unit takes: fixed, given or by default."""
        if shift == "output_shift" and self.output == "acc":
            return 0
        default = self.in_bits - 1 + (self.coef_bits if shift == "output_shift" else 0)
        given = (value for value in (getattr(self, shift), getattr(self, f"max_{shift}")) if value is not None)
        return next(given, default)

    @classmethod
    def hard_wired(cls, lowered: LoweredTable, stages: int = 3) -> "PwlConfig":
        """The unit of one table at one scale; its output is the accumulator if the table has no output shift."""
        return cls(
            entries=len(lowered.slopes),
            **asdict(lowered.code_format),
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
        return max(self.in_bits + self.coef_bits, self.coef_bits + self.largest("intercept_shift")) + 1

    @property
    def deepest(self) -> int:
        """The most stages that the unit can be cut into."""
        return 7 if self.output == "code" else 5

    @property
    def in_shape(self) -> Shape:
        """The shape of q and of a threshold."""
        return Shape(self.in_bits, self.in_signed)

    @property
    def out_shape(self) -> Shape:
        """The shape of the output's payload."""
        return signed(self.acc_bits) if self.output == "acc" else Shape(self.out_bits, self.out_signed)

    @property
    def data_bits(self) -> int:
        """Width of the table's write port: the wider of a threshold and a coefficient."""
        return max(self.in_bits, self.coef_bits)

    @property
    def shift_ports(self) -> list[str]:
        """The shifts that are inputs of the unit: not fixed, and not always 0."""
        return [name for name in SHIFTS if getattr(self, name) is None and self.largest(name)]

    def check_fit(self, lowered: LoweredTable) -> None:
        """Raise `InputError` if the unit would not compute `lowered` exactly: a table wider than the unit."""
        for name in ("entries", "in_bits", "coef_bits"):
            has = len(lowered.slopes) if name == "entries" else getattr(lowered, name)
            if has > getattr(self, name):
                raise InputError(f"{name} of the table must be at most the unit's {getattr(self, name)}, not {has}")
        lists = (
            ("thresholds", lowered.thresholds, lowered.in_bits, lowered.in_signed),
            ("slopes", lowered.slopes, lowered.coef_bits, True),
            ("intercepts", lowered.intercepts, lowered.coef_bits, True),
        )
        for name, values, bits, sign in lists:
            for k, value in enumerate(values):
                require_range(f"{name}[{k}] of the table", value, *code_range(bits, sign))
        if list(lowered.thresholds) != sorted(lowered.thresholds):
            raise InputError(f"thresholds of the table must be sorted, not {list(lowered.thresholds)}")
        same = ["in_signed", "out_bits", "out_signed"] if self.output == "code" else ["in_signed"]
        for name in same:
            if getattr(lowered, name) != getattr(self, name):
                raise InputError(
                    f"{name} of the table must be the unit's {getattr(self, name)}, not {getattr(lowered, name)}"
                )
        for name in ["intercept_shift"] + (["output_shift"] if self.output == "code" else []):
            has, fixed, highest = getattr(lowered, name), getattr(self, name), self.largest(name)
            if has is None:
                continue  # lowered without an output scale: the shift is the user's to drive
            if fixed is not None and has != fixed:
                raise InputError(f"{name} of the table must be the unit's fixed {fixed}, not {has}")
            if has > highest:
                raise InputError(f"{name} of the table must be at most the unit's {highest}, not {has}")

    def filled(self, lowered: LoweredTable) -> dict[str, list[int]]:
        """The lists of `lowered`, in load order and as long as the unit's.

        A shorter table is filled up with thresholds at the top code and copies of its last entry, which is exact.
        Raises `InputError` if the table does not fit.
        """
        self.check_fit(lowered)
        spare = self.entries - len(lowered.slopes)
        top = self.code_format.in_range[1]
        return {
            "thresholds": [*lowered.thresholds, *[top] * spare],
            "slopes": [*lowered.slopes, *lowered.slopes[-1:] * spare],
            "intercepts": [*lowered.intercepts, *lowered.intercepts[-1:] * spare],
        }

    def words(self, lowered: LoweredTable) -> list[Word]:
        """The writes that load `lowered`, in load order: thresholds, slopes, intercepts; filled up as by `filled`."""
        return [
            Word(select, address, value & ((1 << (self.coef_bits if select else self.in_bits)) - 1))
            for select, values in enumerate(self.filled(lowered).values())
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
            "ranges": {name: [0, self.config.largest(name)] for name in self.config.shift_ports},
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
        return getattr(self, name) if name in self.config.shift_ports else getattr(self.config, name) or 0


def build_table(m: Module, config: PwlConfig, write: Any, latch_cell: str) -> list[storage.Words]:
    """The table's words, [thresholds, slopes, intercepts], in the storage that `config` asks for."""
    coefficient = signed(config.coef_bits)
    shapes = (
        ("threshold", config.in_shape, config.entries - 1),
        ("slope", coefficient, config.entries),
        ("intercept", coefficient, config.entries),
    )
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
        (f"{prefix}thresholds", config.entries - 1, config.in_bits, config.in_signed),
        (f"{prefix}slopes", config.entries, config.coef_bits, True),
        (f"{prefix}intercepts", config.entries, config.coef_bits, True),
    ]


def describe_table(config: PwlConfig) -> dict[str, Any]:
    """How a stored table is loaded; nothing where the table is wired in."""
    if config.storage == "constants":
        return {}
    return {"table": storage.describe(config.storage, table_lists(config), "table and shifts")}


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
        return {"q": f[source], "above": Cat(f[source] >= t for t in thresholds)}

    def select(m: Module, f: Mapping[str, Value]) -> Fields:
        hot = edge(f["above"])
        return {"slope": one_hot(hot, slopes), "intercept": one_hot(hot, intercepts)}

    def scale(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"scaled": shift_right(f["acc"], output_shift)}

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

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        factors = (wire(m, f["q"], "factor_0"), wire(m, f["slope"], "factor_1"))
        addend = wire(m, (f["intercept"] << intercept_shift)[:width].as_signed(), "addend")
        row_0, row_1 = product(m, *factors, width, addend)
        return {"row_0": row_0, "row_1": row_1}

    def low(m: Module, f: Mapping[str, Value]) -> Fields:
        (low_0, high_0), (low_1, high_1) = ((row[:half], row[half:]) for row in (f["row_0"], f["row_1"]))
        return {"low": low_0 + low_1, "high_0": high_0, "high_1": high_1}

    def high(m: Module, f: Mapping[str, Value]) -> Fields:
        total = f["high_0"] + f["high_1"] + f["low"][half]
        return {"acc": Cat(f["low"][:half], total)[:width].as_signed()}

    tree = carry_save_levels(config.coef_bits, addends=1)
    return [
        Step("multiply", ("q", "slope", "intercept"), tree, multiply),
        Step("add low", ("row_0", "row_1"), pipeline.adder_levels(half), low),
        Step("add high", ("high_0", "high_1", "low"), pipeline.adder_levels(width - half), high),
    ]
