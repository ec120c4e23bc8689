"""Small language models with random weights, and indices for them."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.sim.network.models import spread

LLAMA: dict[str, Any] = dict(
    vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip
GPT2: dict[str, Any] = dict(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64)
KINDS: dict[str, dict[str, Any]] = {  # class -> sizes
    "LlamaForCausalLM": LLAMA | {"tie_word_embeddings": True},
    "MistralForCausalLM": LLAMA | {"sliding_window": 6},
    "Qwen2Model": LLAMA,  # with biases
    "GPT2LMHeadModel": GPT2 | {"bos_token_id": 1, "eos_token_id": 2},
}


@cache
def language_model(kind: str, **changes: Any) -> Any:
    """A model with two layers by its class in transformers."""
    import transformers

    config = kind.replace("ForCausalLM", "").replace("LMHeadModel", "").replace("Model", "") + "Config"
    torch.manual_seed(0)
    return spread(getattr(transformers, kind)(getattr(transformers, config)(**KINDS.get(kind, {}) | changes)))


def prompts(rows: int = 3, length: int = 20, seed: int = 0) -> Tensor:
    """Random indices (rows, length)."""
    return torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def language_checkpoint(folder: Path) -> Path:
    """Write a checkpoint folder of a small Llama whose tokens are bytes, and return it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: k for k, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokeniser = Tokenizer(models.BPE(letters, []))
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokeniser.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    model: Any = language_model("LlamaForCausalLM", vocab_size=256)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokeniser, pad_token="!", model_max_length=64).save_pretrained(folder)
    return folder
