"""Estimate of the logic below a column of the array, which turns a tile's sums into accumulators (`rtl.array.columns`).

It is composed of components that were calibrated in other units (`cost_model.analytical.components`); it was not
calibrated itself. Compared with three synthesised columns its area is 3 to 14 % too small; its energy has not been
compared. The memory of accumulators is not included.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cost_model.analytical.components import Adder, Component, PipelineRegisters, RowProduct, Selection, WeightRegisters
from cost_model.analytical.estimate import Estimate, coefficients, price
from rtl.array.config import ArrayConfig
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS

CHANNEL_BITS = MULTIPLIER_BITS + MAX_SHIFT.bit_length()  # of m_c and k_c


@lru_cache(maxsize=1024)
def array_column(config: ArrayConfig, library: str) -> Estimate:
    """The cost below one column of an array. An action is all steps for one tile's sum of one token, at the activity of
    a processing element's work.
    """
    fitted = coefficients()["libraries"][library]
    return Estimate({name: price(component, fitted, "element") for name, component in components(config).items()})


def components(config: ArrayConfig) -> Mapping[str, Component]:
    """The components by step: join the passes, subtract zero points, scale by the group's multiplier, accumulate.

    A column holds its channel's bias, multiplier and shift, and its group's zero point and multiplier (twice if the
    array has both).
    """
    column, activations = (shape.width for shape in config.joined_shapes)
    corrected, total = config.corrected_shape.width, config.accumulator_bits
    zero_points, multipliers = not config.weight_signed, config.group_multiplier_bits
    held = (multipliers + (config.weight_bits if zero_points else 0)) * (2 if zero_points and multipliers else 1)
    parts: dict[str, Component] = {}
    steps: Any = 0
    if config.two_pass:
        parts["join"] = Adder(column)
        steps += 2 * column
    if zero_points:
        parts["zero point"] = RowProduct(activations, config.weight_bits, corrected, column, signed=0)
        steps += corrected
    if multipliers:
        width = corrected if zero_points else column
        parts["group multiplier"] = RowProduct(width, multipliers, width + multipliers, signed=0)
        steps += width + multipliers
    parts["accumulation"] = Adder(total)
    parts["bias or sum"] = Selection(2, total)
    parts["registers"] = PipelineRegisters(steps)
    parts["held"] = WeightRegisters(held + config.bias_width + CHANNEL_BITS)
    return parts
