"""The last steps of a unit: an exact sum, shifted right, rounded half up and saturated to a code."""

from collections.abc import Mapping

from amaranth.hdl import Module, Shape, Value

from rtl.blocks.arithmetic import round_and_saturate, shift_right
from rtl.blocks.pipeline import Fields, Step, adder_levels, shift_levels


def rounding_steps(source: str, shift: Value, max_shift: int, shape: Shape, result: str = "code") -> list[Step]:
    """Two steps from the signed field `source` to the field `result`, saturate(round_half_up(source * 2**-shift))."""

    def scale(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"scaled": shift_right(f[source], shift)}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        return {result: round_and_saturate(m, f["scaled"], shape)}

    return [
        Step("scale", (source,), shift_levels(max_shift + 1), scale),
        Step("limit", ("scaled",), adder_levels(shape.width) + 1, limit),
    ]
