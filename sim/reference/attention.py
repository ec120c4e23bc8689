"""Attention over cached keys and values, each token's with a scale of its own: scores and context, around the softmax.

Queries, keys and values are 16-bit codes that `sim.reference.token.quantise_tokens` turns into 8-bit codes and a
magnitude for each token and head. No key or value depends on another token, so that a cache of them never changes:

    score(t, s)   = saturate16(round_half_up(sum_c q(t, c) k(s, c) * magnitude_q(t) * magnitude_k(s) * 2**-shift))
    weight(t, s)  = saturate16(round_half_up(probability(t, s) * magnitude_v(s) * 2**-probability_scale))
    context(t, c) = saturate(round_half_up(sum_s weight(t, s) v(s, c) * m * 2**-k))

A value's magnitude cannot leave the sum over the tokens, so it multiplies the probability. All sums are exact.
"""

import numpy as np

from sim.common.errors import require_range
from sim.reference.arithmetic import round_half_up, saturate
from sim.reference.requant import requantise

SCORE_BITS = 16
WEIGHT_BITS = 16
MAX_HEAD_WIDTH = 512  # then a score before its rounding has at most 54 bits
MAX_SCORE_SHIFT = 54

Codes = tuple[np.ndarray, np.ndarray]  # codes (..., tokens, channels) and magnitudes (..., tokens, 1)


def token_scores(query: Codes, key: Codes, shift: int) -> np.ndarray:
    """Scores (..., T, S), int64, of queries of T tokens and keys of S tokens; `shift` in 0..54."""
    require_range("shift", shift, 0, MAX_SCORE_SHIFT)
    (q, q_magnitude), (k, k_magnitude) = query, key
    require_range("channels", q.shape[-1], 1, MAX_HEAD_WIDTH)
    total = q @ np.swapaxes(k, -1, -2) * q_magnitude * np.swapaxes(k_magnitude, -1, -2)
    return saturate(round_half_up(total, shift), SCORE_BITS, True)


def token_weights(probability: np.ndarray, magnitude: np.ndarray, probability_scale: int) -> np.ndarray:
    """Weights (..., T, S), int64: probabilities (..., T, S) at 2**-probability_scale by magnitudes (..., S, 1)."""
    product = probability * np.swapaxes(magnitude, -1, -2)
    return saturate(round_half_up(product, probability_scale), WEIGHT_BITS, True)


def token_context(weights: np.ndarray, values: np.ndarray, multiplier: int, shift: int, out_bits: int) -> np.ndarray:
    """The context (..., T, C), int64, of weights (..., T, S) and values' codes (..., S, C)."""
    return requantise(weights @ values, multiplier, shift, out_bits=out_bits)
