"""Softmax in gates: `sim.reference.Softmax`, rows of any length in two passes that work at once on rows in sequence.

first pass    maximum of the row; then, for each element, distance to it, EXP table, power = max(., 0)
second pass   sum of the powers, 1 / sum through the normaliser; then, for each element, power * inverse, rounded
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Shape, Value, signed, unsigned
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.arithmetic import round_and_saturate, saturate, shift_right
from rtl.blocks.pipeline import Fields, Step
from rtl.normaliser import NormaliserConfig, normaliser_steps
from rtl.pwl import PwlConfig, Word, pwl_steps, table_lists
from rtl.rowwise import shared as unit
from rtl.rowwise.passes import Pass, PassPlan, chain, delay_of, way_of
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable, Softmax
from sim.reference.arithmetic import code_range
from sim.reference.row_cycles import RowSchedule
from sim.reference.softmax import total_bits_for

SCALE_STEPS = 3
NUMBERS = ("exp_scale", "row_length", "inverse_scale", "probability_scale", "score_bits", "probability_bits")
DERIVED = ("shift", "total_bits", "exp", "div")  # in a description's parameters


@dataclass(frozen=True)
class SoftmaxConfig:
    """A unit for the geometry of `reference`; every fault raises `InputError`.

    `storage` is that of both tables, as for `rtl.pwl.PwlConfig`. Stored ones can be loaded with any tables of the same
    geometry, and the EXP table's shifts are then inputs, so that scores may have another scale at each site.
    `stages` are the depths of the three pipelines: EXP (1..9), reciprocal (1..10), probability (1..3). `rows` is how
    many rows may be inside, 1..64.
    """

    reference: Softmax
    storage: str = "flops"
    stages: tuple[int, int, int] = (4, 5, 2)
    rows: int = 4

    def __post_init__(self) -> None:
        # builds and so checks both units; two steps are around the table of EXP
        unit.check_stages(self.stages, (2 + self.exp.deepest, self.div.deepest, SCALE_STEPS))
        require_range("rows", self.rows, *unit.ROWS_RANGE)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object, the reference's numbers and tables among them."""
        reference = self.reference
        tables = {
            "exp": reference.exp.to_dict(),
            "div": reference.div.table.to_dict(),
            "div_scale": reference.div.scale,
        }
        own = {"storage": self.storage, "stages": list(self.stages), "rows": self.rows}
        return numbers(reference) | {"tables": tables} | own

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "SoftmaxConfig":
        """The configuration from `to_dict`'s object, a vector set's, or a description's parameters with `tables` added.

        The tables are those that a unit with storage "constants" holds. What a description says of their shape follows
        from them and is not read.
        """
        fields = {key: value for key, value in content.items() if key not in DERIVED}
        fields.setdefault("probability_bits", Softmax.probability_bits)
        own, tables = {key: fields.pop(key) for key in NUMBERS}, fields.pop("tables")
        exp = LoweredTable.from_dict(tables["exp"])
        div = PwlTable.from_dict(tables["div"], "div")
        bits = total_bits_for(exp, own["row_length"])
        reference = Softmax(exp=exp, div=Normaliser(div, tables["div_scale"], bits, own["exp_scale"], False), **own)
        return cls(reference, **unit.with_stages(fields))

    @cached_property
    def exp(self) -> PwlConfig:
        """The EXP unit inside."""
        lowered = self.reference.exp
        fields: dict[str, Any] = lowered.code_format.to_dict()
        if self.storage == "constants":
            fields |= {"constants": lowered, "intercept_shift": lowered.intercept_shift}
            fields["output_shift"] = lowered.output_shift
        else:
            default = lowered.in_bits - 1
            fields["max_intercept_shift"] = max(lowered.intercept_shift, default)
            fields["max_output_shift"] = max(lowered.output_shift or 0, default + lowered.coef_bits)
        return PwlConfig(entries=len(lowered.slopes), storage=self.storage, stages=1, **fields)

    @cached_property
    def div(self) -> NormaliserConfig:
        """The normaliser inside."""
        return NormaliserConfig(
            self.reference.div,
            output_scale=self.reference.inverse_scale,
            out_bits=self.reference.inverse_bits,
            storage=self.storage,
            stages=1,
        )

    @property
    def tables(self) -> tuple[tuple[str, PwlConfig], ...]:
        """(name, unit) of the tables, in load order."""
        return ("exp", self.exp), ("div", self.div.pwl)

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first."""
        return StructLayout({"score": signed(self.reference.score_bits), "valid": unsigned(1), "last": unsigned(1)})

    @property
    def out_layout(self) -> StructLayout:
        """The output payload, lowest bit first."""
        return StructLayout({"probability": signed(self.reference.probability_bits), "last": unsigned(1)})

    @property
    def schedule(self) -> RowSchedule:
        """The unit's cycles."""
        exp, div, scale = self.stages
        return RowSchedule((delay_of(0, 0), delay_of(0, div)), (way_of(exp), way_of(scale)), self.rows)

    @property
    def rings(self) -> list[tuple[str, int, int]]:
        """(path in the unit, words, bits) of the memory of each pass."""
        powers, _ = self.reference.widths["power"]
        widths = (self.reference.score_bits + 1, powers)
        return unit.rings(self.reference.row_length, self.schedule.delays, widths)

    def words(self, reference: Softmax) -> list[Word]:
        """The writes that load the tables of `reference`. Raises `InputError` if they do not fit."""
        lowered = {"exp": reference.exp, "div": reference.div.lowered}
        for name in NUMBERS:
            has, own = getattr(reference, name), getattr(self.reference, name)
            if has != own:
                raise InputError(f"{name} of the softmax must be the unit's {own}, not {has}")
        if reference.div.table.domain != self.reference.div.table.domain:
            raise InputError(f"div's domain must be the unit's {list(self.reference.div.table.domain)}")
        return unit.words([(config, lowered[name]) for name, config in self.tables])


