"""A small Llama in integers as a program of the engine, and faults in it."""

from dataclasses import replace
from typing import Any

from ga_search import fit_table
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.program import program_of, results_of
from sim.network.program_builder import Program
from sim.network.program_engine import engine_for
from sim.reference import engine as hardware
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import TABLES, plan

LENGTH = 11


def decoder(kind: str = "LlamaForCausalLM", calibration: int = 20, **settings: Any) -> Network:
    """A network of two layers of width 32 with four heads, of which two share a key."""
    tables = TABLES | {name: fit_table(name, method="uniform") for name in ("silu", "gelu-tanh")}
    return convert(language_model(kind), plan(tables, **settings), [{"input_ids": prompts(length=calibration)}])


def decoder_program(
    network: Network, tokens: int = LENGTH, lanes: int = 4, row_units: int = 3, seed: int = 0, **options: Any
) -> tuple[Program, dict[str, Any]]:
    """The program for random tokens, and the codes that the network gives for them."""
    expected = results_of(network, {"input_ids": prompts(1, tokens, seed)})
    config = engine_for(network, LENGTH, lanes, row_units)
    return program_of(network, config, tokens, **options).with_inputs(expected), expected


def _moved(walk: hardware.Walk, distance: int) -> hardware.Walk:
    return replace(walk, base=walk.base + distance)


def _turned(walk: hardware.Walk) -> hardware.Walk:
    """The walk with the cosines of the next position."""
    return replace(walk, strides=(walk.strides[0] + 1, *walk.strides[1:]))


HEAD_WORDS = 2 * LENGTH  # of 8 channels
FAULTS: dict[str, tuple[str, type, dict[str, Any]]] = {
    "a wrong position": ("layers.0.q_rope", hardware.Rotate, {"a": lambda i: _turned(i.a)}),
    "a mask off by one": ("layers.1.softmax", hardware.Probabilities, {"first": lambda i: i.first + 1}),
    "a swapped key head": ("layers.1.scores", hardware.Multiply, {"weights": lambda i: _moved(i.weights, HEAD_WORDS)}),
    "stale magnitudes of keys": ("layers.0.scores", hardware.Multiply, {"columns": lambda i: 12}),
    "weights without their high halves": ("layers.0.context", hardware.Multiply, {"wide": lambda i: False}),
    "weights of another tile": ("layers.0.context", hardware.Weigh, {"first": lambda i: i.first + 4}),
    "a dropped product": (
        "layers.1.product", hardware.ElementProduct, {"product": lambda i: replace(i.product, multiplier=0)},
    ),
}  # fmt: skip
