"""Estimate of the Hadamard unit (`rtl.hadamard`).

It is composed of components that were calibrated in other units (`cost_model.analytical.components`), at the activity
of a requantiser's work; it was not calibrated itself. Beside synthesised units with blocks of 16 and 64 its area is 17
and 20 % too small, its energy 11 and 9 %. Words that `rtl.hadamard` keeps in a memory are not included: they are
counted in bits.
"""

from collections.abc import Mapping

from cost_model.analytical.components import Adder, Component, PipelineRegisters, Rounding, Selection, Shifter
from cost_model.analytical.estimate import Estimate, coefficients, price
from rtl.hadamard import SMALL, HadamardConfig


def butterflies(config: HadamardConfig, library: str) -> Estimate:
    """The cost of the unit. An action is a cycle, in which a code comes and one goes."""
    fitted = coefficients()["libraries"][library]
    return Estimate({name: price(part, fitted, "requant") for name, part in components(config).items()})


def components(config: HadamardConfig) -> Mapping[str, Component]:
    """Each stage has an adder and a subtractor, a choice for its memory and one for its result, and its registers."""
    parts: dict[str, Component] = {}
    for k, distance in enumerate(config.distances):
        width = config.in_bits + k + 1
        counters = 3 * (distance.bit_length() - 1) + 2  # words taken, differences left, place
        parts[f"sums {distance}"] = Adder(2 * width)
        parts[f"choices {distance}"] = Selection(2, 2 * width)
        parts[f"registers {distance}"] = PipelineRegisters(width + 3 + counters)
        if distance <= SMALL:
            parts[f"queue {distance}"] = PipelineRegisters(distance * width + (width if distance > 1 else 0))
            parts[f"way out of the queue {distance}"] = Selection(distance, width)
    total = config.in_bits + config.max_shift
    parts["shifter"] = Shifter(total + 1, config.max_shift + 1)
    parts["rounding"] = Rounding(total + 1, config.out_bits)
    parts["pipeline registers"] = PipelineRegisters(config.out_bits + 2 + (config.stages - 1) * (total + 2))
    return parts


def memory_bits(config: HadamardConfig) -> int:
    """The bits of the unit's memories."""
    return sum(distance * (config.in_bits + k + 1) for k, distance in enumerate(config.distances) if distance > SMALL)
