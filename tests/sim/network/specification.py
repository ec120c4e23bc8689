"""Every operator of a network against `sim.reference`, on the activations that reach it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.network.graph import Network
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax, split_heads
from sim.network.operators.causal import TokenContext, TokenScores
from sim.network.operators.depthwise import Depthwise
from sim.network.operators.hadamard import Hadamard
from sim.network.operators.linear import Linear
from sim.network.operators.linear_attention import LinearAttention
from sim.network.operators.norm import Norm
from sim.network.operators.position_bias import PositionBias
from sim.network.operators.product import Product
from sim.network.operators.requantise import Requantise
from sim.network.operators.residual import Add
from sim.network.operators.rope import Rope
from sim.network.operators.upsample import Upsample
from sim.network.recorded_vectors import record
from sim.reference.arithmetic import saturate
from sim.reference.attention import token_context, token_scores, token_weights
from sim.reference.requant import requantise
from sim.reference.residual import add_scaled
from sim.reference.rope import Rope as RopeSpecification
from sim.reference.token import TokenLinear, quantise_tokens
from sim.reference.upsample import upsample


def require_specified(network: Network, batch: Mapping[str, Tensor]) -> set[str]:
    """Compare every operator that has a specification; the kinds that have none are returned.

    Those only move codes, or look them up.
    """
    seen, others = record(network, [batch]), set()
    for operator in network.operators():
        [(arguments, result)] = seen[operator.name]
        expect = SPECIFIED.get(type(operator))
        if expect is None:
            others.add(operator.kind)
            continue
        expected = expect(operator, *(_array(value) for value in arguments))
        for got, want in zip(*(x if isinstance(x, tuple) else (x,) for x in (result, expected)), strict=True):
            assert np.array_equal(got.numpy(), want), operator.name
    return others


def _array(value: Any) -> Any:
    return value.numpy().astype(bool if value.dtype == torch.bool else np.int64) if isinstance(value, Tensor) else value


def _linear(operator: Linear, x: np.ndarray) -> tuple[np.ndarray, ...]:
    source, results, axes = operator.source, [], x.shape[:-1]
    assert source is not None
    x = x.reshape(-1, x.shape[-1])
    for packed in operator.packed_layers:
        spec = packed.specification
        if isinstance(spec, TokenLinear):
            results.append(spec.output(*quantise_tokens(x, source.bits)))
        elif source.kind == "static":
            results.append(spec.output(requantise(x, source.multiplier, source.shift, out_bits=source.bits)))
        else:
            results.append(spec.output(x))
    return tuple(found.reshape(*axes, -1) for found in results)


def _activation(operator: Activation, x: np.ndarray) -> np.ndarray:
    if operator.scales is None:
        return x.clip(min=0)
    columns = [operator.tables[s].output(x[..., c]) for c, s in enumerate(operator.scales.tolist())]
    return np.stack(columns, -1)


def _heads(operator: Scores | Context | LinearAttention, x: np.ndarray) -> np.ndarray:
    return split_heads(torch.from_numpy(x), operator.heads).numpy()


def _scores(operator: Scores, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    psum = _heads(operator, q) @ _heads(operator, k).swapaxes(-1, -2)
    m, s = (t.numpy()[:, None, None] for t in (operator.multiplier, operator.shift))
    return requantise(psum, m, s, out_bits=16)


def _context(operator: Context, p: np.ndarray, v: np.ndarray) -> np.ndarray:
    psum = (p @ _heads(operator, v)).swapaxes(1, 2)
    psum = psum.reshape(*psum.shape[:2], -1)
    return requantise(psum, operator.multiplier.numpy(), operator.shift.numpy(), out_bits=operator.outputs[0].bits)


def _add(operator: Add, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.broadcast_arrays(a, b)
    return add_scaled(a, b, operator.multipliers, operator.shift)


def _linear_attention(operator: LinearAttention, *qkv: np.ndarray) -> np.ndarray:
    heads = [_heads(operator, x).swapaxes(0, 1) for x in qkv]
    specs = operator.specifications(operator.outputs[0].bits)
    results = [spec.output(q, k, v) for spec, q, k, v in zip(specs, *heads, strict=True)]
    return np.concatenate(results, -1)


def _by_token(x: np.ndarray, count: int, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes and magnitudes of `count` heads, each repeated for those of `heads` that share it."""
    parts = quantise_tokens(split_heads(torch.from_numpy(x), count).numpy())
    return parts[0].repeat(heads // count, axis=1), parts[1].repeat(heads // count, axis=1)


def _token_scores(operator: TokenScores, q: np.ndarray, k: np.ndarray, cache: None) -> np.ndarray:
    heads = operator.heads
    return token_scores(_by_token(q, heads, heads), _by_token(k, operator.key_heads, heads), operator.shift)


def _token_context(operator: TokenContext, p: np.ndarray, v: np.ndarray, cache: None) -> np.ndarray:
    values, magnitudes = _by_token(v, operator.key_heads, operator.heads)
    weights, bits = token_weights(p, magnitudes, operator.probability_scale), operator.outputs[0].bits
    found = token_context(weights, values, int(operator.multiplier), int(operator.shift), bits).swapaxes(1, 2)
    return found.reshape(*found.shape[:2], -1)


def _rope(operator: Rope, x: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    heads = x.reshape(*x.shape[:2], operator.heads, -1)
    return RopeSpecification().rotate(heads, cosines[..., None, :], sines[..., None, :]).reshape(x.shape)


SPECIFIED: dict[type, Callable[..., Any]] = {
    Linear: _linear,
    Activation: _activation,
    Norm: lambda operator, x: operator.specification.compute(x),
    Softmax: lambda operator, scores, valid=None: operator.specification.compute(
        scores, None if valid is None else np.broadcast_to(valid, scores.shape)
    ),
    Add: _add,
    Scores: _scores,
    Context: _context,
    LinearAttention: _linear_attention,
    TokenScores: _token_scores,
    TokenContext: _token_context,
    Rope: _rope,
    Product: lambda operator, a, b: operator.specification.compute(a, b),
    Requantise: lambda operator, x: requantise(
        x, operator.multiplier.numpy(), operator.shift.numpy(), out_bits=operator.outputs[0].bits
    ),
    PositionBias: lambda operator, x: saturate(
        x + operator.codes.numpy()[:, operator._distances(torch.from_numpy(x)).numpy()], 16, True
    ),
    Hadamard: lambda operator, x: operator.specification.transform(x),
    Depthwise: lambda operator, x: operator.specification.output(x),
    Upsample: lambda operator, x, like: upsample(x, like.shape[1], like.shape[2]),
}
