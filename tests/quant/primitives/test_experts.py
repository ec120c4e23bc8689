"""Unpacked experts give the floats of transformers' own loop over them."""

import pytest
import torch
from torch import nn

from quant.methods.layers import quantisable, unfold
from quant.primitives.experts import Experts, holds_experts
from tests.quant.models import made


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "Qwen3MoeForCausalLM"])
def test_a_mixture_with_unpacked_experts_gives_the_same_floats(name):
    model = made(name)
    model.set_experts_implementation("eager")  # pyright: ignore[reportCallIssue]
    ids = torch.randint(0, 32, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids).logits
        held = sum(parameter.numel() for parameter in model.parameters())
        unfold(model)
        assert torch.equal(model(ids).logits, before)
    assert sum(parameter.numel() for parameter in model.parameters()) == held
    assert any(isinstance(module, Experts) for module in model.modules())
    assert any(layer.endswith("mlp.experts.1.gate_up_proj") for layer in quantisable(model))


def test_other_modules_with_such_names_are_left_alone():
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.zeros(2, 4, 3))
            self.down_proj = nn.Parameter(torch.zeros(2, 3, 2))

    assert not holds_experts(Other()) and not holds_experts(nn.Linear(2, 2))
