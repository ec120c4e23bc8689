"""Coverage: what stays floating point is named, and sizes are those of what is stored."""

import pytest
import torch
from torch import nn

import quant
from quant.methods.coverage import bytes_of, coverage_line, size_line
from quant.methods.post_training import quantisation_of
from quant.plan import Plan
from quant.pretrained import pack_model
from tests.quant.models import ARCHITECTURES, encoder, folder_of, inputs_of


class Experts(nn.Module):
    """A mixture whose experts are one tensor, as transformers holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, 16, 8))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.einsum("te,eoi,ti->to", self.router(values).softmax(-1), self.up, values)


def test_experts_held_as_one_tensor_are_named_and_counted():
    made = quant.quantize(nn.Sequential(Experts()), Plan.uniform(activation_bits=None))
    coverage = quantisation_of(made).coverage
    assert coverage["skipped"] == {"0": "Experts"}
    assert (coverage["integer_multiply_accumulates"], coverage["multiply_accumulates"]) == (32, 32 + 512)
    assert "5.9 % of 544 multiply-accumulates" in coverage_line(coverage) and "0 (Experts)" in coverage_line(coverage)


@pytest.mark.parametrize("skip", [None, "head"])
def test_the_size_after_is_that_of_the_packed_tensors(skip):
    model = encoder()
    made = quant.quantize(model, Plan.uniform(skip, weight_bits=4, activation_bits=None))
    coverage, packed = quantisation_of(made).coverage, pack_model(made)
    assert coverage["bytes_after"] == sum(tensor.nbytes for tensor in packed._stored().values())
    assert coverage["bytes_before"] == bytes_of(model.parameters()) < sum(t.nbytes for t in model.state_dict().values())


def test_a_model_that_grew_is_told_how_to_stay_small():
    assert "larger" not in size_line({"bytes_before": 10, "bytes_after": 10})
    assert "larger; --dtype auto" in size_line({"bytes_before": 10, "bytes_after": 11})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_linear_layer_of_an_architecture_is_quantised_and_the_rest_is_named(name, tmp_path):
    made = quant.quantize(folder_of(name, tmp_path), Plan.uniform(activation_granularity="token"))
    coverage = quantisation_of(made).coverage
    assert set(coverage["skipped"].values()) <= {
        "Embedding", "Conv2d", "MixtralTopKRouter", "Qwen3MoeTopKRouter", "ViTEmbeddings", "DeiTEmbeddings",
        "Dinov2Embeddings", "SwinRelativePositionBias", "SwinSelfAttention",
    }  # fmt: skip
    assert coverage["skipped_layers"] == []
    quant.save_pretrained(made, tmp_path / "packed")
    loaded = quant.from_pretrained(tmp_path / "packed")
    with torch.no_grad():
        a, b = (model(**inputs_of(name), return_dict=False)[0] for model in (made, loaded))
    assert torch.equal(a, b)
