"""The converter of a model, found by its class, and the checks of every conversion.

Every module of the model must be claimed by an operator, do nothing in evaluation, or lie outside the boundary;
otherwise the model is refused with the module's name.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import token_mask
from sim.network.converters import bert, digits, gpt2, linear_attention, llama, segformer, torch_encoder, vit
from sim.network.graph import Graph, Network
from sim.reference import InputError

Converter = Callable[[Any], Graph]

CONVERTERS: dict[str, Converter] = {  # by package and class
    "transformers.BertModel": bert.convert_bert,
    "transformers.RobertaModel": bert.convert_roberta,
    "transformers.XLMRobertaModel": bert.convert_roberta,
    "transformers.CamembertModel": bert.convert_roberta,
    "transformers.ElectraModel": bert.convert_bert,
    "transformers.MPNetModel": bert.convert_mpnet,
    "transformers.DistilBertModel": bert.convert_distilbert,
    "transformers.LlamaModel": llama.convert,
    "transformers.MistralModel": llama.convert,
    "transformers.Qwen2Model": llama.convert,
    "transformers.GPT2Model": gpt2.convert,
    "transformers.ViTModel": vit.convert_vit,
    "transformers.DeiTModel": vit.convert_deit,
    "transformers.Dinov2Model": vit.convert_dinov2,
    "transformers.SegformerModel": segformer.convert_encoder,
    "transformers.SegformerForSemanticSegmentation": segformer.convert_segmenter,
    "torch.TransformerEncoder": torch_encoder.convert,
    "quant.Digits": digits.convert,
    "quant.LinearAttentionSegmenter": linear_attention.convert,
}
HARMLESS = (nn.Dropout, nn.Identity)
CAPTURING = "transformers.utils.output_capturing"  # hooks that only keep what they see, left behind by a first call


def describe(model: nn.Module) -> Network:
    """The model as operators, in floating point, on the model's own parameters.

    Raises InputError with the name of the first module that has no integer operator.
    """
    converter = _converter_of(model)
    if converter is None:
        known = ", ".join(CONVERTERS)
        raise InputError(f"model must be a model that can be converted, not {type(model).__name__} (known are {known})")
    network = Network(converter(model))
    _require_claimed(model, network)
    return network.eval()


def without_head(model: nn.Module) -> nn.Module:
    """The model inside one with a head that has no converter (`BertModel` in `BertForMaskedLM`), else the model itself.

    What the model has beside it lies outside the boundary and stays floating point.
    """
    if _converter_of(model) is None:
        inner = [child for child in model.children() if _converter_of(child) is not None]
        if len(inner) == 1:
            return inner[0]
    return model


def converts_whole(config: Mapping[str, Any]) -> bool:
    """Whether a folder's config.json names a model whose head has a converter too."""
    names = config.get("architectures") or []
    return any(f"transformers.{name}" in CONVERTERS and not name.endswith("Model") for name in names)


def _converter_of(model: nn.Module) -> Converter | None:
    """The converter of the model's class, or of the nearest class that it is derived from."""
    names = (f"{cls.__module__.split('.')[0]}.{cls.__name__}" for cls in type(model).__mro__)
    return next((CONVERTERS[name] for name in names if name in CONVERTERS), None)


def _require_claimed(model: nn.Module, network: Network) -> None:
    """Raise InputError unless every module without children is claimed, does nothing, or lies outside the boundary."""
    claimed: set[int] = set()
    named: set[str] = set()
    for operator in network.operators():
        claimed |= {id(module) for module in operator.claims().values()}
        named.add(operator.name)
    for name, module in model.named_modules():
        beyond = any(name == part or name.startswith(f"{part}.") for part in network.graph.outside)
        known = id(module) in claimed or name in named or beyond or _is_harmless(module)
        if not known and not any(True for _ in module.children()):
            raise InputError(f"{name}: {type(module).__name__} has no integer operator")
    for name, module in model.named_modules():
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        if any(getattr(hook, "__module__", None) != CAPTURING for hook in hooks):
            raise InputError(f"{name}: forward hooks have no integer operator; remove them first")


def _is_harmless(module: nn.Module) -> bool:
    """Whether the module does nothing in evaluation; each model of transformers has a DropPath of its own."""
    return isinstance(module, HARMLESS) or type(module).__name__.endswith("DropPath")


@contextlib.contextmanager
def _real_activations(model: nn.Module) -> Iterator[None]:
    """Quantised layers take floating-point inputs within the context."""
    layers = [module for module in model.modules() if isinstance(module, QuantisedLinear)]
    kept = [layer.activation for layer in layers]
    try:
        for layer in layers:
            layer.activation, layer._ready = None, None
        yield
    finally:
        for layer, activation in zip(layers, kept, strict=True):
            layer.activation, layer._ready = activation, None


@torch.no_grad()
def require_same(model: nn.Module, network: Network, batch: Mapping[str, Any]) -> None:
    """Raise InputError unless the graph computes what the model computes on one batch."""
    with _real_activations(model):
        expected = model(**batch)
    if not isinstance(expected, Tensor):
        expected = expected.logits if "logits" in expected else expected.last_hidden_state
    got = network(**batch).last_hidden_state
    mask = token_mask(batch)
    if mask is not None and network.shapes()[network.graph.output][:2] == ("batch", "tokens"):
        expected, got = expected[mask], got[mask]
    if not torch.isfinite(expected).all():
        raise InputError("model: gives NaN or infinity on the calibration data")
    worst = float((expected - got).abs().max() / expected.abs().max().clamp(min=1e-6))
    if worst > 1e-3:
        raise InputError(f"model: computes something else than its modules say (difference {worst:.3g} of the maximum)")
