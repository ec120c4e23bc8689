"""Greedy generation by an integer language model, token by token with a cache of keys and values."""

from collections.abc import Callable

import torch
from torch import Tensor

from sim.network.graph import Network
from sim.network.operators.causal import KeyValueCache


@torch.no_grad()
def generate(network: Network, head: Callable[[Tensor], Tensor], prompt: Tensor, count: int) -> Tensor:
    """The prompt and the `count` tokens that follow it.

    Every run of the network takes the new tokens alone. Its codes are those of a run over the whole sequence.

    Parameters
    ----------
    network : Network
        The model without its head, in the mode "integer".
    head : callable
        From the last hidden states (B, T, C) to logits (B, T, V), in floating point: `model.lm_head`.
    prompt : Tensor
        Token indices (B, T), without padding.
    count : int
        Tokens to add.

    Returns
    -------
    Tensor
        Token indices (B, T + count), each the most likely one.
    """
    cache, ids, new = KeyValueCache(), prompt, prompt
    for _ in range(count):
        hidden = network(input_ids=new, cache=cache).last_hidden_state
        new = head(hidden[:, -1:]).argmax(-1)
        ids = torch.cat([ids, new], 1)
    return ids
