"""LayerNorm and RMSNorm in gates: `sim.reference.Norm`, rows of any length up to the unit's in one pass.

row        S = sum x, Q = sum x**2; spread = N * Q - S**2 + epsilon; (acc, exponent) = 1 / sqrt(spread), normaliser
element    centred = N * x - S; normal = centred * acc, shifted by the row's exponent, rounded to 16 bits;
           output = normal * gain + bias, shifted, rounded

N is a row's own length, so one unit serves every width up to its own: a row of n codes gives what `Norm` gives with
the first n gains and biases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from amaranth.hdl import C, Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.arithmetic import round_and_saturate, shift_right
from rtl.blocks.pipeline import Fields, Step
from rtl.normaliser import NormaliserConfig, normaliser_steps
from rtl.pwl import Word, table_lists
from rtl.rowwise import shared as unit
from rtl.rowwise.passes import Pass, PassPlan, chain, delay_of, way_of
from sim.common.errors import require_range
from sim.reference import InputError, Norm, Normaliser, PwlTable
from sim.reference.norm import BIAS_BITS, GAIN_BITS, MAX_SHIFT, NORMAL_BITS, spread_bits_for
from sim.reference.row_cycles import RowSchedule

ELEMENT_STEPS = 8
SHAPE = ("length", "in_bits", "out_bits")  # of the reference
DRIVEN = ("gain", "bias", "epsilon", "shift")  # loaded or driven, or wired in
DERIVED = ("spread_bits", "rsqrt")  # in a description's parameters
LEAD = 1  # the square has a rank of its own before the sum


@dataclass(frozen=True)
class NormConfig:
    """A unit for the geometry of `reference`; every fault raises `InputError`.

    Rows may have 2 to `reference.length` codes. `storage` is "flops" or "latches" for a table, gains, biases, epsilon
    and shift that are loaded or driven (gains and biases then lie in memories, `reference.epsilon` is the largest), or
    "constants" for those of `reference`, wired in. `stages` are the depths of the two pipelines: spread and reciprocal
    root (1..12), element (1..8). `rows` is how many rows may be inside, 1..64.
    """

    reference: Norm
    storage: str = "flops"
    stages: tuple[int, int] = (6, 5)
    rows: int = 4

    def __post_init__(self) -> None:
        # builds and so checks the normaliser; three steps are around it
        unit.check_stages(self.stages, (3 + self.rsqrt.deepest, ELEMENT_STEPS))
        require_range("rows", self.rows, *unit.ROWS_RANGE)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object, the reference's numbers and table among them."""
        reference = self.reference
        table = {"rsqrt": reference.rsqrt.table.to_dict(), "rsqrt_scale": reference.rsqrt.scale}
        content = {key: getattr(reference, key) for key in SHAPE}
        content |= {"max_epsilon": reference.epsilon, "tables": table, "centring": reference.centring}
        content |= {"storage": self.storage, "stages": list(self.stages), "rows": self.rows}
        if self.storage == "constants":
            content |= {key: getattr(reference, key) for key in DRIVEN}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "NormConfig":
        """The configuration from `to_dict`'s object, a vector set's, or a description's parameters with `tables` added.

        A unit with storage "constants" takes gain, bias, epsilon and shift from `load`, unless `content` has them. What
        a description says of the table's shape follows from it and is not read.
        """
        fields = {key: value for key, value in content.items() if key not in DERIVED}
        shape, tables = {key: fields.pop(key) for key in SHAPE}, fields.pop("tables")
        epsilon, centring = fields.pop("max_epsilon"), fields.pop("centring")
        zeros = (0,) * shape.pop("length")
        values: dict[str, Any] = {"gain": zeros, "bias": zeros, "epsilon": epsilon, "shift": 0}
        if fields.get("storage") == "constants":
            wired = fields if "gain" in fields else load or {}
            values = {key: tuple(wired[key]) if key in ("gain", "bias") else wired[key] for key in DRIVEN}
            fields = {key: value for key, value in fields.items() if key not in DRIVEN}
        table = PwlTable.from_dict(tables["rsqrt"], "rsqrt")
        bits = spread_bits_for(len(values["gain"]), values["epsilon"], shape["in_bits"])
        rsqrt = Normaliser(table, tables["rsqrt_scale"], bits, 0, False)
        return cls(Norm(rsqrt=rsqrt, centring=centring, **values, **shape), **unit.with_stages(fields))

    @cached_property
    def rsqrt(self) -> NormaliserConfig:
        """The normaliser inside."""
        return NormaliserConfig(self.reference.rsqrt, output="acc", storage=self.storage, stages=1)

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first."""
        return StructLayout({"code": signed(self.reference.in_bits), "last": unsigned(1)})

    @property
    def out_layout(self) -> StructLayout:
        """The output payload, lowest bit first."""
        return StructLayout({"code": signed(self.reference.out_bits), "last": unsigned(1)})

    @property
    def schedule(self) -> RowSchedule:
        """The unit's cycles."""
        row, element = self.stages
        return RowSchedule((delay_of(LEAD, row),), (way_of(element),), self.rows)

    @property
    def memories(self) -> list[tuple[str, int, int]]:
        """(name, select, bits) of the lists that lie in memories, in load order."""
        return [("gain", unit.LISTS, GAIN_BITS), ("bias", unit.LISTS + 1, BIAS_BITS)]

    @property
    def written_memories(self) -> list[tuple[str, int, int]]:
        """(path in the unit, words, bits) of each memory that is written: the pass's, and those of stored lists."""
        length = self.reference.length
        lists = [] if self.storage == "constants" else [(name, length, bits) for name, _, bits in self.memories]
        return unit.rings(length, self.schedule.delays, (self.reference.in_bits,)) + lists

    def words(self, reference: Norm) -> list[Word]:
        """The writes that load the table, gains and biases of `reference`. Raises `InputError` if they do not fit.

        A shorter norm than the unit's is loaded with its own gains and biases, the others staying as they are.
        """
        for name in ("in_bits", "out_bits", "centring"):
            has, own = getattr(reference, name), getattr(self.reference, name)
            if has != own:
                raise InputError(f"{name} of the norm must be the unit's {own}, not {has}")
        require_range("gain's length", reference.length, 2, self.reference.length)
        require_range("epsilon", reference.epsilon, 1, self.reference.epsilon)
        for name in ("domain", "slope_frac_bits"):
            has, own = getattr(reference.rsqrt.table, name), getattr(self.reference.rsqrt.table, name)
            if has != own or reference.rsqrt.scale != self.reference.rsqrt.scale:
                raise InputError(f"{name} and scale of rsqrt must be the unit's")
        return unit.words([(self.rsqrt.pwl, reference.rsqrt.lowered)]) + [
            Word(select, address, value & ((1 << bits) - 1))
            for name, select, bits in self.memories
            for address, value in enumerate(getattr(reference, name))
        ]


