"""A rotation folded into the weights of a model of Llama's layout: the same function, without outliers in the stream.

A few channels of a language model's residual stream have values thousands of times those of the others, which costs
the others their bits. RMSNorm commutes with a rotation of its input, once its gain is in the next layer's weights
(SliceGPT, Ashkboos et al. 2024; QuaRot, Ashkboos et al. 2024). So the stream is rotated by one orthogonal matrix in
the embedding and in every layer that writes to it, and back in every layer that reads from it; the values of each head
are rotated in the same way. Nothing is left to compute when the model runs.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from quant.primitives.linear import QuantisedLinear
from sim.reference import InputError

BODIES = ("LlamaModel", "MistralModel", "Qwen2Model")


@torch.no_grad()
def rotated(model: nn.Module, seed: int = 0) -> Any:
    """A copy of a language model, in float32, with its residual stream and its values rotated.

    A tied head becomes one of its own, since it takes the gain of the last norm. Raises InputError as
    `require_rotatable` does.
    """
    require_rotatable(model)
    result: Any = copy.deepcopy(model).float()
    body, config = result.model, result.config
    turn = orthogonal(config.hidden_size, seed)
    head_width = body.layers[0].self_attn.head_dim
    value_turn = orthogonal(head_width, seed + 1)
    embedding = body.embed_tokens.weight.double()
    head = nn.Linear(config.hidden_size, config.vocab_size, bias=False, device="meta")
    head.weight = _parameter(result.lm_head.weight.double() * body.norm.weight.double() @ turn)
    config.tie_word_embeddings, result.lm_head = False, head
    body.embed_tokens.weight = _parameter(embedding @ turn)
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        _read(layer.input_layernorm, turn, attention.q_proj, attention.k_proj, attention.v_proj)
        _read(layer.post_attention_layernorm, turn, mlp.gate_proj, mlp.up_proj)
        _turn_outputs(attention.v_proj, value_turn)
        weight = attention.o_proj.weight.double().unflatten(1, (-1, head_width)) @ value_turn
        attention.o_proj.weight = _parameter(weight.flatten(1))
        for writer in (attention.o_proj, mlp.down_proj):
            _turn_outputs(writer, turn)
    body.norm.weight = _parameter(torch.ones_like(body.norm.weight))
    return result


def require_rotatable(model: nn.Module) -> None:
    """Raise InputError unless the model is of Llama's layout, has a head and is not quantised.

    Without a head its output would be rotated, and codes cannot be.
    """
    if type(getattr(model, "model", None)).__name__ not in BODIES or not hasattr(model, "lm_head"):
        raise InputError(f"model must be a language model of Llama's layout to be rotated, not {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, QuantisedLinear):
            raise InputError(f"{name}: is quantised; a model must be rotated before that")


def orthogonal(size: int, seed: int) -> Tensor:
    """An orthogonal matrix (size, size), float64, whose entries are all small: random signs, then a Hadamard matrix of
    the largest power of two that divides `size`, by a cosine transform of the rest.
    """
    power = size & -size
    rest = size // power
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < power:
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), hadamard)
    k = torch.arange(rest, dtype=torch.float64)
    cosine = torch.cos(math.pi / rest * (k + 0.5) * k[:, None]) * (2 / rest) ** 0.5
    cosine[0] *= 0.5**0.5
    signs = torch.randint(0, 2, (size, 1), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    return signs * torch.kron(hadamard * power**-0.5, cosine)


def _read(norm: Any, turn: Tensor, *layers: Any) -> None:
    """Move the gain of a norm to the layers that read it, and turn their inputs back."""
    gain = norm.weight.double()
    for layer in layers:
        layer.weight = _parameter(layer.weight.double() * gain @ turn)
    norm.weight = _parameter(torch.ones_like(norm.weight))


def _turn_outputs(layer: Any, turn: Tensor) -> None:
    """Rotate the outputs of a layer, in blocks of the matrix's size."""
    weight = layer.weight.double().unflatten(0, (-1, len(turn)))
    layer.weight = _parameter((turn.T @ weight).flatten(0, 1))
    if layer.bias is not None:
        layer.bias = _parameter((layer.bias.double().unflatten(0, (-1, len(turn))) @ turn).flatten())


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.float())
