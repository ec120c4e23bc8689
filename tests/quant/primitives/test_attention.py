"""The unpacked attention is PyTorch's: every mask, layout and option, on numbers that floats multiply exactly."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from quant.primitives.attention import ProjectedAttention


def whole(*shape: int) -> Tensor:
    """Small integers, whose projections are exact in whatever order they are summed."""
    return torch.randint(-2, 3, shape).float()


def attention(first: bool, **options) -> nn.MultiheadAttention:
    """A module with integer projections and an output projection that permutes and negates."""
    module = nn.MultiheadAttention(12, 3, batch_first=first, **options).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(whole(*parameter.shape) if "out_proj" not in name else parameter.zero_())
        module.out_proj.weight.copy_(torch.eye(12)[torch.randperm(12)] * (torch.randint(0, 2, (12,)) * 2 - 1))
    return module


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether both are None or equal."""
    return a is b if a is None or b is None else torch.equal(a, b)


@pytest.fixture(autouse=True)
def unfused():
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


MASKS = ("none", "padding", "real padding", "mask", "boolean mask", "a mask for each head", "both")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True},
                                     {"kdim": 6, "vdim": 5}], ids=str)  # fmt: skip
def test_every_mask_and_layout_gives_the_floats_of_pytorchs_module(options, first):
    module = attention(first, **options)
    ours = ProjectedAttention(module)
    batch, queries, keys = 2, 5, 7
    arguments = whole(batch, queries, 12), *(whole(batch, keys, options.get(k, 12)) for k in ("kdim", "vdim"))
    if not first:
        arguments = tuple(x.transpose(0, 1).contiguous() for x in arguments)
    padding = torch.zeros(batch, keys, dtype=torch.bool)
    padding[1, 4:] = True
    real, each = torch.randn(queries, keys), torch.randn(batch * 3, queries, keys)
    given = {
        "none": {}, "padding": {"key_padding_mask": padding}, "real padding": {"key_padding_mask": padding * -3.0},
        "mask": {"attn_mask": real}, "boolean mask": {"attn_mask": real > 1.5},
        "a mask for each head": {"attn_mask": each},
        "both": {"attn_mask": each, "key_padding_mask": padding * -9.0},
    }  # fmt: skip
    for mask, weights, averaged in itertools.product(MASKS, (True, False), (True, False)):
        how = {"need_weights": weights, "average_attn_weights": averaged, **given[mask]}
        (a, scores), (b, others) = module(*arguments, **how), ours(*arguments, **how)
        assert torch.equal(a, b) and same(scores, others), (mask, weights, averaged)


def test_one_sequence_and_the_causal_hint_are_as_in_pytorchs_module():
    module = attention(True)
    ours, x = ProjectedAttention(module), whole(6, 12)
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    for how in ({}, {"need_weights": False, "attn_mask": causal, "is_causal": True}, {"attn_mask": causal}):
        (a, scores), (b, others) = module(x, x, x, **how), ours(x, x, x, **how)
        assert torch.equal(a, b) and same(scores, others)


def test_the_layers_share_the_memory_of_the_packed_parameters():
    module = attention(True)
    ours = ProjectedAttention(module)
    assert [name for name, m in ours.named_modules() if isinstance(m, nn.Linear)] == [
        "query",
        "key",
        "value",
        "out_proj",
    ]
    packed = module.in_proj_weight
    assert packed is not None and ours.query.weight.data_ptr() == packed.data_ptr()
