"""Small models with random weights, and the plans and data that the tests of the networks share."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from quant import Plan
from sim.reference import PwlTable
from tests.sim.tables import secant_table

Batch = dict[str, Tensor]
EXACT: dict[str, PwlTable | str] = dict.fromkeys(
    ("gelu", "gelu-tanh", "silu", "hswish", "exp", "div", "rsqrt"), "exact"
)
TABLES: dict[str, PwlTable | str] = EXACT | {f: secant_table(f) for f in ("gelu", "exp", "div", "rsqrt")}


def plan(tables: dict[str, PwlTable | str] = TABLES, **settings: Any) -> Plan:
    """Every module alike, activations per token unless said otherwise."""
    return Plan.uniform(**{"activation_granularity": "token", "tables": tables, **settings})


@cache
def bert(kind: str = "Bert", **changes: Any) -> nn.Module:
    """A model of BERT's family with two layers."""
    import transformers

    sizes: dict[str, Any] = dict(vocab_size=60, max_position_embeddings=40)
    if kind == "DistilBert":
        sizes |= dict(dim=32, n_layers=2, n_heads=4, hidden_dim=48)
    else:
        sizes |= dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes | changes)
    return spread(getattr(transformers, f"{kind}Model")(config))


def torch_encoder(layers: int = 2, final: nn.Module | None = None, **changes: Any) -> nn.TransformerEncoder:
    """An `nn.TransformerEncoder`."""
    torch.manual_seed(0)
    options: dict[str, Any] = dict(d_model=32, nhead=4, dim_feedforward=48, batch_first=True, activation="gelu")
    layer = nn.TransformerEncoderLayer(**options | changes)
    return spread(nn.TransformerEncoder(layer, layers, final, enable_nested_tensor=False))


def spread(model: Any) -> Any:
    """Weights of unit gain and norms that are not trivial, so that every part matters."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if "norm" in name.lower():
                parameter.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise)
            elif parameter.ndim == 2:
                parameter.copy_(noise * parameter.shape[1] ** -0.5)
            else:
                parameter.copy_(0.1 * noise)
    return model.eval()


def token_batches(count: int = 3, rows: int = 4, length: int = 12, seed: int = 0) -> list[Batch]:
    """Batches of indices with padding at the end."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        ids = torch.randint(5, 60, (rows, length), generator=generator)
        lengths = torch.randint(3, length + 1, (rows, 1), generator=generator)
        mask = (torch.arange(length) < lengths).long()
        batches.append({"input_ids": torch.where(mask != 0, ids, 1), "attention_mask": mask})
    return batches


def real_batches(count: int = 3, rows: int = 4, length: int = 12, seed: int = 0) -> list[Batch]:
    """Batches for `nn.TransformerEncoder`, with key padding."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        lengths = torch.randint(3, length + 1, (rows, 1), generator=generator)
        mask = torch.arange(length) >= lengths
        batches.append({"src": torch.randn(rows, length, 32, generator=generator), "src_key_padding_mask": mask})
    return batches
