"""The tokens of a vision transformer that are no patches: learned ones before them, and the positions of all."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sim.network.operators.residual import Embedding


class _Rows(nn.Module):
    """`weight` (T, C): learned positions (1, T, C), with the learned tokens (1, 1, C) added to the first of them."""

    def __init__(self, positions: nn.Parameter, tokens: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.positions, self.tokens = positions, nn.ParameterList(tokens)

    @property
    def weight(self) -> Tensor:
        """The row of each position."""
        rows, first = self.positions[0], torch.cat([token[0] for token in self.tokens])
        return torch.cat([rows[: len(first)] + first, rows[len(first) :]])


class TokenEmbedding(Embedding):
    """One look-up for class and distillation tokens and for positions, as 16-bit codes at one scale."""

    def __init__(self, name: str, positions: nn.Parameter, tokens: Sequence[nn.Parameter]) -> None:
        super().__init__(name, {name: _Rows(positions, tokens)})  # pyright: ignore[reportArgumentType]

    def claims(self) -> Mapping[str, nn.Module]:
        return {}
