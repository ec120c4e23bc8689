"""The engine's parameters and the layouts that follow from them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from amaranth.hdl import signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

from rtl.layer.sums import SumsConfig
from rtl.product import ProductConfig
from rtl.pwl import PwlConfig
from rtl.requant import RequantConfig
from rtl.residual import ResidualConfig
from rtl.rope import RopeConfig
from rtl.rowwise.norm import NormConfig
from rtl.rowwise.softmax import SoftmaxConfig
from rtl.rowwise.token import TokenConfig
from sim.common.errors import require_range
from sim.reference import InputError, Norm, Softmax
from sim.reference import engine as hardware
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, TOTAL_BITS
from sim.reference.engine_cycles import EngineSchedule
from sim.reference.norm import MAX_SHIFT as NORM_MAX_SHIFT
from sim.reference.norm import spread_bits_for
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS
from sim.reference.softmax import total_bits_for

OPERATIONS = ("write", "load", "store", "multiply", "softmax", "norm", "quantise", "add", "map")
DECODER_OPERATIONS = (*OPERATIONS, "weigh", "rotate", "product")
TABLES = ("softmax", "norm", "map")  # what "write" can write to, by number
SOURCES = ("stream", "memory", "transposed")  # of the array's weights
COUNT_BITS = 16


@dataclass(frozen=True)
class EngineConfig:
    """An engine.

    Parameters
    ----------
    softmax, norm : Softmax, Norm
        The geometry of the units: `words` of other tables, gains and biases are loaded by instructions. Rows of softmax
        have up to `max_tokens` scores, those of the norm and of the token quantiser up to their own length.
    lanes : int
        Rows and columns of the array, and elements of a word, a power of two in 2..64.
    words : int
        Words of the memory, a power of two.
    row_units : int
        Softmax, norm and token units, each on a row of its own, 1..`lanes`.
    max_tokens : int
        Tokens that the array's accumulators hold.
    max_inputs : int
        The most inputs of a linear layer, and the most channels of a row.
    entries : int
        Entries of the table of "map".
    stages : int
        Depth of the pipeline from the array's sums to codes.
    decoder : bool
        Whether it runs causal language models: rotations, products of elements, magnitudes for keys and values, and
        16-bit activations, which take the array two passes.

    Raises
    ------
    InputError
        If a field is out of its range or does not fit the others.
    """

    softmax: Softmax
    norm: Norm
    lanes: int = 16
    words: int = 16384
    row_units: int = 1
    max_tokens: int = 128
    max_inputs: int = 1536
    entries: int = 8
    stages: int = 4
    decoder: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("lanes", 2, 64), ("words", 64, 1 << 20)):
            value = getattr(self, name)
            require_range(name, value, low, high)
            if value & (value - 1):
                raise InputError(f"{name} must be a power of two, not {value}")
        require_range("row_units", self.row_units, 1, self.lanes)
        require_range("max_tokens", self.max_tokens, 2, 1 << 12)
        require_range("max_inputs", self.max_inputs, 2, 1 << 13)
        require_range("stages", self.stages, 1, RESULT_STEPS)
        _ = self.array, self.softmax_unit, self.norm_unit, self.map_unit  # checks them

    @cached_property
    def array(self) -> SumsConfig:
        """The array, whose results are sums."""
        return SumsConfig(
            rows=self.lanes,
            columns=self.lanes,
            weight_bits=NARROW_BITS,
            activation_bits=ELEMENT_BITS if self.decoder else NARROW_BITS,
            two_pass=self.decoder,
            group_multiplier_bits=0,
            max_inputs=self.max_inputs,
            bias_bits=2,
            depth=self.max_tokens,
            count_bits=COUNT_BITS,
            stages=1,
        )

    @cached_property
    def softmax_unit(self) -> SoftmaxConfig:
        """The softmax unit, for rows of up to `max_tokens` scores."""
        longest = self.max_tokens
        div = replace(self.softmax.div, input_bits=total_bits_for(self.softmax.exp, longest))
        return SoftmaxConfig(replace(self.softmax, row_length=longest, div=div))

    @cached_property
    def norm_unit(self) -> NormConfig:
        """The norm's unit."""
        return NormConfig(self.norm)

    @cached_property
    def token_unit(self) -> TokenConfig:
        """The token quantiser."""
        return TokenConfig(row_length=self.max_inputs)

    @cached_property
    def map_unit(self) -> PwlConfig:
        """One lane of "map"."""
        return PwlConfig(entries=self.entries, out_bits=ELEMENT_BITS)

    @property
    def requant(self) -> RequantConfig:
        """One lane behind the array."""
        return RequantConfig(in_bits=TOTAL_BITS, out_bits=ELEMENT_BITS)

    @property
    def schedule(self) -> EngineSchedule:
        """The engine's cycles."""
        rows = {
            hardware.Probabilities: self.softmax_unit.schedule,
            hardware.Normalise: self.norm_unit.schedule,
            hardware.Quantise: self.token_unit.schedule,
        }
        adder = ResidualConfig.stages
        return EngineSchedule(
            self.lanes, self.array.schedule, self.stages, rows, adder, self.map_unit.stages, RopeConfig.stages,
            ProductConfig.stages,
        )  # fmt: skip

    @property
    def operations(self) -> tuple[str, ...]:
        """What it can do, by number."""
        return DECODER_OPERATIONS if self.decoder else OPERATIONS

    @property
    def column_words(self) -> int:
        """Words of the magnitudes of columns: those of keys and those of values."""
        return 2 * -(-self.max_tokens // self.lanes)

    # layouts

    @property
    def address_bits(self) -> int:
        """The width of an address."""
        return (self.words - 1).bit_length()

    @property
    def word(self) -> ArrayLayout:
        """A word of the memory."""
        return ArrayLayout(signed(ELEMENT_BITS), self.lanes)

    @property
    def weights(self) -> ArrayLayout:
        """A beat of weights."""
        return ArrayLayout(signed(NARROW_BITS), self.lanes)

    @property
    def channels(self) -> ArrayLayout:
        """A beat of constants: bias, m and k of each column."""
        fields = {
            "bias": signed(TOTAL_BITS),
            "multiplier": unsigned(MULTIPLIER_BITS),
            "shift": unsigned(MAX_SHIFT.bit_length()),
        }
        return ArrayLayout(StructLayout(fields), self.lanes)

    @cached_property
    def walk(self) -> StructLayout:
        """A walk: `base`, then count and stride of each level, the innermost first."""
        fields: dict[str, Any] = {"base": unsigned(self.address_bits)}
        for level in range(3):
            fields |= {f"count_{level}": unsigned(COUNT_BITS), f"stride_{level}": unsigned(self.address_bits)}
        return StructLayout(fields)

    @property
    def data_bits(self) -> int:
        """The widest word of a table."""
        units = self.softmax_unit.exp, self.softmax_unit.div.pwl, self.norm_unit.rsqrt.pwl, self.map_unit
        return max(32, *(unit.data_bits for unit in units))

    @cached_property
    def instruction(self) -> StructLayout:
        """An instruction; what an operation does not need is 0."""
        decoder = {"wide": unsigned(1), "columns": unsigned(1), "causal": unsigned(1)} if self.decoder else {}
        return StructLayout(
            {
                "operation": unsigned(4),
                "a": self.walk,
                "b": self.walk,
                "o": self.walk,
                "source": unsigned(2),
                "scaled": unsigned(1),
                "narrow": unsigned(1),
                "length": unsigned(COUNT_BITS),
                "valid": unsigned(COUNT_BITS),
                "first": unsigned(COUNT_BITS),
                "multiplier_a": unsigned(MULTIPLIER_BITS),
                "multiplier_b": unsigned(MULTIPLIER_BITS),
                "shift": unsigned(MAX_SHIFT.bit_length()),
                "intercept_shift": unsigned(NORM_MAX_SHIFT.bit_length()),
                "epsilon": unsigned(self.norm.epsilon.bit_length()),
                "mask": unsigned(self.lanes),
                "table": unsigned(2),
                "select": unsigned(3),
                "address": unsigned(COUNT_BITS),
                "data": unsigned(self.data_bits),
                **decoder,
            }
        )


RESULT_STEPS = 8  # behind the array: split, magnitude, bias, four of the requantiser, narrow


def widest_norm(norms: "list[Norm]") -> Norm:
    """The geometry that holds every one of the norms: the longest row and the largest epsilon."""
    longest, epsilon = max(norm.length for norm in norms), max(norm.epsilon for norm in norms)
    zeros = (0,) * longest
    bits = spread_bits_for(longest, epsilon)
    return replace(
        norms[0], gain=zeros, bias=zeros, epsilon=epsilon, shift=0, rsqrt=replace(norms[0].rsqrt, input_bits=bits)
    )
