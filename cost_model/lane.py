"""The lane below a column of the array, estimated: it turns the sums of a tile into accumulators (`rtl.array.columns`).

It is composed of components that were calibrated in other units (`cost_model.components`); no lane has been synthesised
by itself, so that its error is not known. The accumulators' memory is not in it.
"""

from collections.abc import Mapping
from typing import Any

from cost_model.analytical import Estimate, coefficients, price
from cost_model.components import Adder, Component, Multiplier, PipelineRegisters
from rtl.array.config import ArrayConfig


def lane(config: ArrayConfig, library: str) -> Estimate:
    """The lane of an array; an action is one tile's sum for one token, all its steps."""
    fitted = coefficients()["libraries"][library]
    return Estimate({name: price(component, fitted) for name, component in components(config).items()})


def components(config: ArrayConfig) -> Mapping[str, Component]:
    """By step: join the passes, subtract zero points, scale by the group's multiplier, accumulate."""
    column, activations = (shape.width for shape in config.joined_shapes)
    corrected, total = config.corrected_shape.width, config.accumulator_bits
    parts: dict[str, Component] = {}
    bits: Any = total
    if config.two_pass:
        parts["join"] = Adder(column)
        bits += 2 * column
    if not config.weight_signed:
        parts["zero point"] = Multiplier(config.weight_bits, activations)
        parts["correction"] = Adder(corrected)
        bits += corrected
    if config.group_multiplier_bits:
        width = column if config.weight_signed else corrected
        parts["group multiplier"] = Multiplier(width, config.group_multiplier_bits)
        bits += width + config.group_multiplier_bits
    parts["accumulation"] = Adder(total)
    parts["registers"] = PipelineRegisters(bits, 0)
    return parts
