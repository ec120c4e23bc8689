"""Blocks are found in every family, and quantised one by one as the whole model would be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant import calibration
from quant.methods.blocks import Block, RoundToNearest, Streams, find_blocks, find_runs, quantize_blocks
from quant.methods.gptq import Gptq
from quant.methods.post_training import Job, prepare, quantize
from quant.plan import Plan, Rule
from quant.primitives.quantisers import QuantisedWeight, quantise_weight
from quant.run_directory import RunDirectory
from sim.reference import InputError

transformers = pytest.importorskip("transformers", reason="the families are those of transformers")


def _llama(tied: bool = False) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, tie_word_embeddings=tied,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), _ids(32)


def _gpt2() -> tuple[nn.Module, list[dict[str, Tensor]]]:
    config = transformers.GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=2, n_positions=16)
    return transformers.GPT2LMHeadModel(config), _ids(32)


def _bert() -> tuple[nn.Module, list[dict[str, Tensor]]]:
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=16,
    )  # fmt: skip
    data = _ids(32)
    for batch in data:
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][1, 4:] = 0
    return transformers.BertModel(config), data


def _vit() -> tuple[nn.Module, list[dict[str, Tensor]]]:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=8, patch_size=4,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config), _images(8)


def _segformer() -> tuple[nn.Module, list[dict[str, Tensor]]]:
    config = transformers.SegformerConfig(
        depths=[2, 1, 1, 2], hidden_sizes=[8, 16, 16, 32], num_attention_heads=[1, 2, 2, 2], decoder_hidden_size=16,
        num_labels=4,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config), _images(32)


def _torch() -> tuple[nn.Module, list[dict[str, Tensor]]]:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    generator = torch.Generator().manual_seed(3)
    return nn.TransformerEncoder(layer, 2), [{"src": torch.randn(2, 5, 16, generator=generator)} for _ in range(2)]


def _ids(vocabulary: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(vocabulary, (2, 8), generator=generator)} for _ in range(2)]


def _images(side: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [{"pixel_values": torch.randn(2, 3, side, side, generator=generator)} for _ in range(2)]


# how the model is made, the lengths of its runs, and what lies outside them
FAMILIES: dict[str, tuple[Callable[..., Any], list[int], str | None]] = {
    "llama": (_llama, [3], "lm_head"),
    "llama tied": (lambda: _llama(True), [3], "lm_head"),
    "gpt2": (_gpt2, [2], "lm_head"),
    "bert": (_bert, [2], "pooler.*"),
    "vit": (_vit, [2], "classifier"),
    "segformer": (_segformer, [2, 1, 1, 2], "decode_head.*"),
    "torch": (_torch, [2], None),
}


def made(family: str) -> tuple[nn.Module, calibration.CalibrationData, list[int], str | None]:
    """A small random model of a family with data."""
    torch.manual_seed(0)
    build, lengths, outside = FAMILIES[family]
    model, data = build()
    return model.eval(), calibration.load(data), lengths, outside


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_of_every_family_are_quantised_as_the_whole_model_is(family: str) -> None:
    model, data, lengths, outside = made(family)
    plan = Plan.uniform(outside, weight_bits=4, activation_granularity="token")
    runs = find_blocks(model, prepare(model, plan, data, Job()), data.batches[0])
    assert [len(run) for run in runs] == lengths
    whole = quantize(model, plan, data).state_dict()
    blockwise = quantize_blocks(model, plan, data, RoundToNearest()).state_dict()
    assert whole.keys() == blockwise.keys()
    assert all(torch.equal(whole[key], blockwise[key]) for key in whole)


@dataclass
class _Recorder:
    """Rounds to nearest and keeps the streams."""

    seen: list[tuple[str, Streams]]
    data = True

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]:
        assert streams is not None
        copied = Streams(list(streams.inputs), list(streams.targets), list(streams.quantised), streams.masks, [])
        self.seen.append((block.name, copied))
        return {name: quantise_weight(layer.matrix, layer.settings) for name, layer in block.layers.items()}


STREAMS = [pytest.param(name, marks=pytest.mark.slow if name == "segformer" else ()) for name in FAMILIES]


@pytest.mark.parametrize("family", STREAMS)
def test_streams_are_what_the_two_models_give_their_blocks(family: str) -> None:
    model, data, _, outside = made(family)
    plan = Plan.uniform(outside, weight_bits=4, activation_granularity="token")
    recorder = _Recorder([])
    quantised = quantize_blocks(model, plan, data, recorder)
    for name, streams in recorder.seen:
        for i, batch in enumerate(data):
            assert torch.equal(_seen(model, name, batch)[0], streams.inputs[i])
            assert torch.equal(_seen(model, name, batch)[1], streams.targets[i])
            assert torch.equal(_seen(quantised, name, batch)[0], streams.quantised[i])


@torch.no_grad()
def _seen(model: nn.Module, name: str, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The hidden states that a block takes and gives in a whole pass."""
    found: list[tuple[Tensor, Tensor]] = []

    def hook(_module: nn.Module, args: tuple, named: dict[str, Any], out: Any) -> None:
        hidden = args[0] if args else named["hidden_states"]
        found.append((hidden, out if isinstance(out, Tensor) else out[0]))

    handle = model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        model(**batch)
    finally:
        handle.remove()
        torch.backends.mha.set_fastpath_enabled(fused)
    return found[0]


def test_a_layer_outside_the_blocks_is_an_error_by_name() -> None:
    model, data, _, _ = made("llama")
    with pytest.raises(InputError, match="lm_head is in no run of blocks"):
        quantize_blocks(model, Plan.uniform(), data, RoundToNearest())


def test_children_that_are_not_chained_are_no_blocks() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.paths = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2))

        def forward(self, values: Tensor) -> Tensor:
            return self.paths[0](values) + self.paths[1](values)

    model = Parallel()
    assert [len(run) for run in find_runs(model, ["paths.0.0", "paths.1.0"])] == [2]
    data = calibration.load([{"values": torch.randn(2, 4)}])
    with pytest.raises(InputError, match=r"paths.0.0 and 1 more are in no run"):
        quantize_blocks(model, Plan.uniform(activation_granularity="token"), data, RoundToNearest())


class _Fails:
    """GPTQ that fails on a block, as an interruption would."""

    data = True

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]:
        if block.name == self.name:
            raise InputError(f"{block.name}: stopped")
        return Gptq()(block, streams)


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Any) -> None:
    model, data, _, outside = made("llama")
    plan = Plan((Rule(".*", weight_bits=3, group_size=16, activation_bits=None), Rule(str(outside), skip=True)))
    whole = quantize_blocks(model, plan, data, Gptq()).state_dict()
    with RunDirectory.open(tmp_path, {}) as run, pytest.raises(InputError, match=r"layers.2: stopped"):
        quantize_blocks(model, plan, data, _Fails("model.layers.2"), job=Job(run))
    done: list[str] = []
    with RunDirectory.open(tmp_path, {}, resume=True) as run:
        resumed = quantize_blocks(model, plan, data, _Fails("model.layers.0"), job=Job(run, done.append)).state_dict()
    assert done == [f"model.layers.{i}" for i in range(3)]
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
