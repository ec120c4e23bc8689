"""The floating-point piecewise-linear unit: `sim.reference.float_pwl.FloatTable` in gates.

i = number of thresholds at or below x                N-1 parallel comparators, a thermometer code
y = slopes[i] * x + intercepts[i]                     product and sum each rounded

Thresholds are stored as integers in the order of `sim.reference.floating.order`, mapped at the write port, and x is
mapped once, so that all comparators are integer comparators.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Value, signed, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.multiplication import Product, carry_save, product_name
from rtl.blocks.pipeline import Fields, Step
from rtl.blocks.selection import edge, one_hot
from rtl.floating.adder import adder_steps
from rtl.floating.multiplier import multiplier_steps
from rtl.floating.parts import ordered
from rtl.pwl import Word
from sim.common.errors import require_range
from sim.reference import InputError, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FP32, FloatFormat
from sim.reference.pwl import ENTRIES_RANGE


@dataclass(frozen=True)
class FloatPwlConfig:
    """The parameters of a unit, validated on construction.

    Parameters
    ----------
    entries : int
        N, the entries of its table.
    number : FloatFormat
        The format of input, table and output.
    storage : str
        "flops", "latches" or "constants".
    constants : FloatTable or None
        The table to wire in, for "constants".
    stages : int
        The latency in cycles.

    Raises
    ------
    InputError
        If a field is out of its range; the line names it.
    """

    entries: int = 8
    number: FloatFormat = FP32
    storage: str = "flops"
    constants: FloatTable | None = None
    stages: int = 3

    def __post_init__(self) -> None:
        require_range("entries", self.entries, *ENTRIES_RANGE)
        if self.storage not in storage.STYLES:
            raise InputError(f"storage must be one of {', '.join(storage.STYLES)}, not {self.storage!r}")
        pipeline.check_stages(self.stages, self.deepest(self.entries, self.number))
        if (self.storage == "constants") != (self.constants is not None):
            raise InputError("constants must be a table if and only if storage is constants")
        if self.constants is not None:
            self.check_fit(self.constants)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "FloatPwlConfig":
        """The configuration from `to_dict`'s object, a vector set's or a description's parameters.

        A unit with storage "constants" takes the table from `load`, its lists by name, unless `content` has it.
        """
        fields = {**content, "number": FloatFormat(**content["number"])}
        table = fields.get("constants")
        if table is None and fields.get("storage") == "constants":
            table = load
        if table is not None:
            lists = (tuple(table[key]) for key in FloatTable.STORED)
            fields["constants"] = FloatTable(fields["number"], *lists)
        return cls(**fields)

    @classmethod
    def deepest(cls, entries: int, number: FloatFormat) -> int:
        """The most stages that a unit of this shape can be cut into."""
        return 12 + _late(entries, number)

    @property
    def late_intercept(self) -> bool:
        """Whether the comparators' bits, if they are fewer, go to the adder in place of the intercept."""
        return _late(self.entries, self.number)

    def check_fit(self, table: FloatTable) -> None:
        """Raise `InputError` if the unit cannot compute `table`, because of its format or its entries."""
        if table.format != self.number:
            raise InputError(f"format of the table must be the unit's {self.number}, not {table.format}")
        if table.entries > self.entries:
            raise InputError(f"entries of the table must be at most the unit's {self.entries}, not {table.entries}")

    def padded(self, table: FloatTable) -> dict[str, tuple[int, ...]]:
        """The table's lists, padded to the unit's entries with thresholds at infinity and copies of the last entry."""
        self.check_fit(table)
        spare = self.entries - table.entries
        return {
            "thresholds": table.thresholds + (self.number.infinity,) * spare,
            "slopes": table.slopes + table.slopes[-1:] * spare,
            "intercepts": table.intercepts + table.intercepts[-1:] * spare,
        }

    def words(self, table: FloatTable) -> list[Word]:
        """The writes that load `table`, in load order: thresholds, slopes, intercepts."""
        lists = self.padded(table).values()
        return [Word(k, address, word) for k, words in enumerate(lists) for address, word in enumerate(words)]


