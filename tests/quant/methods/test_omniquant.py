"""Learned clipping: the block's error falls, only clipping trains, and what trains is what is packed."""

import pytest
import torch
from torch import Tensor, nn

from quant import calibration
from quant.methods.blocks import Layer, RoundToNearest, quantize_blocks
from quant.methods.efficientqat.quantise import Options
from quant.methods.omniquant import ClippedLinear, LearnedClipping
from quant.plan import Settings
from quant.primitives.linear import QuantisedLinear
from sim.reference import InputError
from tests.quant.methods.test_blocks import made

SETTINGS = Settings(
    weight_bits=2, weight_granularity="group", group_size=8, weight_symmetric=False, weight_observer="minmax",
    activation_bits=None,
)  # fmt: skip


def test_a_layer_in_training_equals_the_packed_layer_and_only_its_clipping_has_moved() -> None:
    torch.manual_seed(0)
    trained = ClippedLinear(Layer("linear", nn.Linear(24, 16), SETTINGS, None))
    before = {name: p.detach().clone() for name, p in trained.named_parameters()}
    clipping = [p for name, p in trained.named_parameters() if name.endswith(("low", "high"))]
    optimiser = torch.optim.SGD(clipping, lr=5.0)
    for _ in range(4):
        values = torch.randn(5, 24)
        result = trained(values)
        packed = QuantisedLinear(trained.trained.integers(), trained.bias, None)
        assert torch.equal(result, packed(values))
        optimiser.zero_grad()
        result.square().sum().backward()
        optimiser.step()
    moved = {name for name, p in trained.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"trained.low", "trained.high"} and len(clipping) == 2


@pytest.mark.slow
def test_it_lowers_the_error_of_the_hidden_states_and_leaves_norms_as_they_are() -> None:
    pytest.importorskip("transformers", reason="the models are those of transformers")
    model, _, _, _ = made("llama")
    ids = torch.randint(32, (8, 2, 8), generator=torch.Generator().manual_seed(5))
    data = calibration.load([{"input_ids": part} for part in ids])
    plan = Options(2, 16).plan(model)

    @torch.no_grad()
    def hidden(of: nn.Module) -> Tensor:
        return torch.stack([of.get_submodule("model")(**batch).last_hidden_state for batch in data])

    nearest, clipped = (
        quantize_blocks(model, plan, data, method)
        for method in (RoundToNearest(), LearnedClipping((0.2, 0.0), epochs=8))
    )
    errors = [float((hidden(each) - hidden(model)).square().mean()) for each in (nearest, clipped)]
    assert errors[1] < 0.9 * errors[0]
    norms = [name for name, _ in model.named_parameters() if "norm" in name]
    assert norms and all(torch.equal(clipped.state_dict()[name], model.state_dict()[name]) for name in norms)


def test_searched_steps_are_refused() -> None:
    with pytest.raises(InputError, match="no clipping to learn"):
        LearnedClipping(searched=True)
