"""The diagnosis finds a planted outlier, says what a rotation does to it, and leaves the model as it was."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant.methods.scaling_law.diagnose import (
    Diagnosis,
    hadamard,
    kind_of,
    kind_rows,
    kurtosis,
    layer_rows,
    mixed_plan,
    round_inputs,
)  # fmt: skip
from sim.common.errors import InputError


class Block(nn.Module):
    def __init__(self, outlier: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 48), nn.Linear(48, 16)
        with torch.no_grad():
            self.up.weight[5] *= outlier  # one channel of the input of `down`

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Model(nn.Module):
    def __init__(self, outlier: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(outlier) for _ in range(2))
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def model_and_data(outlier: float = 40.0) -> tuple[Model, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    model = Model(outlier)
    return model, [{"x": torch.randn(2, 8, 16)} for _ in range(3)]


def test_hadamard_is_the_sylvester_matrix_in_blocks_and_its_own_inverse() -> None:
    sylvester = np.array([[1.0]])
    for _ in range(4):
        sylvester = np.block([[sylvester, sylvester], [sylvester, -sylvester]])
    expected = np.kron(np.eye(3), sylvester / 4)
    x = torch.randn(5, 48, dtype=torch.float64)
    torch.testing.assert_close(hadamard(x), x @ torch.from_numpy(expected))
    torch.testing.assert_close(hadamard(hadamard(x)), x)


def test_rounding_keeps_the_largest_of_each_group_and_a_short_last_group() -> None:
    x = torch.tensor([[0.0, 7.0, 0.4, -3.5, 1.0]])
    assert round_inputs(x, 2, 4).tolist() == [[0.0, 7.0, 0.5, -3.5, 1.0]]
    assert round_inputs(x, 0, 4).tolist() == [[0.0, 7.0, 0.0, -3.0, 1.0]]  # half up: -3.5 goes to -3
    assert round_inputs(torch.zeros(1, 5), 2, 4).tolist() == [[0.0] * 5]


def test_kurtosis_is_that_of_the_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    assert kurtosis(torch.randn(200_000, generator=generator)) == pytest.approx(3, abs=0.1)
    assert kurtosis(torch.rand(200_000, generator=generator)) == pytest.approx(1.8, abs=0.05)
    assert kurtosis(torch.ones(8)) == 0


def test_a_planted_outlier_is_found_and_a_rotation_spreads_it() -> None:
    model, data = model_and_data()
    rows = {(row["module"], row["group"]): row for row in layer_rows(model, data, Diagnosis(groups=(16, 0)))}
    assert {name for name, _ in rows} == {f"blocks.{i}.{kind}" for i in (0, 1) for kind in ("up", "down")}
    down, up = rows["blocks.0.down", 0], rows["blocks.0.up", 0]
    assert down["input_kurtosis"] > 3 * up["input_kurtosis"]
    assert down["input_error_hadamard"] < down["input_error"]
    assert down["input_error_8_bits"] < down["input_error"] / 50
    assert rows["blocks.0.down", 16]["input_error"] < down["input_error"]


def test_kinds_are_ordered_by_their_harm_to_the_whole_model() -> None:
    model, data = model_and_data()
    first, second, unused = kind_rows(model, data)
    assert (first["kind"], first["layers"], second["kind"]) == ("down", 2, "up")
    assert first["output_error"] > first["output_error_8_bits"] >= 0
    assert unused["output_error"] == 0


def test_the_model_is_left_as_it_was() -> None:
    model, data = model_and_data()
    model.train()
    model.blocks[1].eval()
    before = model(**data[0])
    layer_rows(model, data)
    kind_rows(model, data)
    assert torch.equal(model(**data[0]), before)
    assert [module.training for module in (model, model.blocks[0], model.blocks[1])] == [True, True, False]


def test_padding_is_no_input() -> None:
    class Masked(Model):
        def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().forward(x)

    torch.manual_seed(0)
    model, x = Masked(1.0), torch.randn(1, 8, 16)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0]])
    changed = torch.where(mask[..., None].bool(), x, 1e6)
    assert layer_rows(model, [{"x": x, "attention_mask": mask}]) == layer_rows(
        model, [{"x": changed, "attention_mask": mask}]
    )


def test_the_mixed_plan_keeps_the_named_kinds_at_8_bits() -> None:
    settings = mixed_plan(["down"], group=16).resolve(["blocks.0.up", "blocks.0.down", "experts.down.3", "updown"])
    assert {name: s.activation_bits for name, s in settings.items()} == {
        "blocks.0.up": 4, "blocks.0.down": 8, "experts.down.3": 8, "updown": 4,
    }  # fmt: skip
    assert all(s.weight_bits == 4 and s.group_size == 16 for s in settings.values())
    assert kind_of("experts.down.3") == "down"


def test_what_cannot_be_diagnosed_is_refused() -> None:
    with pytest.raises(InputError, match="no linear layer"):
        layer_rows(nn.ReLU(), [{"x": torch.ones(1)}])
    with pytest.raises(InputError, match="data set is empty"):
        layer_rows(Model(1.0), [])
    with pytest.raises(InputError, match="group must be in 0"):
        Diagnosis(groups=(-1,))


def test_a_mask_of_four_axes_counts_as_that_of_its_keys_and_other_arguments_are_one_line() -> None:
    transformers = pytest.importorskip("transformers", reason="the model is one of transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=8, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                                      num_attention_heads=1)  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    ids, keys = torch.randint(8, (2, 6)), torch.ones(2, 6, dtype=torch.int64)
    keys[:, 4:] = 0
    whole = (torch.ones(6, 6).tril().bool() & keys.bool()[:, None, :]).unsqueeze(1)
    found = [kind_rows(model, [{"input_ids": ids, "attention_mask": mask}]) for mask in (keys, whole)]
    for row, other in zip(*found, strict=True):
        assert row["loss_increase"] == pytest.approx(other["loss_increase"], abs=1e-5)
    kept = [layer_rows(model, [{"input_ids": ids, "attention_mask": mask}]) for mask in (keys, whole)]
    assert kept[0][0]["input_kurtosis"] == pytest.approx(kept[1][0]["input_kurtosis"], rel=1e-4)
    with pytest.raises(InputError, match="missing a required argument: 'x'; Model takes x"):
        layer_rows(model_and_data()[0], [{"pixels": torch.zeros(1, 2)}])
