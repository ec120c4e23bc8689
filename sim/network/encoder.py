"""The encoder: one graph of operators, the same in floating point, in integers and in training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from quant import Plan
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.base import Operator
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Add, Embedding, Input
from sim.reference import InputError


@dataclass(frozen=True)
class LayerModules:
    """The modules of one layer of the model that is converted, and the names of what is no module there.

    `qkv` maps three names to their linear layers, the others one name to one.
    """

    qkv: dict[str, nn.Linear]
    attention: str
    heads: int
    out: dict[str, nn.Linear]
    norm1: tuple[str, nn.LayerNorm | nn.RMSNorm]
    up: dict[str, nn.Linear]
    activation: tuple[str, str]
    down: dict[str, nn.Linear]
    norm2: tuple[str, nn.LayerNorm | nn.RMSNorm]
    norm_first: bool = False


class Layer(nn.Module):
    """Attention and feed-forward network around the residual stream, normalised after each (BERT) or before."""

    def __init__(self, parts: LayerModules) -> None:
        super().__init__()
        self.norm_first = parts.norm_first
        self.qkv = Linear(parts.qkv)
        self.scores = Scores(f"{parts.attention}.scores", parts.heads)
        self.softmax = Softmax(f"{parts.attention}.softmax")
        self.context = Context(f"{parts.attention}.context", parts.heads)
        self.out = Linear(parts.out)
        self.add1 = Add(f"{self.out.name}.residual")
        self.norm1 = Norm(*parts.norm1)
        self.up = Linear(parts.up)
        self.activation = Activation(*parts.activation)
        self.down = Linear(parts.down)
        self.add2 = Add(f"{self.down.name}.residual")
        self.norm2 = Norm(*parts.norm2)

    def attend(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """The attention's contribution to the stream."""
        q, k, v = self.qkv(x)
        return self.out(self.context(self.softmax(self.scores(q, k), valid), v))

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward network's contribution."""
        return self.down(self.activation(self.up(x)))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if self.norm_first:
            x = self.add1(x, self.attend(self.norm1(x), valid))
            return self.add2(x, self.feed(self.norm2(x)))
        x = self.norm1(self.add1(x, self.attend(x, valid)))
        return self.norm2(self.add2(x, self.feed(x)))


class Output(NamedTuple):
    """What the network gives at its boundary: codes (B, T, C), int16, and the real numbers they stand for."""

    codes: Tensor | None
    last_hidden_state: Tensor


class Encoder(nn.Module):
    """An encoder of `family`. Its operators are named after the modules they stand for.

    The boundary is `last_hidden_state`: pooling, heads and losses stay with the caller, in floating point.
    """

    def __init__(self, family: str, layers: list[Layer], row_length: int) -> None:
        super().__init__()
        self.family, self.row_length = family, row_length
        self.embedding: Embedding | None = None
        self.input: Input | None = None
        self.norm: Norm | None = None  # after the embeddings (BERT)
        self.layers = nn.ModuleList(layers)
        self.final: Norm | None = None
        self.padding: int | None = None  # RoBERTa's positions start behind it and do not count padding
        self.batch_first = True
        self.plan: Plan | None = None
        self.data_sha256: str | None = None

    def operators(self) -> Iterator[Operator]:
        """Every operator: what precedes the layers, the layers, what follows them."""
        parts = (self.embedding, self.input, self.norm, *self.layers, self.final)
        modules = (module for part in parts if part is not None for module in part.modules())
        return (module for module in modules if isinstance(module, Operator))

    @property
    def blocks(self) -> list[Layer]:
        """The layers, by their type."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def stream(self, **batch: Tensor | None) -> Tensor:
        """The last hidden state: real numbers, or codes in the mode "integer"."""
        x, valid = self._bert(**batch) if self.family == "bert" else self._torch(**batch)
        if self.norm is not None:
            x = self.norm(x)
        for layer in self.layers:
            x = layer(x, valid)
        x = x if self.final is None else self.final(x)
        return x if self.batch_first else x.transpose(0, 1)

    def codes(self, **batch: Tensor | None) -> Tensor:
        """The integer network, from its quantised input to its boundary: int16 codes.

        Raises `InputError` in another mode than "integer".
        """
        if any(operator.mode != "integer" for operator in self.operators()):
            raise InputError('codes need every operator in the mode "integer"')
        return self.stream(**batch)

    def forward(self, **batch: Tensor | None) -> Output:
        """The model's own keyword arguments; codes are None unless the network is in integers."""
        x = self.stream(**batch)
        if x.is_floating_point():
            return Output(None, x)
        return Output(x, self.last.outputs[0].real(x))

    @property
    def last(self) -> Operator:
        """The operator whose output is the boundary."""
        if self.final is not None:
            return self.final
        layer = self.blocks[-1]
        return layer.add2 if layer.norm_first else layer.norm2

    def _bert(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: object,
    ) -> tuple[Tensor, Tensor | None]:
        _refuse(others)
        if input_ids is None:
            raise InputError("input_ids must be given")
        assert self.embedding is not None
        if position_ids is None:
            if input_ids.shape[1] > self.row_length:
                raise InputError(f"input_ids must have at most {self.row_length} tokens, not {input_ids.shape[1]}")
            position_ids = self._positions(input_ids)
        indices = [input_ids, position_ids]
        if len(self.embedding.names) == 3:
            indices.append(torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        return self.embedding(*indices), key_mask(attention_mask)

    def _torch(
        self,
        src: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        mask: Tensor | None = None,
        **others: object,
    ) -> tuple[Tensor, Tensor | None]:
        _refuse(others)
        if src is None:
            raise InputError("src must be given")
        for name, given in (("src_key_padding_mask", src_key_padding_mask), ("mask", mask)):
            if given is not None and given.dtype != torch.bool:
                raise InputError(f"{name} must be booleans, not {given.dtype}")
        assert self.input is not None
        valid = None if src_key_padding_mask is None else ~src_key_padding_mask[:, None, None, :]
        if mask is not None:
            if mask.ndim != 2:
                raise InputError(f"mask must be (T, T), not {list(mask.shape)}")
            allowed = ~mask[None, None]
            valid = allowed if valid is None else valid & allowed
        return self.input(src if self.batch_first else src.transpose(0, 1)), valid

    def _positions(self, input_ids: Tensor) -> Tensor:
        if self.padding is None:
            return torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        counts = (input_ids != self.padding).long()
        return counts.cumsum(1) * counts + self.padding


def key_mask(attention_mask: Tensor | None) -> Tensor | None:
    """(B, T) or (B, T, T), not zero where a key counts, as booleans for the scores (B, H, T, T)."""
    if attention_mask is None or bool((attention_mask != 0).all()):
        return None
    valid = attention_mask != 0
    return valid[:, None, None, :] if valid.ndim == 2 else valid[:, None]


def _refuse(others: dict[str, object]) -> None:
    for name, value in others.items():
        if value is not None and value is not False:
            raise InputError(f"{name} is not supported by the integer network")
