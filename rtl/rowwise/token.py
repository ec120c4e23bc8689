"""The token quantiser in gates: `sim.reference.token.quantise_tokens`, rows of any length up to the unit's in one pass.

row        magnitude = max |x|, at least 1; ratio = (top * 2**24 + magnitude // 2) // magnitude, by long division
element    code = saturate(round_half_up(x * ratio, 24))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.arithmetic import round_and_saturate, shift_right
from rtl.blocks.pipeline import Fields, Step
from rtl.rowwise import shared as unit
from rtl.rowwise.passes import Pass, PassPlan, chain, delay_of, way_of
from rtl.unit_config import UnitConfig
from sim.reference.arithmetic import code_range
from sim.reference.pwl import require_range
from sim.reference.row_cycles import RowSchedule
from sim.reference.token import IN_BITS, RATIO_BITS, quantise_tokens

ELEMENT_STEPS = 2
MAGNITUDE = unsigned(IN_BITS)  # up to 2**15


@dataclass(frozen=True)
class TokenConfig(UnitConfig):
    """Rows of up to `row_length` 16-bit codes, 1..65536, to codes of `out_bits`, 2..16.

    `divider_stages` is the depth of the divider, which finds as many bits of the ratio in each stage as that needs, 1
    to `out_bits` + 23; `stages` that of the product, 1..2; `rows` is how many rows may be inside, 1..64. A value out of
    its range raises `InputError` with its name.
    """

    row_length: int = 384
    out_bits: int = 8
    divider_stages: int = 16
    stages: int = 2
    rows: int = 4

    def __post_init__(self) -> None:
        require_range("row_length", self.row_length, 1, 1 << 16)
        require_range("out_bits", self.out_bits, 2, 16)
        require_range("divider_stages", self.divider_stages, 1, self.ratio_bits)
        require_range("rows", self.rows, *unit.ROWS_RANGE)
        pipeline.check_stages(self.stages, ELEMENT_STEPS)

    @property
    def ratio_bits(self) -> int:
        """The unsigned width of the ratio, and of what is divided: top * 2**24 has no bit where magnitude // 2 has."""
        return self.out_bits - 1 + RATIO_BITS

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first."""
        return StructLayout({"x": signed(IN_BITS), "last": unsigned(1)})

    @property
    def out_layout(self) -> StructLayout:
        """The output payload, lowest bit first."""
        return StructLayout({"code": signed(self.out_bits), "magnitude": MAGNITUDE, "last": unsigned(1)})

    @property
    def schedule(self) -> RowSchedule:
        """The unit's cycles."""
        return RowSchedule((delay_of(0, self.divider_stages),), (way_of(self.stages),), self.rows)

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """Nothing is loaded."""
        return {}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """About `count` codes in rows of every magnitude, zeros and extremes among them; the first is the longest."""
        sizes = [self.row_length]
        while sum(sizes) < count:
            sizes.append(int(rng.integers(1, self.row_length, endpoint=True)))
        row = np.repeat(np.arange(len(sizes)), sizes)
        low, high = code_range(IN_BITS, True)
        x = rng.integers(low, high, len(row), endpoint=True) >> rng.integers(0, IN_BITS + 1, len(sizes))[row]
        x = np.where(rng.random(len(row)) < 0.01, rng.choice([low, 0, high], len(row)), x)
        x[rng.integers(0, 8, len(sizes))[row] == 0] = 0
        last = np.append(row[1:] != row[:-1], True).astype(np.int64)
        return {"x": x.astype(np.int64), "last": last}

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The codes and magnitudes that the specification gives."""
        rows = np.split(inputs["x"], np.flatnonzero(inputs["last"])[:-1] + 1)
        found = [quantise_tokens(row, self.out_bits) for row in rows]
        magnitude = [np.full(len(codes), magnitude[0]) for codes, magnitude in found]
        codes = np.concatenate([codes for codes, _ in found])
        return {"code": codes, "magnitude": np.concatenate(magnitude), "last": inputs["last"]}


class TokenUnit(wiring.Component):
    """The token quantiser as a component; for its memory see `rtl.rowwise.passes`, for its cycles
    `sim.reference.row_cycles`.

    `i` carries (x, last), `last` 1 ends a row of 1..`row_length` codes; a longer row is undefined. `o` carries (code,
    magnitude, last), a result for each code in order, each with its row's magnitude. One element per cycle, rows
    without a gap between them.
    """

    stall = unit.STALL
    reset = unit.RESET

    def __init__(self, config: TokenConfig) -> None:
        self.config = config
        super().__init__({"i": In(stream.Signature(config.in_layout)), "o": Out(stream.Signature(config.out_layout))})

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config = self.config
        streams = {
            "i": f"a code; last, 1 to end a row of 1..{config.row_length} codes; a longer row is undefined",
            "o": "for each code, in order, its code at the row's own scale, the magnitude, and last as it came in",
        }
        return {
            "parameters": config.to_dict(),
            **unit.describe(config.schedule, "constants", [], streams),
            **unit.describe_memories(unit.rings(config.row_length, config.schedule.delays, (IN_BITS,))),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row = Pass(_plan(self.config))
        emit = Cat(row.result, row.out_last)
        chain(m, self.i, self.o, [row], self.config.rows, Value.cast(self.i.payload.x), emit)
        return m


def _plan(config: TokenConfig) -> PassPlan:
    def add(total: Mapping[str, Value], f: Mapping[str, Value]) -> Fields:
        size = abs(f["x"])[:IN_BITS]
        return {"magnitude": Mux(size > total["magnitude"], size, total["magnitude"])}

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        # |x| is at most the magnitude, so that the product is at most top * 2**24 + magnitude / 2
        return {"product": (f["x"] * f["ratio"])[: config.out_bits + RATIO_BITS].as_signed()}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        code = round_and_saturate(m, shift_right(f["product"], RATIO_BITS), signed(config.out_bits))
        return {"result": Cat(code, f["magnitude"])}

    return PassPlan(
        row_length=config.row_length,
        rows=config.rows,
        word=StructLayout({"x": signed(IN_BITS)}),
        totals={"magnitude": (MAGNITUDE, 1)},
        add=add,
        row_fields=("ratio", "magnitude"),
        row_steps=_divider(config),
        row_stages=config.divider_stages,
        element_steps=[
            Step("multiply", ("x", "ratio"), pipeline.multiplier_levels(IN_BITS, config.ratio_bits), multiply),
            Step("limit", ("product", "magnitude"), pipeline.adder_levels(config.out_bits) + 1, limit),
        ],
        element_stages=config.stages,
        result="result",
        result_shape=unsigned(config.out_bits + IN_BITS),
    )


def _divider(config: TokenConfig) -> list[Step]:
    """Restoring long division from `magnitude` to `ratio`, a step for each stage.

    `rest` is what is left of the bits that were brought down; `ratio` holds the bits that are still to come down above
    the quotient's bits found so far, and turns into the quotient.
    """
    width, stages = config.ratio_bits, config.divider_stages
    top = code_range(config.out_bits, True)[1]

    def step(first: int, last: int) -> Step:
        def divide(m: Module, f: Mapping[str, Value]) -> Fields:
            divisor = f["magnitude"]
            if first:
                rest, bits = f["remainder"], f["ratio"]
            else:
                rest, bits = C(0, IN_BITS), Cat(divisor[1:], C(top << (RATIO_BITS - IN_BITS + 1), width - IN_BITS + 1))
            for _ in range(first, last):
                brought, fits, left = Signal(IN_BITS + 1), Signal(), Signal(IN_BITS)
                m.d.comb += [
                    brought.eq(Cat(bits[-1], rest)),
                    fits.eq(brought >= divisor),
                    left.eq(Mux(fits, brought - divisor, brought)),
                ]
                rest, bits = left, Cat(fits, bits[:-1])
            return {"remainder": rest, "ratio": bits}

        reads = ("magnitude", "remainder", "ratio") if first else ("magnitude",)
        return Step("divide", reads, (last - first) * pipeline.adder_levels(IN_BITS + 1), divide)

    edges = [width * k // stages for k in range(stages + 1)]
    return [step(first, last) for first, last in pairwise(edges)]