def _late(entries: int, number: FloatFormat) -> bool:
    return entries - 1 < number.bits


class FloatPwl(storage.StoringUnit):
    """The unit as a component; see `FloatPwlConfig` for its parameters and `rtl.blocks.pipeline` for stall and reset.

    Streams: `i` carries patterns x, `o` patterns y. Latency `stages` cycles, one result per cycle. A NaN selects entry
    0. A stored table is written as patterns through `table` (see `rtl.blocks.storage`), and is quasi-static: changing
    it with beats in flight is undefined. A word written in cycle n serves beats taken from cycle n + `storage.SETTLE`
    on.

    `latch_cell` names the latch module where `storage` is "latches"; its text is `rtl.blocks.storage.latch_verilog`.
    `product` is as for `rtl.pwl.Pwl`.
    """

    def __init__(self, config: FloatPwlConfig, latch_cell: str = "latch", product: Product = carry_save) -> None:
        self.product = product
        pattern = unsigned(config.number.bits)
        ports = {"i": In(stream.Signature(pattern)), "o": Out(stream.Signature(pattern))}
        if config.storage != "constants":
            ports["table"] = In(storage.port(config.entries, config.number.bits))
        super().__init__(config, ports, latch_cell)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config = self.config
        parameters = {key: value for key, value in config.to_dict().items() if key != "constants"}
        about = {
            "parameters": parameters,
            "product": product_name(self.product),
            "latency": config.stages,
            "interval": 1,
        }
        if config.storage == "constants":
            return about
        counts = (("thresholds", config.entries - 1), ("slopes", config.entries), ("intercepts", config.entries))
        lists = [(name, count, config.number.bits, False) for name, count in counts]
        return about | {"table": storage.describe(config.storage, lists, "table")}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        table = self._table(m)
        pipeline.build(m, self.i, self.o, _steps(self.config, *table, self.product), self.config.stages)
        return m

    def _table(self, m: Module) -> list[storage.Words]:
        """[thresholds as integers of `order`, slopes, intercepts]."""
        config = self.config
        number, entries = config.number, config.entries
        pattern = unsigned(number.bits)
        lists = (
            ("threshold", signed(number.bits), entries - 1),
            ("slope", pattern, entries),
            ("intercept", pattern, entries),
        )
        if config.constants is not None:
            values = config.padded(config.constants)
            values["thresholds"] = tuple(floating.order(number, values["thresholds"]).tolist())
            filled = zip(lists, values.values(), strict=True)
            return storage.constants([(name, shape, words) for (name, shape, _), words in filled])
        write = storage.port(entries, number.bits).flip().create()
        for name in ("en", "select", "address"):
            m.d.comb += getattr(write, name).eq(getattr(self.table, name))
        data = self.table.data
        m.d.comb += write.data.eq(Mux(self.table.select == 0, ordered(number, data).as_unsigned(), data))
        if config.storage == "flops":
            return storage.flops(m, write, lists)
        return storage.latches(m, write, lists, self.latch_cell)


def _steps(
    config: FloatPwlConfig,
    thresholds: storage.Words,
    slopes: storage.Words,
    intercepts: storage.Words,
    product: Product,
) -> list[Step]:
    number = config.number

    def compare(m: Module, f: Mapping[str, Value]) -> Fields:
        key = ordered(number, f["payload"])
        return {"x": f["payload"], "above": Cat(key >= t for t in thresholds)}

    def select(m: Module, f: Mapping[str, Value]) -> Fields:
        made = {"slope": one_hot(edge(f["above"]), slopes)}
        return made if config.late_intercept else made | {"intercept": one_hot(edge(f["above"]), intercepts)}

    def fetch(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"intercept": one_hot(edge(f["above"]), intercepts)}

    choice = pipeline.select_levels(config.entries)
    return [
        Step("compare", ("payload",), 6 + pipeline.compare_levels(number.bits), compare),
        Step("select", ("above",), choice, select),
        *multiplier_steps(number, number, "slope", "x", "product", product),
        *([Step("fetch", ("above",), choice, fetch)] if config.late_intercept else []),
        *adder_steps(number, "product", "intercept", "result"),
    ]
