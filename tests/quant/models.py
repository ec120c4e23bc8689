"""Small weights and models that several tests use."""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.plan import Settings
from quant.primitives.quantisers import QuantisedWeight, quantise_weight

SETTINGS = [
    Settings(weight_bits=bits, weight_symmetric=symmetric, weight_granularity=granularity, group_size=size)
    for bits, symmetric, (granularity, size) in itertools.product(
        (2, 3, 4, 8), (True, False), (("channel", None), ("group", 16), ("tensor", None))
    )
]


def quantised(settings: Settings, seed: int = 0, shape: tuple[int, int] = (32, 64)) -> QuantisedWeight:
    """A quantised matrix of normal weights whose channels differ in size."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-2, 0, shape[0])[:, None]
    return quantise_weight(weight, settings)


def same(a: QuantisedWeight, b: QuantisedWeight) -> bool:
    """Whether two weights are the same in every field."""
    tensors = ((w.codes, w.zero_point, w.group_multiplier, w.scale.multiplier, w.scale.shift) for w in (a, b))
    scalars = [(w.bits, w.signed, w.group_size) for w in (a, b)]
    return scalars[0] == scalars[1] and all(
        x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(*tensors, strict=True)
    )


class Encoder(nn.Module):
    """A small transformer-like network on token codes, with a tied head and padding."""

    def __init__(self, vocabulary: int = 20, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.first, self.second = nn.Linear(width, 32), nn.Linear(32, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(input_ids)
        return self.head(self.norm(x + self.second(functional.gelu(self.first(x)))))


def encoder(seed: int = 0) -> Encoder:
    """The network with the weights of a seed."""
    torch.manual_seed(seed)
    return Encoder().eval()


def batches(seed: int = 0, count: int = 3) -> list[dict[str, Tensor]]:
    """Token codes with padding (the code 0)."""
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(1, 20, (2, 6), generator=generator) for _ in range(count)]
    for i in ids:
        i[1, 4:] = 0
    return [{"input_ids": i, "attention_mask": (i != 0).long()} for i in ids]


WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "on",
    "mat",
    "ran",
    "over",
    "red",
    "blue",
]


def bert_folder(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A small BERT with a tokeniser as transformers saves them; returns the model."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40,
    )  # fmt: skip
    model = transformers.BertModel(config).eval()
    nn.Module.to(model, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return model


def llama_folder(folder: Path, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """A small Llama with tied embeddings in several shards; returns the model."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=64, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    nn.Module.to(model, dtype)
    model.save_pretrained(folder, max_shard_size="10KB")
    return model


# small configurations of transformers by the class that they build; all that they leave out is the class's own
_TEXT = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
         "max_position_embeddings": 64}  # fmt: skip
_GROUPED = _TEXT | {"num_key_value_heads": 2}
_IMAGE = {"image_size": 16, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 32}  # fmt: skip
ARCHITECTURES = {
    "BertForMaskedLM": _TEXT,
    "GPT2LMHeadModel": {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "LlamaForCausalLM": _GROUPED,
    "MixtralForCausalLM": _GROUPED | {"num_local_experts": 3, "num_experts_per_tok": 2},
    "Qwen3MoeForCausalLM": _GROUPED
    | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "ViTForImageClassification": _IMAGE,
    "DeiTModel": _IMAGE,
    "Dinov2Model": _IMAGE,
    "SwinModel": {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2],
                  "window_size": 4},
    "SegformerForSemanticSegmentation": {
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2],
        "mlp_ratios": [2, 2, 2, 2], "decoder_hidden_size": 16, "num_labels": 5,
    },
}  # fmt: skip


def made(name: str) -> nn.Module:
    """A small randomly initialised model of an architecture, in evaluation mode."""
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, name)
    return kind(kind.config_class(**ARCHITECTURES[name])).eval()


def inputs_of(name: str) -> dict[str, Tensor]:
    """A batch for a small model of an architecture."""
    generator = torch.Generator().manual_seed(0)
    if "vocab_size" in ARCHITECTURES[name]:
        return {"input_ids": torch.randint(1, 32, (2, 9), generator=generator)}
    side = ARCHITECTURES[name].get("image_size", 32)
    return {"pixel_values": torch.randn(2, 3, side, side, generator=generator)}


def folder_of(name: str, folder: Path) -> nn.Module:
    """Save a small model of an architecture as transformers does; returns the model."""
    model: Any = made(name)
    model.save_pretrained(folder)
    return model
