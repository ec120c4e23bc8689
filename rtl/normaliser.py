"""The normaliser in gates: `sim.reference.Normaliser`, 1/x and 1/sqrt(x) of any positive number through one table.

k   = the one multiple of g that brings x into the table's domain: the leading one's group of g bits
q   = v shifted by that group's distance, rounded half up, at most the top code
acc = the piecewise-linear unit at q
y   = saturate(round_half_up(acc shifted back))      only where the output is a code
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import frexp
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Shape, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.arithmetic import round_and_saturate, shift_right
from rtl.blocks.multiplication import Product, carry_save, product_name
from rtl.blocks.pipeline import Fields, Step
from rtl.blocks.selection import one_hot
from rtl.pwl import OUTPUTS, PwlConfig, build_table, describe_table, pwl_steps
from sim.common.errors import require_range
from sim.reference import InputError, Normaliser, PwlTable
from sim.reference.arithmetic import code_range
from sim.reference.code_format import WIDTH_RANGE
from sim.reference.normaliser import POWERS

GEOMETRY = ("scale", "input_bits", "input_frac_bits", "input_signed")  # of the reference, beside its table
OWN = ("output", "output_scale", "out_bits", "out_signed", "storage", "stages")


@dataclass(frozen=True)
class NormaliserConfig:
    """A unit for the table, scale and input format of `reference`; every fault raises `InputError`.

    `output` is "acc", the pair (acc, exponent) of `Normaliser.evaluate`, or "code", the result of `Normaliser.output`
    at `output_scale`, saturated to `out_bits`. `storage` is that of the table, as for `rtl.pwl.PwlConfig`; another
    table of the same geometry (domain, scale, fraction bits) can be loaded into a stored one.
    """

    reference: Normaliser
    output: str = "code"
    output_scale: int | None = None
    out_bits: int = 8
    out_signed: bool = True
    storage: str = "flops"
    stages: int = 4

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise InputError(f"output must be one of {', '.join(OUTPUTS)}, not {self.output!r}")
        require_range("out_bits", self.out_bits, *WIDTH_RANGE)
        require_range("input_frac_bits", self.reference.input_frac_bits, -64, 64)
        if (self.output == "code") != (self.output_scale is not None):
            raise InputError("output_scale must be given if and only if the output is a code")
        if self.output_scale is not None:
            require_range("output_scale", self.output_scale, -64, 64)
        pipeline.check_stages(self.stages, self.deepest)  # builds and so checks the table's unit

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object, the reference's number format and table among them."""
        own = {key: value for key, value in vars(self).items() if key in OWN}
        return {key: getattr(self.reference, key) for key in GEOMETRY} | own | {"table": self.reference.table.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "NormaliserConfig":
        """The configuration from `to_dict`'s object, which has the table that a unit with storage "constants" holds."""
        fields = dict(content)
        table = PwlTable.from_dict(fields.pop("table", None))
        return cls(Normaliser(table, **{key: fields.pop(key) for key in GEOMETRY}), **fields)

    @cached_property
    def pwl(self) -> PwlConfig:
        """The piecewise-linear unit inside."""
        table, lowered = self.reference.table, self.reference.lowered
        return PwlConfig(
            entries=table.entries,
            in_bits=table.in_bits,
            in_signed=table.in_signed,
            coef_bits=table.coef_bits,
            output="acc",
            storage=self.storage,
            constants=lowered if self.storage == "constants" else None,
            intercept_shift=lowered.intercept_shift,
            stages=1,
        )

    @property
    def deepest(self) -> int:
        """The most stages that the unit can be cut into: three steps before the table's, two or one after."""
        return 3 + self.pwl.deepest + (2 if self.output == "code" else 1)

    @cached_property
    def groups(self) -> list[tuple[int, int]]:
        """(k, highest leading-one position) for each k that an input can have, ascending."""
        n = self.reference
        bottom = frexp(n.table.domain[0])[1] - 1
        step = n.table.normaliser_step or 1
        tops = {(msb - n.input_frac_bits - bottom) // step * step: msb for msb in range(self.magnitude_bits)}
        return sorted(tops.items())

    @property
    def magnitude_bits(self) -> int:
        """The bits that a positive input can set."""
        return self.reference.input_bits - self.reference.input_signed

    @property
    def exponents(self) -> list[int]:
        """The exponent of the result for each group."""
        numerator, denominator = POWERS[self.reference.table.function]
        return [k * numerator // denominator for k, _ in self.groups]

    @property
    def in_shape(self) -> Shape:
        """The shape of v."""
        return Shape(self.reference.input_bits, self.reference.input_signed)

    @property
    def out_shape(self) -> Shape | StructLayout:
        """The shape of y, or the pair (acc, exponent)."""
        if self.output == "code":
            return Shape(self.out_bits, self.out_signed)
        low, high = min(self.exponents), max(self.exponents)
        return StructLayout(
            {"acc": signed(self.pwl.acc_bits), "exponent": signed(Shape.cast(range(low, high + 1)).width + (low >= 0))}
        )


class NormaliserUnit(storage.StoringUnit):
    """The normaliser as a component, with stall and reset as in `rtl.blocks.pipeline`.

    The latency is `stages` cycles, the throughput one result per cycle.

    Streams: `i` carries v, `o` codes y or (acc, exponent). v <= 0 gives the largest output. `table` is the table's
    write port as for `rtl.pwl.Pwl`, and as quasi-static. `product` is as there.
    """

    def __init__(self, config: NormaliserConfig, latch_cell: str = "latch", product: Product = carry_save) -> None:
        self.product = product
        ports = {"i": In(stream.Signature(config.in_shape)), "o": Out(stream.Signature(config.out_shape))}
        if config.storage != "constants":
            ports["table"] = In(storage.port(config.pwl.entries, config.pwl.data_bits))
        super().__init__(config, ports, latch_cell)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config, reference = self.config, self.config.reference
        content = config.to_dict()
        return {
            "parameters": {key: content[key] for key in (*OWN, *GEOMETRY)},
            "product": product_name(self.product),
            "function": reference.table.function,
            "domain": list(reference.table.domain),
            "normaliser_step": reference.table.normaliser_step,
            "result": self._meaning(),
            "latency": config.stages,
            "interval": 1,
            **describe_table(config.pwl),
        }

    def _meaning(self) -> str:
        config, reference = self.config, self.config.reference
        value = f"x = i__payload * 2**{-reference.input_frac_bits}; "
        if config.output_scale is not None:
            return value + f"{reference.table.function}(x) is o__payload * 2**{-config.output_scale}"
        unit = -reference.table.slope_frac_bits - reference.scale
        return value + f"{reference.table.function}(x) is acc * 2**(exponent + {unit})"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        table = build_table(m, self.config.pwl, getattr(self, "table", None), self.latch_cell)
        pipeline.build(
            m, self.i, self.o, normaliser_steps(self.config, *table, product=self.product), self.config.stages
        )
        return m


def normaliser_steps(
    config: NormaliserConfig,
    thresholds: storage.Words,
    slopes: storage.Words,
    intercepts: storage.Words,
    source: str = "payload",
    product: Product = carry_save,
) -> list[Step]:
    """The steps from the field `source`, v, to the field `result`: a code, or the bits of (acc, exponent)."""
    shift = config.reference.lowered.intercept_shift
    return [
        *_normalise_steps(config, source),
        *pwl_steps(config.pwl, (thresholds, slopes, intercepts), (shift, 0), "q_in", product),
        *(_code_steps if config.output == "code" else _pair_steps)(config),
    ]


def _normalise_steps(config: NormaliserConfig, source: str) -> list[Step]:
    """From `source` to `q_in`, `hot` (one bit per group) and `largest` (v <= 0)."""
    reference = config.reference
    code_bits = reference.top_code.bit_length()
    q_shape = config.pwl.in_shape

    def find(m: Module, f: Mapping[str, Value]) -> Fields:
        v = f[source][: config.magnitude_bits]
        negative = f[source][-1] if reference.input_signed else C(0, 1)
        hot, bottom = [], 0
        for _, top in config.groups:
            hot.append(v[bottom : top + 1].any() & ~v[top + 1 :].any())
            bottom = top + 1
        return {"magnitude": v, "hot": Cat(hot), "largest": negative | ~v.any()}

    def align(m: Module, f: Mapping[str, Value]) -> Fields:
        ways = []
        for k, _ in config.groups:
            left = reference.scale - reference.input_frac_bits - k + 1  # one more bit: the round bit, below the code
            way = Cat(C(0, left), f["magnitude"]) if left >= 0 else f["magnitude"][-left:]
            ways.append(Cat(way, C(0, code_bits + 1))[: code_bits + 1])
        return {"aligned": one_hot(list(f["hot"]), ways)}

    def round_up(m: Module, f: Mapping[str, Value]) -> Fields:
        code, half = f["aligned"][1:], f["aligned"][0]
        top = f["largest"] | code.all()  # the top code has every bit set and is never passed
        code = Cat(Mux(top, C(reference.top_code, code_bits), (code + half)[:code_bits]), C(0, q_shape.width))
        code = code[: q_shape.width]
        return {"q_in": code.as_signed() if q_shape.signed else code}

    return [
        Step("find", (source,), 2 * pipeline.select_levels(config.magnitude_bits + 1), find),
        Step("align", ("magnitude", "hot"), pipeline.select_levels(len(config.groups) + 1), align),
        Step("round", ("aligned", "largest"), pipeline.adder_levels(code_bits) + 2, round_up),
    ]


def _pair_steps(config: NormaliserConfig) -> list[Step]:
    """From `acc`, `hot` and `largest` to (acc, exponent)."""
    layout = config.out_shape
    assert isinstance(layout, StructLayout)
    exponent = layout["exponent"].shape
    acc_bits = config.pwl.acc_bits

    def pair(m: Module, f: Mapping[str, Value]) -> Fields:
        acc = Mux(f["largest"], C((1 << (acc_bits - 1)) - 1, acc_bits), f["acc"].as_unsigned())
        exponents = [C(e, exponent) for e in config.exponents]
        chosen = Mux(f["largest"], exponents[0], one_hot(list(f["hot"]), exponents))  # v <= 0: that of the smallest v
        return {"result": Cat(acc, chosen[: exponent.width])}

    return [Step("pair", ("acc", "hot", "largest"), 2, pair)]


def _code_steps(config: NormaliserConfig) -> list[Step]:
    """From `acc`, `hot` and `largest` to y, with one rounding."""
    reference = config.reference
    shape = Shape(config.out_bits, config.out_signed)
    top = code_range(shape.width, shape.signed)[1]
    assert config.output_scale is not None
    unit = config.output_scale - reference.table.slope_frac_bits - reference.scale
    rights = [-(e + unit) for e in config.exponents]
    left = max(0, -min(rights))
    nearest = min(rights) + left
    distances = [right + left - nearest for right in rights]
    width = max(distances).bit_length()

    def back(m: Module, f: Mapping[str, Value]) -> Fields:
        distance = one_hot(list(f["hot"]), [C(d, width) for d in distances]) if width else 0
        scaled = shift_right(Cat(C(0, left), f["acc"]).as_signed(), nearest)
        return {"scaled": (scaled >> distance).as_signed()}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        return {
            "result": Mux(f["largest"], C(top, shape.width), round_and_saturate(m, f["scaled"], shape))[: shape.width]
        }

    ways = pipeline.select_levels(len(distances) + 1)
    return [
        Step("back", ("acc", "hot"), ways + pipeline.shift_levels(max(distances) + 1), back),
        Step("limit", ("scaled", "largest"), pipeline.adder_levels(shape.width) + 1, limit),
    ]
