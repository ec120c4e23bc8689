"""A language model in integers against FP32: tokens a second of the prompt, and token by token with the cache.

The model has the shape of SmolLM2-135M, with random weights, on which its speed does not depend. The head is floating
point in both, on the last token alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quant import Plan
from sim.network.benchmark_limit import Batches
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.operators.causal import KeyValueCache
from sim.network.table_sets import control_tables

PROMPT = 128  # tokens
SHAPE: Mapping[str, Any] = dict(
    hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
    vocab_size=49152, max_position_embeddings=2048, tie_word_embeddings=True,
)  # fmt: skip
Call = Callable[[], Any]


def smollm2() -> tuple[Any, Network]:
    """The model and its network: W8A8, a scale for each token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    tables = control_tables(("silu", "exp", "div", "rsqrt"))
    plan = Plan.uniform(activation_granularity="token", weight_observer="minmax", tables=tables)
    return model, convert(model, plan, [{"input_ids": prompt()}])


def prompt() -> Tensor:
    """Random indices."""
    return torch.randint(SHAPE["vocab_size"], (1, PROMPT), generator=torch.Generator().manual_seed(1))


def batches(network: Network, ids: Tensor) -> dict[str, Batches]:
    """The network's arguments for the "prompt" (1, T), and for a "token" after it; its cache stays as it is."""
    filled = KeyValueCache()
    network(input_ids=ids, cache=filled)
    return {
        "prompt": lambda: {"input_ids": ids, "cache": KeyValueCache()},
        "token": lambda: {"input_ids": ids[:, :1], "cache": filled.copy()},
    }


def calls(model: Any, network: Network, ids: Tensor) -> dict[str, dict[str, Call]]:
    """The calls of both networks for the prompt and the token of `batches`, with the head."""
    head: nn.Module = model.lm_head
    given, real = batches(network, ids), _real_cache()
    model.model(ids, past_key_values=real, use_cache=True)

    def integer(kind: str) -> Tensor:
        return head(network(**given[kind]()).last_hidden_state[:, -1:])

    def floating(new: Tensor, cache: Any) -> Tensor:
        return head(model.model(new, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:])

    def token() -> Tensor:
        result = floating(ids[:, :1], real)
        real.crop(-1)
        return result

    return {
        "prompt": {"FP32": lambda: floating(ids, _real_cache()), "W8A8": lambda: integer("prompt")},
        "token": {"FP32": token, "W8A8": lambda: integer("token")},
    }


def _real_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()