def numbers(reference: Softmax) -> dict[str, int]:
    """The `NUMBERS` of a softmax as files have them: 8 bits of probability go without saying."""
    kept = NUMBERS if reference.probability_bits != Softmax.probability_bits else NUMBERS[:-1]
    return {name: getattr(reference, name) for name in kept}


class SoftmaxUnit(storage.StoringUnit):
    """The unit as a component; for its memories see `rtl.rowwise.passes`, for its cycles `sim.reference.row_cycles`.

    `i` carries (score, valid, last): `valid` 0 masks a score, `last` 1 ends a row of 1..`row_length` scores; a longer
    row is undefined. `o` carries (probability, last), a result for each score in order. One element per cycle, rows
    without a gap between them.

    The tables are written through `table`: lists 0 to 2 EXP's, 3 to 5 the reciprocal's. They and EXP's shifts are
    quasi-static: changing them with a row inside is undefined.
    """

    stall = unit.STALL
    reset = unit.RESET

    def __init__(self, config: SoftmaxConfig, latch_cell: str = "latch") -> None:
        ports: dict[str, Any] = {
            "i": In(stream.Signature(config.in_layout)),
            "o": Out(stream.Signature(config.out_layout)),
        }
        if config.storage != "constants":
            tables = [table for _, table in config.tables]
            ports["table"] = In(unit.table_port(tables))
        ports |= {f"exp_{name}": In(range(config.exp.largest(name) + 1)) for name in config.exp.shift_ports}
        super().__init__(config, ports, latch_cell)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config, reference = self.config, self.config.reference
        names = ("row_length", "score_bits", "exp_scale", "inverse_scale", "probability_scale", "shift", "total_bits")
        parameters = {name: getattr(reference, name) for name in names} | numbers(reference)
        parameters |= {"storage": config.storage, "stages": list(config.stages), "rows": config.rows}
        for name, table in config.tables:
            parameters[name] = unit.describe_shape(table)
        lists = [row for name, table in config.tables for row in table_lists(table, f"{name}_")]
        streams = {
            "i": f"a score; valid, 0 to mask it; last, 1 to end a row of 1..{reference.row_length} scores. "
            "A longer row is undefined, until a reset",
            "o": "for each score, in order, its probability, and last as it came in",
        }
        return {
            "parameters": parameters,
            **unit.describe(config.schedule, config.storage, lists, streams),
            **unit.describe_memories(config.rings),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        exp, div = (
            unit.build_part(m, name, table, k, getattr(self, "table", None), self.latch_cell)
            for k, (name, table) in enumerate(config.tables)
        )
        first = Pass(_exp_plan(config, exp, self._shift("intercept_shift"), self._shift("output_shift")))
        second = Pass(_probability_plan(config, div))
        accept = Cat(self.i.payload.score, self.i.payload.valid)
        emit = Cat(second.result, second.out_last)
        chain(m, self.i, self.o, (first, second), config.rows, accept, emit)
        return m

    def _shift(self, name: str) -> Value | int:
        own = self.config.exp
        return getattr(self, f"exp_{name}") if name in own.shift_ports else getattr(own, name) or 0


def _exp_plan(
    config: SoftmaxConfig, table: list[storage.Words], intercept_shift: Value | int, output_shift: Value | int
) -> PassPlan:
    """From scores to powers."""
    reference = config.reference
    score = signed(reference.score_bits)
    power_bits = reference.widths["power"][0]

    def add(total: Mapping[str, Value], f: Mapping[str, Value]) -> Fields:
        higher = f["valid"] & (f["score"] > total["maximum"])
        return {"maximum": Mux(higher, f["score"], total["maximum"])}

    def distance(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"distance": saturate((f["score"] - f["maximum"]).as_signed(), config.exp.in_shape)}

    def power(m: Module, f: Mapping[str, Value]) -> Fields:
        negative = f["code"][-1] if reference.exp.out_signed else C(0, 1)
        return {"power": Mux(f["valid"] & ~negative, f["code"][:power_bits], 0)}

    return PassPlan(
        row_length=reference.row_length,
        rows=config.rows,
        word=StructLayout({"score": score, "valid": unsigned(1)}),
        totals={"maximum": (score, code_range(reference.score_bits, True)[0])},
        add=add,
        row_fields=("maximum",),
        element_steps=[
            Step("distance", ("score", "maximum"), pipeline.adder_levels(reference.score_bits + 1) + 2, distance),
            *pwl_steps(config.exp, table, (intercept_shift, output_shift), source="distance"),
            Step("power", ("code", "valid"), 1, power),
        ],
        element_stages=config.stages[0],
        result="power",
        result_shape=unsigned(power_bits),
    )


def _probability_plan(config: SoftmaxConfig, table: list[storage.Words]) -> PassPlan:
    """From powers to probabilities."""
    reference = config.reference
    power, total_bits = unsigned(reference.widths["power"][0]), reference.total_bits
    code = Shape(reference.probability_bits - 1)  # never negative

    def add(total: Mapping[str, Value], f: Mapping[str, Value]) -> Fields:
        return {"total": total["total"] + f["power"]}

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"product": f["power"] * f["result"].as_signed()}

    def scale(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"scaled": shift_right(f["product"], reference.shift)}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"probability": Cat(round_and_saturate(m, f["scaled"], code), C(0, 1))}

    return PassPlan(
        row_length=reference.row_length,
        rows=config.rows,
        word=StructLayout({"power": power}),
        totals={"total": (unsigned(total_bits), 0)},
        add=add,
        row_steps=normaliser_steps(config.div, *table, source="total"),
        row_stages=config.stages[1],
        row_fields=("result",),
        element_steps=[
            Step(
                "multiply",
                ("power", "result"),
                pipeline.multiplier_levels(power.width, reference.inverse_bits),
                multiply,
            ),
            Step("scale", ("product",), 0, scale),
            Step("limit", ("scaled",), pipeline.adder_levels(reference.probability_bits) + 1, limit),
        ],
        element_stages=config.stages[2],
        result="probability",
        result_shape=signed(reference.probability_bits),
    )
