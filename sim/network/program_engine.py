"""The engine that a converted network needs."""

from dataclasses import replace

from rtl.layer.config import EngineConfig, widest_norm
from sim.network.graph import Network
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Softmax
from sim.network.operators.causal import TokenScores
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.recording import require_fitted
from sim.network.program import program_of
from sim.reference import InputError

MOST_WORDS = 1 << 20


def engine_for(
    network: Network, tokens: int, lanes: int = 16, row_units: int = 4, layers: tuple[int, int] | None = None
) -> EngineConfig:
    """The smallest engine that runs a network, or some of its layers, on `tokens` tokens.

    Raises InputError for a network without softmax or norms, without fitted tables, or with an operator that no unit
    computes.
    """
    softmaxes = [operator for operator in network.operators() if isinstance(operator, Softmax)]
    norms = [operator for operator in network.operators() if isinstance(operator, Norm)]
    if not softmaxes or not norms:
        raise InputError("the engine runs transformers: the network must have softmax and norms")
    for operator in softmaxes:
        assert operator.specification is not None
        require_fitted(operator.name, operator.specification.exp)
    for operator in norms:
        assert operator.specification is not None
        require_fitted(operator.name, operator.specification.rsqrt.lowered)
    tables = [
        t for operator in network.operators() if isinstance(operator, Activation) for t in operator.tables.values()
    ]
    linears = [
        layer for operator in network.operators() if isinstance(operator, Linear) for layer in operator.packed_layers
    ]
    config = EngineConfig(
        softmaxes[0].specification,  # pyright: ignore[reportArgumentType]
        widest_norm([operator.specification for operator in norms]),  # pyright: ignore[reportArgumentType]
        lanes=lanes,
        words=MOST_WORDS,
        row_units=row_units,
        max_tokens=max(tokens, 2),
        max_inputs=max(tokens, *(layer.codes.shape[1] for layer in linears)),
        decoder=any(isinstance(operator, TokenScores) for operator in network.operators()),
        entries=max((len(table.slopes) for table in tables), default=8),
    )
    needed = program_of(network, config, tokens, layers=layers).words
    return replace(config, words=max(1 << (needed - 1).bit_length(), 64))
