"""The array's parameters and every width that follows from them; the accumulator's bound is proved here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

from rtl.blocks import pipeline
from rtl.pwl import PwlConfig
from rtl.requant import RequantConfig
from sim.common.errors import require_range
from sim.reference import InputError
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range
from sim.reference.array_cycles import Schedule
from sim.reference.gemm import (
    ACTIVATION_BITS,
    GROUP_MULTIPLIER_BITS,
    WEIGHT_BITS,
    Range,
    accumulator_range,
    signed_bits,
    times,
    weight_range,
)

PASSES = (8, 16)  # widths of activations that can take two passes


@dataclass(frozen=True)
class ArrayConfig:
    """The parameters of an array, validated on construction.

    Parameters
    ----------
    rows, columns : int
        Inputs R and output channels C that are processed at once.
    weight_bits, weight_signed : int, bool
        2, 3, 4 or 8 bits; unsigned weights have a zero point per group.
    activation_bits : int
        4 or 8, or 16 in two passes; activations are signed codes.
    two_pass : bool
        An activation a = 2**h * a_hi + a_lo, h half its bits, a_hi signed and a_lo unsigned, takes two passes, and the
        multipliers take h + 1 bits. A job whose activations fit h bits may use one pass.
    group : int or None
        The group size; None per channel.
    group_multiplier_bits : int
        Width of m_g; 0 if every m_g is 1.
    max_inputs : int
        The most inputs K of a job; accumulators hold any such sum and the bias.
    bias_bits : int or None
        Width of the bias; None for one bit less than the sum needs.
    acc_bits : int or None
        Width of an accumulator; None for the least that is needed. Fewer bits are refused.
    depth : int
        Accumulators of a column, which is the number of tokens in a block.
    count_bits, address_bits : int
        Widths of a job's dimensions, and of an address of operands in memories (`rtl.array.fetch`).
    out_bits, out_signed : int, bool
        The code from the requantiser (`rtl.requant`).
    pwl : PwlConfig or None
        A piecewise-linear unit behind the requantiser.
    stages : int
        Depth of the pipeline from the accumulator to the output.

    Raises
    ------
    InputError
        If a field is out of its range or does not fit the others; the line names it.
    """

    rows: int = 16
    columns: int = 16
    weight_bits: int = 4
    weight_signed: bool = True
    activation_bits: int = 8
    two_pass: bool = False
    group: int | None = None
    group_multiplier_bits: int = 8
    max_inputs: int = 4096
    bias_bits: int | None = None
    acc_bits: int | None = None
    depth: int = 128
    count_bits: int = 16
    address_bits: int = 24
    out_bits: int = 8
    out_signed: bool = True
    pwl: PwlConfig | None = None
    stages: int = 3

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rows", 1, 1024),
            ("columns", 1, 1024),
            ("group_multiplier_bits", 0, GROUP_MULTIPLIER_BITS),
            ("max_inputs", 1, 1 << 24),
            ("depth", 1, 1 << 16),
            ("count_bits", 1, 24),
            ("address_bits", 1, 48),
        ):
            require_range(name, getattr(self, name), low, high)
        if self.weight_bits not in WEIGHT_BITS:
            raise InputError(f"weight_bits must be one of 2, 3, 4, 8, not {self.weight_bits}")
        if self.two_pass and self.activation_bits not in PASSES:
            raise InputError(f"activation_bits must be 8 or 16 for two passes, not {self.activation_bits}")
        if not self.two_pass and self.activation_bits not in ACTIVATION_BITS:
            raise InputError(f"activation_bits must be 4 or 8, not {self.activation_bits}")
        if self.group is not None:
            require_range("group", self.group, 1, 1 << 16)
        require_range("bias_bits", self.bias_width, 2, INT64_SAFE_BITS)
        worst = max(self.accumulator_range, key=abs)
        reach = f"{self.needed_bits}, since {self.max_inputs} inputs and the bias can reach {worst}"
        if self.needed_bits > INT64_SAFE_BITS:
            raise InputError(f"acc_bits must be at most {INT64_SAFE_BITS}, but would be {reach}")
        widths = range(self.needed_bits, INT64_SAFE_BITS + 1)
        if self.acc_bits is not None and self.acc_bits not in widths:
            raise InputError(f"acc_bits must be at least {reach}, and at most {INT64_SAFE_BITS}, not {self.acc_bits!r}")
        _ = self.requant  # checks the widths of the output
        pipeline.check_stages(self.stages, 5 + (0 if self.pwl is None else self.pwl.deepest))
        if self.pwl is not None and (self.pwl.in_bits, self.pwl.in_signed) != (self.out_bits, self.out_signed):
            raise InputError(f"in_bits and sign of pwl must be those of the requantiser's code, not {self.pwl.in_bits}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {**asdict(self), "pwl": None if self.pwl is None else self.pwl.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "ArrayConfig":
        """The configuration from `to_dict`'s object; `load` is the table that the unit at the end has wired in."""
        pwl = content["pwl"]
        return cls(**{**content, "pwl": None if pwl is None else PwlConfig.from_dict(pwl, load)})

    @property
    def requant(self) -> RequantConfig:
        """The requantiser of a column; its `stages` is unused, because its steps are cut together with the others."""
        return RequantConfig(in_bits=self.accumulator_bits, out_bits=self.out_bits, out_signed=self.out_signed)

    # ranges of values, from the operands on

    @property
    def pass_bits(self) -> int:
        """Bits of an activation's low part where it takes two passes."""
        return self.activation_bits // 2

    @property
    def operand_range(self) -> Range:
        """The range of a multiplier's operand: the activation, or its signed high or unsigned low part."""
        low, high = code_range(self.activation_bits, True)
        return (low >> self.pass_bits, (1 << self.pass_bits) - 1) if self.two_pass else (low, high)

    def sum_range(self, rows: int) -> Range:
        """The range of the sum from a processing element in row `rows` - 1, in one pass, without zero points."""
        low, high = times(code_range(self.weight_bits, self.weight_signed), self.operand_range)
        return rows * min(low, 0), rows * max(high, 0)

    @property
    def accumulator_range(self) -> Range:
        """The smallest and the largest accumulator of a job of `max_inputs` inputs."""
        low, high = self._inputs_range
        bias_low, bias_high = code_range(self.bias_width, True)
        return low + bias_low, high + bias_high

    @property
    def _inputs_range(self) -> Range:
        widths = (self.weight_bits, self.weight_signed, self.activation_bits, self.group_multiplier_bits)
        return accumulator_range(self.max_inputs, *widths)

    @property
    def bias_width(self) -> int:
        """The width of the bias: `bias_bits`, or one bit less than the sum of the inputs needs."""
        return max(signed_bits(self._inputs_range) - 1, 4) if self.bias_bits is None else self.bias_bits

    @property
    def needed_bits(self) -> int:
        """The narrowest accumulator that no job of `max_inputs` inputs can overflow."""
        return max(signed_bits(self.accumulator_range), 4)

    @property
    def accumulator_bits(self) -> int:
        """The width of an accumulator: `acc_bits`, or the narrowest that is proved."""
        return self.needed_bits if self.acc_bits is None else self.acc_bits

    # shapes

    @property
    def weight_shape(self) -> Shape:
        return Shape(self.weight_bits, self.weight_signed)

    @property
    def activation_shape(self) -> Shape:
        return signed(self.activation_bits)

    @property
    def operand_shape(self) -> Shape:
        return signed(signed_bits(self.operand_range))

    def sum_shape(self, rows: int) -> Shape:
        """The register for `sum_range(rows)`."""
        return signed(signed_bits(self.sum_range(rows)))

    def activation_sum_shape(self, rows: int) -> Shape:
        """The register for the sum of `rows` operands."""
        low, high = self.operand_range
        return signed(signed_bits((rows * low, rows * high)))

    @property
    def joined_shapes(self) -> tuple[Shape, Shape]:
        """(a column's sum, the sum of the activations) over the rows, all passes joined."""
        activations = code_range(self.activation_bits, True)
        shapes = []
        for weights in (code_range(self.weight_bits, self.weight_signed), (1, 1)):
            low, high = times(weights, activations)
            shapes.append(signed(signed_bits((self.rows * min(low, 0), self.rows * max(high, 0)))))
        return shapes[0], shapes[1]

    @property
    def corrected_shape(self) -> Shape:
        """A column's sum less zero point times the sum of the activations."""
        low, high = times(weight_range(self.weight_bits, self.weight_signed), code_range(self.activation_bits, True))
        return signed(signed_bits((self.rows * min(low, 0), self.rows * max(high, 0))))

    @property
    def job_layout(self) -> StructLayout:
        """A job: tokens M, the numbers of tiles along K and N, each at least 1, and the passes."""
        count = unsigned(self.count_bits)
        fields = {"tokens": count, "input_tiles": count, "output_tiles": count}
        return StructLayout(fields | ({"two_pass": unsigned(1)} if self.two_pass else {}))

    @property
    def has_group_parameters(self) -> bool:
        """Whether the stream `g` exists."""
        return bool(self.group_multiplier_bits) or not self.weight_signed

    @property
    def group_layout(self) -> ArrayLayout:
        """A beat of `g`: m_g and z_g of each column, if the array has them."""
        fields = {"multiplier": unsigned(self.group_multiplier_bits)} if self.group_multiplier_bits else {}
        fields |= {} if self.weight_signed else {"zero_point": unsigned(self.weight_bits)}
        return ArrayLayout(StructLayout(fields), self.columns)

    @property
    def channel_layout(self) -> ArrayLayout:
        """A beat of `c`: for each column the bias, m_c and k_c."""
        requant = self.requant.in_layout
        fields = {
            "bias": signed(self.bias_width),
            "multiplier": requant["multiplier"].shape,
            "shift": requant["shift"].shape,
        }
        return ArrayLayout(StructLayout(fields), self.columns)

    @property
    def operand_layouts(self) -> dict[str, ArrayLayout]:
        """A beat of each operand's stream, or a word of its memory; without "g" if that would be empty."""
        layouts = {
            "w": ArrayLayout(self.weight_shape, self.columns),
            "a": ArrayLayout(self.activation_shape, self.rows),
            "g": self.group_layout,
            "c": self.channel_layout,
        }
        return {name: layout for name, layout in layouts.items() if layout.size}

    @property
    def result_layout(self) -> ArrayLayout:
        """The input of the requantisers: (A, m_c, k_c) of each column."""
        return ArrayLayout(self.requant.in_layout, self.columns)

    @property
    def out_layout(self) -> ArrayLayout:
        """A beat of `o`: a code for each column."""
        return ArrayLayout(self.requant.out_shape if self.pwl is None else self.pwl.out_shape, self.columns)

    # time

    @property
    def passes(self) -> int:
        """The passes of a job by default."""
        return 2 if self.two_pass else 1

    @property
    def accumulate_latency(self) -> int:
        """Cycles from taking a beat to its accumulation."""
        return self.rows + self.columns + self.two_pass + (not self.weight_signed) + bool(self.group_multiplier_bits)

    @property
    def latency(self) -> int:
        """Cycles from a beat of the last tile to its result."""
        return self.accumulate_latency + self.stages

    @property
    def schedule(self) -> Schedule:
        """The array's clock cycles in closed form."""
        return Schedule(self.rows, self.columns, self.depth, self.group, self.latency)

    @property
    def tiles_per_group(self) -> int | None:
        """Tiles along K in a whole group; None per channel."""
        return None if self.group is None else -(-self.group // self.rows)
