"""Multi-head attention with a linear layer for each of its four matrices, as PyTorch's module computes it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ProjectedAttention(nn.Module):
    """`nn.MultiheadAttention` whose packed projections are the linear layers `query`, `key`, `value` and `out_proj`.

    `forward` has the arguments, masks and results of PyTorch's module, batch first or not, and gives the same floats
    as its path without fused kernels. The new layers share the memory of the old parameters.

    Parameters
    ----------
    attention : nn.MultiheadAttention
        The module whose weights are taken.
    """

    # nn.TransformerEncoderLayer asks for these before it reads packed weights: without a bias it does not
    in_proj_bias = None
    _qkv_same_embed_dim = True

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.dropout = attention.embed_dim, attention.num_heads, attention.dropout
        self.batch_first, self.add_zero_attn = attention.batch_first, attention.add_zero_attn
        packed = attention.in_proj_weight
        separate = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        matrices = separate if packed is None else packed.chunk(3)
        biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        self.query, self.key, self.value = map(linear_of, matrices, biases)
        self.out_proj = linear_of(attention.out_proj.weight, attention.out_proj.bias)
        self.bias_k, self.bias_v = attention.bias_k, attention.bias_v
        self.train(attention.training)

    def forward(  # noqa: PLR0913 - the arguments of nn.MultiheadAttention
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs of the queries' shape, and the attention's weights or None; see `nn.MultiheadAttention`."""
        if is_causal and attn_mask is None:
            raise RuntimeError("attn_mask must be given with is_causal")
        batched, first = query.dim() == 3, self.batch_first
        q, k, v = (
            self._heads(layer(x))
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )  # fmt: skip
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([x, self._heads_of_bias(b).expand(len(x), -1, -1, -1)], 2)
                for x, b in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = (functional.pad(x, (0, 0, 0, 1)) for x in (k, v))
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            context, weights = _explicit(q, k, v, mask, dropout)
        else:
            context = functional.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
            weights = None
        tokens = context.transpose(1, 2).flatten(2)  # (batch, queries, width)
        result = self.out_proj(tokens if first and batched else tokens.transpose(0, 1) if batched else tokens[0])
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        return result, weights

    def _heads(self, x: Tensor) -> Tensor:
        """Projected values in the layout of the arguments to (batch, heads, tokens, width of a head)."""
        if x.dim() == 2:
            x = x[None]
        elif not self.batch_first:
            x = x.transpose(0, 1)
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _heads_of_bias(self, bias: Tensor) -> Tensor:
        """A bias (1, 1, width) that stands for a further token."""
        return bias.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _mask(self, attention: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """The two masks as one that is added to the scores, of a shape that broadcasts to them; None without a mask."""
        batch, heads, queries, keys = *q.shape[:3], k.shape[2]
        total = None
        if attention is not None:
            total = _added(attention, q.dtype)
            total = total.reshape(batch, heads, queries, -1) if total.dim() == 3 else total[None, None]
            total = functional.pad(total, (0, keys - total.shape[-1]))
        if padding is not None:
            padding = _added(padding, q.dtype).reshape(batch, 1, 1, -1)
            padding = functional.pad(padding, (0, keys - padding.shape[-1]))
            total = padding if total is None else total + padding
        return total


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer on a matrix (out, in) and a bias, without a copy."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), bias.requires_grad)
    return layer


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to the scores: -inf where a Boolean one is true."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    return mask.to(dtype)


def _explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """Attention in PyTorch's order of operations where its weights are asked for."""
    batch, heads, queries, keys = *q.shape[:3], k.shape[2]
    q, k, v = (x.flatten(0, 1) for x in (q * math.sqrt(1.0 / q.shape[-1]), k, v))
    if mask is None:
        scores = torch.bmm(q, k.transpose(1, 2))
    else:
        scores = torch.baddbmm(mask.expand(batch, heads, queries, keys).flatten(0, 1), q, k.transpose(1, 2))
    weights = functional.dropout(torch.softmax(scores, -1), dropout)
    context = torch.bmm(weights, v).unflatten(0, (batch, heads))
    return context, weights.unflatten(0, (batch, heads))
