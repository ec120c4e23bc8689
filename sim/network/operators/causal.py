"""Causal attention: positions and masks that count cached tokens, scores and context with a scale for each token.

Keys and values are quantised token by token, so that a cache of their codes never changes as a sequence grows: a run
token by token gives the codes of a run over the whole sequence.
"""

import math
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from quant.primitives.scales import Scale
from sim.common.errors import require_range
from sim.network.operators import kernels
from sim.network.operators.arithmetic import code_type, round_half_up_, saturate_
from sim.network.operators.attention import split_heads
from sim.network.operators.base import Grid, Operator, Shape, Site, Step
from sim.network.operators.exact_gemm import batched
from sim.network.operators.kernels import Requantiser
from sim.network.operators.linear import quantise_tokens
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.attention import MAX_HEAD_WIDTH, MAX_SCORE_SHIFT, SCORE_BITS, WEIGHT_BITS
from sim.reference.residual import STREAM_BITS

CACHE = "cache"  # the argument of a network that is a cache
CODE_BITS = 8  # of queries, keys and values
TOP = code_range(CODE_BITS, True)[1]  # the code of a token's largest value


class KeyValueCache:
    """The keys and values of earlier tokens: for each site int8 codes (B, H, S, d) and magnitudes (B, H, S, 1).

    It is given to a network as the argument `cache`, which extends it by the tokens of the call.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}
        self._network: weakref.ref[nn.Module] | None = None  # that filled it

    @property
    def length(self) -> int:
        """The tokens that it holds."""
        return next((codes.shape[2] for codes, _ in self._kept.values()), 0)

    def copy(self) -> "KeyValueCache":
        """Another cache of the same tokens: each can go on by itself."""
        other = KeyValueCache()
        other._kept, other._network = dict(self._kept), self._network
        return other

    def extend(self, name: str, codes: Tensor, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
        """Add tokens to those of a site; returns all of them."""
        if name in self._kept:
            earlier, scales = self._kept[name]
            if earlier.shape[0] != codes.shape[0]:
                raise InputError(f"cache must be of {codes.shape[0]} sequences, not {earlier.shape[0]}")
            codes, magnitudes = torch.cat([earlier, codes], 2), torch.cat([scales, magnitudes], 2)
        self._kept[name] = codes, magnitudes
        return codes, magnitudes


@contextmanager
def extending(cache: KeyValueCache | None, network: nn.Module) -> Iterator[None]:
    """A run of `network` that extends the cache, if there is one. A run that fails leaves it as it was.

    Raises InputError unless it is a `KeyValueCache` and no other network has filled it.
    """
    if cache is None:
        yield
        return
    if not isinstance(cache, KeyValueCache):
        raise InputError(f"cache must be a KeyValueCache, not {type(cache).__name__}")
    if cache._network is not None and cache._network() is not network:
        raise InputError("cache holds the tokens of another network")
    kept = dict(cache._kept)
    try:
        yield
    except BaseException:  # an interruption from the keyboard too
        cache._kept = kept
        raise
    cache._network = weakref.ref(network)


class CachedPositions(Step):
    """Position indices (1, T) of the tokens (B, T), which follow those of a cache; or those that are given.

    Raises InputError if a position is `length` or more, or not an integer.
    """

    kind = "cached-positions"

    def __init__(self, name: str, length: int) -> None:
        super().__init__(name)
        self.length = length

    def forward(self, ids: Tensor, given: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        first = 0 if cache is None else cache.length
        if first + ids.shape[1] > self.length:
            raise InputError(
                f"input_ids must have at most {self.length} tokens with the cached, not {first + ids.shape[1]}"
            )
        if given is None:
            return torch.arange(first, first + ids.shape[1], device=ids.device)[None]
        if given.is_floating_point() or given.dtype == torch.bool:
            raise InputError(f"position_ids must be integers, not {given.dtype}")
        if given.shape[-1] != ids.shape[1] or bool((given < 0).any()) or bool((given >= self.length).any()):
            raise InputError(f"position_ids must be {ids.shape[1]} positions below {self.length} for each row")
        return given

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"length": self.length}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["length"])


class CausalMask(Step):
    """Booleans (B or 1, 1, T, S): true where token t may see key s, which is neither later nor masked.

    The mask (B, S) is not zero for keys that count, the cached ones first. With a `window`, only so many keys up to
    the token itself are seen (Mistral's sliding window).
    """

    kind = "causal-mask"

    def __init__(self, name: str, window: int | None = None) -> None:
        super().__init__(name)
        self.window = window

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((inputs[0][0], 1, inputs[0][1], inputs[0][1]),)

    def forward(self, ids: Tensor, mask: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        first = 0 if cache is None else cache.length
        keys = first + ids.shape[1]
        last = torch.arange(first, keys, device=ids.device)[:, None]
        key = torch.arange(keys, device=ids.device)
        seen = key <= last
        if self.window is not None:
            seen = seen & (key > last - self.window)
        if mask is None:
            return seen[None, None]
        if mask.ndim != 2 or mask.shape[1] != keys:
            raise InputError(f"attention_mask must have {keys} columns, the cached tokens' too, not {list(mask.shape)}")
        if mask.shape[0] not in (1, ids.shape[0]):
            raise InputError(f"attention_mask must have 1 or {ids.shape[0]} rows, not {mask.shape[0]}")
        return seen & (mask != 0)[:, None, None, :]

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"window": self.window}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["window"])


def _tokens(x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """16-bit codes (B, T, H * d) as int8 codes (B, H, T, d) and magnitudes (B, H, T, 1), int64."""
    return quantise_tokens(split_heads(x, heads).contiguous(), CODE_BITS)


def _grouped(x: Tensor, key_heads: int) -> Tensor:
    """(B, H, T, n) as (B, K, H / K * T, n): the heads that share a key are rows of one product."""
    batch, heads, tokens, n = x.shape
    return x.reshape(batch, key_heads, heads // key_heads * tokens, n)


def _apart(x: Tensor, heads: int) -> Tensor:
    """The other way round."""
    batch, key_heads, rows, n = x.shape
    return x.reshape(batch, heads, rows * key_heads // heads, n)


def _scaled(values: Tensor, rows: Tensor | None, columns: Tensor, shift: int, out_bits: int) -> Tensor:
    """saturate(round(values * rows * columns * 2**-shift)), of (..., R, N), (..., R, 1) or 1, and (..., 1, N)."""
    if kernels.usable(values):
        return kernels.scale_pairs(values, rows, columns, shift, out_bits)
    total = values.long().mul_(columns)
    if rows is not None:
        total.mul_(rows)
    return saturate_(round_half_up_(total, shift), out_bits).to(code_type(out_bits))


def _require_no_cache(name: str, cache: KeyValueCache | None) -> None:
    if cache is not None:
        raise InputError(f'{name}: a cache holds codes, which needs every operator in the mode "integer"')


class _Cached(Operator):
    """The base of both products: heads, and groups of them that share a key and a value."""

    def __init__(self, name: str, heads: int, key_heads: int) -> None:
        super().__init__(name)
        self.heads, self.key_heads = heads, key_heads

    def _repeated(self, x: Tensor) -> Tensor:
        """Keys or values (B, T, K * d) for every head, (B, H, T, d)."""
        return split_heads(x, self.key_heads).repeat_interleave(self.heads // self.key_heads, 1)


class TokenScores(_Cached):
    """`sim.reference.attention.token_scores`: q k^T * `factor`, (B, H, T, S), as 16-bit codes at a power of two.

    Queries are (B, T, H * d), keys (B, T, K * d), both 16-bit codes. The scale of the queries makes the unit of a score
    before its rounding a power of two, so that it needs no multiplier.
    """

    kind = "token-scores"

    def __init__(self, name: str, heads: int, key_heads: int, factor: float = 1.0) -> None:
        super().__init__(name, heads, key_heads)
        self.factor, self.shift = factor, 0

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (batch, queries, _), (_, keys, _) = inputs[0], inputs[1]
        return ((batch, self.heads, queries, keys),)

    def real(self, q: Tensor, k: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        _require_no_cache(self.name, cache)
        return split_heads(q, self.heads) @ self._repeated(k).transpose(-1, -2) * self.factor

    def integer(self, q: Tensor, k: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        (q, q_magnitude), (k, k_magnitude) = _tokens(q, self.heads), _tokens(k, self.key_heads)
        if cache is not None:
            k, k_magnitude = cache.extend(self.name, k, k_magnitude)
        psum = batched(_grouped(q, self.key_heads), k.transpose(-1, -2))
        q_magnitude = _grouped(q_magnitude, self.key_heads)
        codes = _scaled(psum, q_magnitude, k_magnitude.transpose(-1, -2), self.shift, SCORE_BITS)
        return _apart(codes, self.heads)

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """The ranges of queries and keys; softmax chooses the scale of the result."""
        width = arguments[0].shape[-1] // self.heads
        if width > MAX_HEAD_WIDTH:
            raise InputError(f"{self.name}: a head must have at most {MAX_HEAD_WIDTH} channels, not {width}")
        for index in (0, 1):
            site.seen.observe((site.key, "input", index), arguments[index], self.name)

    def input_grid(self, index: int, site: Site) -> Grid | None:
        query, key = (Grid.covering(STREAM_BITS, site.seen.largest((site.key, "input", k))) for k in (0, 1))
        if index == 1:
            return key
        unit = key.scale * self.factor / TOP**2
        exponent = math.floor(-math.log2(float(query.scale * unit)))  # the scale grows to the next power of two
        return Grid(STREAM_BITS, 2.0**-exponent / unit)

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(0), site.input(1), site.output().exponent)

    def quantise(self, q: Grid, k: Grid, scale: int) -> None:
        """From grids as `input_grid` gives them to codes at 2**-scale. Raises InputError if no shift gives that."""
        unit = q.scale.flatten()[0] * k.scale.flatten()[0] * self.factor / TOP**2
        self.shift = round(-math.log2(float(unit))) - scale
        if self.shift < 0:
            raise InputError(f"{self.name}: queries and keys are too large for scores at 2**-{scale}")
        if self.shift > MAX_SCORE_SHIFT:
            raise InputError(f"{self.name}: queries and keys are too small for scores at 2**-{scale}")
        self.finish((q, k), (Grid.power(SCORE_BITS, scale),))

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"heads": self.heads, "key_heads": self.key_heads, "shift": self.shift}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["heads"], row["key_heads"])
        require_range(f"{row['name']}: shift", row["shift"], 0, MAX_SCORE_SHIFT)
        operator.shift = row["shift"]
        return operator


class TokenContext(_Cached):
    """`sim.reference.attention.token_weights` and `token_context`: probabilities (B, H, T, S) times values.

    Values are 16-bit codes (B, T, K * d); the result is (B, T, H * d).
    """

    kind = "token-context"
    multiplier: Tensor
    shift: Tensor

    def __init__(self, name: str, heads: int, key_heads: int) -> None:
        super().__init__(name, heads, key_heads)
        self.probability_scale = 0

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (batch, heads, queries, _), (_, _, width) = inputs[0], inputs[1]
        return ((batch, queries, int(width) // self.key_heads * int(heads)),)

    def real(self, p: Tensor, v: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        _require_no_cache(self.name, cache)
        return (p @ self._repeated(v)).transpose(1, 2).flatten(2)

    def integer(self, p: Tensor, v: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        v, magnitude = _tokens(v, self.key_heads)
        if cache is not None:
            v, magnitude = cache.extend(self.name, v, magnitude)
        grouped = _grouped(p, self.key_heads)
        weights = _scaled(grouped, None, magnitude.transpose(-1, -2), self.probability_scale, WEIGHT_BITS)
        psum = _apart(batched(weights, v), self.heads)
        requantise = Requantiser(self.multiplier, self.shift, self.outputs[0].bits)
        return requantise(psum.transpose(1, 2).flatten(2))

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        site.seen.observe((site.key, "input", 1), arguments[1], self.name)
        super().watch(site, arguments, results)

    def input_grid(self, index: int, site: Site) -> Grid | None:
        return None if index == 0 else Grid.covering(STREAM_BITS, site.seen.largest((site.key, "input", 1)))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(0), site.input(1), site.output())

    def quantise(self, p: Grid, v: Grid, output: Grid) -> None:
        """From the grids of probabilities, a power of two, and values to the output's."""
        self.probability_scale = p.exponent
        # at probability 1 a weight is its value's magnitude, a unit of which is the value's scale over the top code
        unit = v.scale.flatten()[0] / TOP
        self._requantise_by(Scale.nearest(unit / output.scale, f"{self.name}: context"))
        self.finish((p, v), (output,))

    def _requantise_by(self, ratio: Scale) -> None:
        self.register_buffer("multiplier", torch.as_tensor(ratio.multiplier), persistent=False)
        self.register_buffer("shift", torch.as_tensor(ratio.shift), persistent=False)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        writer.tensor("multiplier", self.multiplier)
        writer.tensor("shift", self.shift)
        return {"heads": self.heads, "key_heads": self.key_heads, "probability_scale": self.probability_scale}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["heads"], row["key_heads"])
        operator.probability_scale = row["probability_scale"]
        operator._requantise_by(Scale(reader.tensor("multiplier"), reader.tensor("shift")))
        return operator
