"""A mixture of experts with linear layers, in place of transformers' experts that are held as one tensor."""

from typing import Any

import torch
from torch import Tensor, nn

from quant.primitives.attention import linear_of

_DEFAULTS = {"has_gate": True, "has_bias": False, "is_transposed": False, "is_concatenated": True,
             "has_post_expert_norm": False}  # fmt: skip


class Expert(nn.Module):
    """down(f(gate) * up), gate and up being the halves of one linear layer's outputs.

    Parameters
    ----------
    gate_up : Tensor
        The matrix (2 * hidden, width) of the first layer.
    down : Tensor
        The matrix (width, hidden) of the second.
    function : nn.Module
        The activation function f.
    """

    def __init__(self, gate_up: Tensor, down: Tensor, function: nn.Module) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj = linear_of(gate_up, None), linear_of(down, None)
        self.act_fn = function

    def forward(self, tokens: Tensor) -> Tensor:
        """(tokens, width) to (tokens, width)."""
        gate, up = self.gate_up_proj(tokens).chunk(2, dim=-1)
        return self.down_proj(self.act_fn(gate) * up)


class Experts(nn.ModuleList):
    """transformers' `MixtralExperts` and those like it, with an `Expert` each, so that their layers have names.

    `forward` has the arguments of that class and gives the floats of its `eager` implementation. The new layers share
    the memory of the old parameters.

    Parameters
    ----------
    fused : nn.Module
        The module whose parameters `gate_up_proj` (experts, 2 * hidden, width) and `down_proj` (experts, width,
        hidden) are taken; see `holds_experts`.
    """

    def __init__(self, fused: Any) -> None:
        function = fused.act_fn
        super().__init__(
            Expert(gate_up, down, function) for gate_up, down in zip(fused.gate_up_proj, fused.down_proj, strict=True)
        )
        self.train(fused.training)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """The sum of each token's chosen experts, weighted.

        Parameters
        ----------
        hidden_states : Tensor
            (tokens, width).
        top_k_index, top_k_weights : Tensor
            (tokens, k): which experts, and how much each counts; an index of the number of experts counts nothing.
        """
        total = torch.zeros_like(hidden_states)
        for i, expert in enumerate(self):
            place, token = torch.where(top_k_index.t() == i)
            if len(token):
                part = expert(hidden_states[token]) * top_k_weights[token, place, None]
                total.index_add_(0, token, part.to(total.dtype))
        return total


def holds_experts(module: nn.Module) -> bool:
    """Whether a module holds experts of the kind that `Experts` computes: gated, without biases, not transposed."""
    if type(module).__module__.partition(".")[0] != "transformers":
        return False
    parts = [getattr(module, name, None) for name in ("gate_up_proj", "down_proj")]
    if not all(isinstance(part, nn.Parameter) and part.ndim == 3 for part in parts):
        return False
    gate = getattr(type(module), "_apply_gate", None)  # transformers gives the classes that have none of their own one
    usual = gate is None or gate.__module__ == "transformers.integrations.moe"
    return usual and all(getattr(module, name, value) == value for name, value in _DEFAULTS.items())
