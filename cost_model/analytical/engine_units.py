"""Estimates of the engine's parts that are not measured: sums, tokens' scales, magnitudes, transposer, sequencer.

They are composed of components that were calibrated in other units (`cost_model.analytical.components`), at the
activity of a requantiser's work. They were neither calibrated themselves nor compared with synthesised ones;
`butterflies` and `array_column`, which are composed in this way too, have areas that are 3 to 20 % too small. Memories
are not included.
"""

from collections.abc import Mapping

from cost_model.analytical.components import (
    Adder,
    Component,
    PipelineRegisters,
    Rounding,
    RowProduct,
    Selection,
    Shifter,
    WeightRegisters,
)
from cost_model.analytical.estimate import Estimate, coefficients, price
from rtl.layer.config import COUNT_BITS, EngineConfig
from rtl.product import ProductConfig
from rtl.residual import ResidualConfig
from rtl.rope import RopeConfig
from rtl.rowwise.token import TokenConfig
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, TOTAL_BITS
from sim.reference.requant import MULTIPLIER_BITS
from sim.reference.residual import STREAM_BITS
from sim.reference.rope import TABLE_BITS
from sim.reference.token import IN_BITS, RATIO_BITS

LEVELS, WALKS = 3, 3  # of a walk; walks of an instruction


def residual_adder(config: ResidualConfig, library: str) -> Estimate:
    """The sum of two products with a shift and a rounding (`rtl.residual`). An action is one element."""
    total = STREAM_BITS + MULTIPLIER_BITS + 1
    product = RowProduct(STREAM_BITS, MULTIPLIER_BITS, total)
    parts = {
        "product a": product,
        "product b": product,
        "sum": Adder(total),
        "shifter": Shifter(total + 1, config.max_shift + 1),
        "rounding": Rounding(total, STREAM_BITS),
        "pipeline registers": PipelineRegisters((config.stages - 1) * (total + 2) + STREAM_BITS + 1),
    }
    return _priced(parts, library)


def rotator(config: RopeConfig, library: str) -> Estimate:
    """The rotation of a pair (`rtl.rope`) by an angle's cosine and sine at a fixed shift. An action is a pair."""
    total = config.in_bits + TABLE_BITS
    product, added, rounding = (
        RowProduct(config.in_bits, TABLE_BITS, total),
        Adder(total),
        Rounding(total, ELEMENT_BITS),
    )
    names = ("first along", "first across", "second along", "second across")
    parts: dict[str, Component] = dict.fromkeys((f"product, {name}" for name in names), product)
    parts |= dict.fromkeys(("first sum", "second sum"), added)
    parts |= dict.fromkeys(("first rounding", "second rounding"), rounding)
    parts["pipeline registers"] = PipelineRegisters(2 * (config.stages - 1) * (total + 1) + 2 * config.out_bits + 1)
    return _priced(parts, library)


def element_product(config: ProductConfig, library: str) -> Estimate:
    """The product of two codes, times a multiplier, shifted and rounded (`rtl.product`). An action is an element."""
    both = config.a_bits + config.b_bits
    total = both + MULTIPLIER_BITS
    parts = {
        "product": RowProduct(config.a_bits, config.b_bits, both),
        "multiplier": RowProduct(both, MULTIPLIER_BITS, total),
        "shifter": Shifter(total + 1, config.max_shift + 1),
        "rounding": Rounding(total, config.out_bits),
        "pipeline registers": PipelineRegisters((config.stages - 1) * (total + 2) + config.out_bits + 1),
    }
    return _priced(parts, library)


def token_quantiser(config: TokenConfig, library: str) -> Estimate:
    """Magnitude, divider and product (`rtl.rowwise.token`), without the ring of elements. An action is one element.

    The divider works once for each row: its registers are counted as such that seldom change.
    """
    bits, product = config.ratio_bits, config.out_bits + RATIO_BITS
    row = bits + IN_BITS  # what a finished row leaves in the queue: its ratio and its magnitude
    parts: dict[str, Component] = {
        "magnitude": Adder(2 * IN_BITS),
        "largest": Selection(2, 2 * IN_BITS),
        "row registers": PipelineRegisters(2 * IN_BITS),
        "divider": Adder(bits * (IN_BITS + 1)),
        "remainders": Selection(2, bits * IN_BITS),
        "divider registers": WeightRegisters(config.divider_stages * (row + IN_BITS)),
        "queue": WeightRegisters(config.rows * row),
        "way out of the queue": Selection(config.rows, row),
        "product": RowProduct(IN_BITS, bits, product),
        "rounding": Rounding(product, config.out_bits),
        "pipeline registers": PipelineRegisters(
            (config.stages - 1) * (product + IN_BITS + 2) + config.out_bits + IN_BITS
        ),
    }
    return _priced(parts, library)


def magnitude_column(sums: int, library: str) -> Estimate:
    """A sum of so many bits times its token's magnitude, plus the bias, in one column (`rtl.layer.results`).

    An action is a result.
    """
    parts = {
        "product": RowProduct(sums, IN_BITS, sums + IN_BITS),
        "bias": Adder(TOTAL_BITS),
        "pipeline registers": PipelineRegisters(sums + IN_BITS + TOTAL_BITS + 2),
    }
    return _priced(parts, library)


def transposer(config: EngineConfig, library: str) -> Estimate:
    """The square of registers that turns a tile (`rtl.layer.transposer`). An action is a word that goes through."""
    bits = config.lanes**2 * NARROW_BITS
    return _priced({"square": PipelineRegisters(bits), "directions": Selection(2, bits)}, library)


def row_words(config: EngineConfig, library: str) -> Estimate:
    """The two words around one set of units for rows (`rtl.layer.rows`). An action is an element."""
    bits = config.lanes * ELEMENT_BITS
    return _priced({"words": PipelineRegisters(2 * bits), "lanes": Selection(2, 2 * bits)}, library)


def sequencer(config: EngineConfig, library: str) -> Estimate:
    """The instruction and the walks of its addresses (`rtl.layer.engine`, `memory_access`). An action is a cycle."""
    state = WALKS * LEVELS * (config.address_bits + COUNT_BITS)
    parts = {
        "instruction": WeightRegisters(config.instruction.size),
        "walks": PipelineRegisters(state),
        "sums": Adder(state),
    }
    return _priced(parts, library)


def _priced(parts: Mapping[str, Component], library: str) -> Estimate:
    fitted = coefficients()["libraries"][library]
    return Estimate({name: price(part, fitted, "requant") for name, part in parts.items()})
