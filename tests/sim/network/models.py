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


def image_batches(count: int = 3, rows: int = 2, channels: int = 3, side: int = 16, seed: int = 0) -> list[Batch]:
    """Batches of images."""
    generator = torch.Generator().manual_seed(seed)
    return [{"pixel_values": torch.randn(rows, channels, side, side, generator=generator)} for _ in range(count)]


def vision_transformer(kind: str = "ViT", **changes: Any) -> nn.Module:
    """A ViT, DeiT or Dinov2 of two layers for images of 16 pixels in patches of 4."""
    import transformers

    sizes: dict[str, Any] = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4
    )
    sizes |= dict(mlp_ratio=2) if kind == "Dinov2" else dict(intermediate_size=48)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes | changes)
    return spread(getattr(transformers, f"{kind}Model")(config))


def segformer(kind: str = "ForSemanticSegmentation", **changes: Any) -> nn.Module:
    """A SegFormer of two stages, the first with a spatial reduction of attention."""
    import transformers

    sizes: dict[str, Any] = dict(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=24, num_labels=5,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = spread(getattr(transformers, f"Segformer{kind}")(transformers.SegformerConfig(**sizes | changes)))
    if hasattr(model, "decode_head"):
        norm = model.decode_head.batch_norm
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return model
