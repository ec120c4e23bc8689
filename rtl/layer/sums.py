"""The array without its requantiser: a beat of `o` is the sums of a token's products, one for each column."""

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Value, signed
from amaranth.lib.data import ArrayLayout, View

from rtl.array.config import ArrayConfig
from rtl.array.gemm import Gemm
from rtl.blocks import pipeline
from rtl.blocks.pipeline import Fields, Step
from sim.reference.engine import NARROW_BITS
from sim.reference.gemm import Range, accumulator_range


@dataclass(frozen=True)
class SumsConfig(ArrayConfig):
    """The array's parameters; those of a requantiser are unused.

    Activations that take two passes, of 16 bits, are in jobs of at most `depth` inputs.
    """

    @property
    def _inputs_range(self) -> Range:
        width = self.weight_bits, self.weight_signed
        low, high = accumulator_range(self.max_inputs, *width, NARROW_BITS)
        if not self.two_pass:
            return low, high
        lowest, highest = accumulator_range(self.depth, *width, self.activation_bits)
        return min(low, lowest), max(high, highest)

    @property
    def out_layout(self) -> ArrayLayout:
        """A beat of `o`: a sum for each column."""
        return ArrayLayout(signed(self.accumulator_bits), self.columns)


class Sums(Gemm):
    """The array as a component, with the streams of `Gemm`; of `c` only the bias is read."""

    def _output_steps(self, m: Module) -> list[Step]:
        layout = self.config.result_layout

        def gather(m: Module, f: Mapping[str, Value]) -> Fields:
            beat = View(layout, f["payload"])
            return {"codes": Cat(beat[c].value for c in range(self.config.columns))}

        return [Step("add", ("payload",), pipeline.adder_levels(self.config.accumulator_bits), gather)]