class NormUnit(storage.StoringUnit):
    """The unit as a component; for its memory see `rtl.rowwise.passes`, for its cycles `sim.reference.row_cycles`.

    `i` carries (code, last), `last` 1 ending a row of 2..`length` codes; another length is undefined. `o` carries
    (code, last), a result for each code in order. One element per cycle, rows without a gap between them.

    What is loaded is written through `table`: lists 0 to 2 the table's, 3 gains, 4 biases. It is quasi-static with
    `epsilon` and `shift`: changing one with a row inside is undefined.
    """

    stall = unit.STALL
    reset = unit.RESET

    def __init__(self, config: NormConfig, latch_cell: str = "latch") -> None:
        reference = config.reference
        ports: dict[str, Any] = {
            "i": In(stream.Signature(config.in_layout)),
            "o": Out(stream.Signature(config.out_layout)),
        }
        if config.storage != "constants":
            lists = len(config.memories)
            ports |= {
                "table": In(unit.table_port([config.rsqrt.pwl], lists, reference.length, BIAS_BITS)),
                "epsilon": In(range(reference.epsilon + 1)),
                "shift": In(range(MAX_SHIFT + 1)),
            }
        super().__init__(config, ports, latch_cell)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config, reference = self.config, self.config.reference
        names = ("centring", "length", "in_bits", "out_bits", "spread_bits")
        parameters = {name: getattr(reference, name) for name in names} | {"max_epsilon": reference.epsilon}
        parameters |= {"storage": config.storage, "stages": list(config.stages), "rows": config.rows}
        parameters["rsqrt"] = unit.describe_shape(config.rsqrt.pwl)
        memories = [(name, reference.length, bits, True) for name, _, bits in config.memories]
        lists = [*table_lists(config.rsqrt.pwl, "rsqrt_"), *memories]
        streams = {
            "i": f"a code; last, 1 to end a row of 2..{reference.length} codes. "
            "Another length is undefined, a longer one until a reset",
            "o": "for each code, in order, its result, and last as it came in",
        }
        return {
            "parameters": parameters,
            **unit.describe(config.schedule, config.storage, lists, streams),
            **unit.describe_memories(config.written_memories),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        table = unit.build_part(m, "rsqrt", config.rsqrt.pwl, 0, getattr(self, "table", None), self.latch_cell)
        reads = {name: self._memory(m, name, select, bits) for name, select, bits in config.memories}
        beside = {name: read.data for name, read in reads.items()}
        row = Pass(_plan(config, table, self._driven("epsilon"), self._driven("shift"), beside))
        accept, emit = Value.cast(self.i.payload.code), Cat(row.result, row.out_last)
        move = chain(m, self.i, self.o, [row], config.rows, accept, emit)
        for read in reads.values():
            m.d.comb += [read.addr.eq(row.position), read.en.eq(move)]
        return m

    def _driven(self, name: str) -> Value | int:
        return getattr(self, name) if hasattr(self, name) else getattr(self.config.reference, name)

    def _memory(self, m: Module, name: str, select: int, bits: int) -> Any:
        """The read port of a list's memory, which is written through the table's port."""
        reference = self.config.reference
        wired = self.config.storage == "constants"
        memory = Memory(shape=signed(bits), depth=reference.length, init=getattr(reference, name) if wired else [])
        m.submodules[name] = memory
        if not wired:
            write = memory.write_port()
            m.d.comb += [
                write.addr.eq(self.table.address),
                write.data.eq(self.table.data),
                write.en.eq(self.table.en & (self.table.select == select) & (self.table.address < reference.length)),
            ]
        return memory.read_port()


def _plan(
    config: NormConfig, table: list[storage.Words], epsilon: Value | int, shift: Value | int, beside: dict[str, Value]
) -> PassPlan:
    """The one pass of the unit."""
    reference = config.reference
    code = signed(reference.in_bits)
    bits = {name: width for name, (width, _) in reference.widths.items()}
    totals: dict[str, tuple[Shape, int]] = {"squares": (unsigned(bits["squares"]), 0)}
    if reference.centring:
        totals["sum"] = (signed(bits["sum"]), 0)

    def square(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"square": (f["code"] * f["code"]).as_unsigned()[: 2 * code.width - 1]}  # (-2**(b-1))**2 = 2**(2b-2)

    def add(total: Mapping[str, Value], f: Mapping[str, Value]) -> Fields:
        sums = {"squares": total["squares"] + f["square"]}
        return sums | ({"sum": total["sum"] + f["code"]} if reference.centring else {})

    return PassPlan(
        row_length=reference.length,
        rows=config.rows,
        word=StructLayout({"code": code}),
        totals=totals,
        add=add,
        lead=[Step("square", ("code",), 0, square)],
        lead_fields=("code", "square"),
        row_steps=_row_steps(config, table, epsilon, bits),
        row_stages=config.stages[0],
        row_fields=("length", "acc", "distance", *(["sum"] if reference.centring else [])),
        beside=beside,
        element_steps=_element_steps(config, shift, bits),
        element_stages=config.stages[1],
        result="output",
        result_shape=signed(reference.out_bits),
    )


def _row_steps(
    config: NormConfig, table: list[storage.Words], epsilon: Value | int, bits: Mapping[str, int]
) -> list[Step]:
    """From `squares`, `sum` and `rest` (N - 1) to `length` N, `acc` and `distance`, the remaining right shift."""
    reference = config.reference
    centring = ["sum"] if reference.centring else []

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        length = Signal(range(reference.length + 1), name="length_of_row")
        m.d.comb += length.eq(f["rest"] + 1)
        made: Fields = {"length": length, "first_term": length * f["squares"]}
        if reference.centring:
            made["second_term"] = f["sum"] * f["sum"]
        return made

    def subtract(m: Module, f: Mapping[str, Value]) -> Fields:
        spread = f["first_term"] + epsilon - (f["second_term"] if reference.centring else 0)
        return {"spread": spread[: bits["spread"]]}

    def split(m: Module, f: Mapping[str, Value]) -> Fields:
        acc, exponent = f["result"][: bits["acc"]].as_signed(), f["result"][bits["acc"] :].as_signed()
        return {"acc": acc, "distance": (_steps_up(f["rest"]) + (max(config.rsqrt.exponents) - exponent)).as_unsigned()}

    length_bits = reference.length.bit_length()
    product = max(
        pipeline.multiplier_levels(length_bits, bits["squares"]),
        pipeline.multiplier_levels(bits["sum"], bits["sum"]) if reference.centring else 0,
    )
    return [
        Step("multiply", ("squares", "rest", *centring), product, multiply),
        Step(
            "subtract",
            ("first_term", *(["second_term"] if reference.centring else [])),
            pipeline.adder_levels(bits["spread"]) + 1,
            subtract,
        ),
        *normaliser_steps(config.rsqrt, *table, source="spread"),
        Step("split", ("result", "rest"), 4, split),
    ]


def _steps_up(rest: Value) -> Value:
    """ceil(bit length of `rest` / 2), which `sim.reference.norm.normal_frac_bits_for` subtracts from its maximum."""
    return sum((rest[low:].any() for low in range(0, len(rest), 2)), C(0, 1))


def _element_steps(config: NormConfig, shift: Value | int, bits: Mapping[str, int]) -> list[Step]:
    """From `code`, the row's values, `gain` and `bias` to `output`."""
    reference = config.reference
    # the right shift is `least` for the shortest row and the largest exponent, `distance` more for others
    least = reference.rsqrt.table.slope_frac_bits + reference.rsqrt.scale - (NORMAL_BITS - 1)
    least -= max(config.rsqrt.exponents)
    left = max(0, -least)

    def centre(m: Module, f: Mapping[str, Value]) -> Fields:
        centred = f["length"] * f["code"] - (f["sum"] if reference.centring else 0)
        return {"centred": centred[: bits["centred"]].as_signed()}

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"product": (f["centred"] * f["acc"])[: bits["product"]].as_signed()}

    def scale(m: Module, f: Mapping[str, Value]) -> Fields:
        scaled = shift_right(Cat(C(0, left), f["product"]).as_signed(), least + left)
        return {"scaled": (scaled >> f["distance"]).as_signed()}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"normal": round_and_saturate(m, f["scaled"], signed(NORMAL_BITS))}

    def weigh(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"weighed": f["normal"] * f["gain"]}

    def add(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"sum_of_both": (f["weighed"] + f["bias"])[: bits["scaled"]].as_signed()}

    def shift_back(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"shifted": shift_right(f["sum_of_both"], shift)}

    def saturate(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"output": round_and_saturate(m, f["shifted"], signed(reference.out_bits))}

    row = ("sum",) if reference.centring else ()
    levels = pipeline.multiplier_levels
    return [
        Step("centre", ("code", "length", *row), levels(reference.length.bit_length(), reference.in_bits), centre),
        Step("multiply", ("centred", "acc"), levels(bits["centred"], bits["acc"]), multiply),
        Step("scale", ("product", "distance"), pipeline.shift_levels(1 << 6), scale),
        Step("limit", ("scaled",), pipeline.adder_levels(NORMAL_BITS), limit),
        Step("weigh", ("normal", "gain"), levels(NORMAL_BITS, GAIN_BITS), weigh),
        Step("add", ("weighed", "bias"), pipeline.adder_levels(bits["scaled"]), add),
        Step("shift", ("sum_of_both",), pipeline.shift_levels(MAX_SHIFT + 1), shift_back),
        Step("saturate", ("shifted",), pipeline.adder_levels(reference.out_bits), saturate),
    ]


def shorter(reference: Norm, length: int) -> Norm:
    """What the unit of `reference` computes for rows of `length`: the norm of its first gains and biases."""
    bits = spread_bits_for(length, reference.epsilon, reference.in_bits)
    return replace(
        reference,
        gain=reference.gain[:length],
        bias=reference.bias[:length],
        rsqrt=replace(reference.rsqrt, input_bits=bits),
    )
