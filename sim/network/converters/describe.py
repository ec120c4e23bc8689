"""From a user's model to the graph of operators: BERT's family of Hugging Face transformers, `nn.TransformerEncoder`.

Every module of the model is either claimed by an operator, or known to do nothing in evaluation, or beyond the
boundary; anything else is refused by its name.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.primitives.linear import QuantisedLinear
from sim.network.encoder import Encoder, Layer, LayerModules
from sim.network.operators.base import Operator
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Embedding, Input
from sim.reference import InputError

ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh",
    "gelu_python": "gelu", "silu": "silu", "swish": "silu", "relu": "relu", "hardswish": "hswish",
}  # fmt: skip
TORCH_ROW_LENGTH = 4096  # nn.TransformerEncoder says nothing of its longest input
HARMLESS = (nn.Dropout, nn.Identity)


@dataclass(frozen=True)
class Paths:
    """Where one kind of model keeps its parts, by attribute; "" where it has none."""

    layers: str
    attention: str
    query: str
    key: str
    value: str
    out: str
    norm1: str
    up: str
    activation: str
    down: str
    norm2: str
    heads: str
    positions: str
    pad: str = ""


_BERT = Paths(
    "encoder.layer", "attention.self", "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "intermediate.intermediate_act_fn",
    "output.dense", "output.LayerNorm", "num_attention_heads", "max_position_embeddings",
)  # fmt: skip
_DISTILBERT = Paths(
    "transformer.layer", "attention", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
    "sa_layer_norm", "ffn.lin1", "ffn.activation", "ffn.lin2", "output_layer_norm", "n_heads",
    "max_position_embeddings",
)  # fmt: skip
FAMILY: Mapping[str, Paths] = {"BertModel": _BERT, "RobertaModel": _BERT, "DistilBertModel": _DISTILBERT}
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
KNOWN = f"known are {', '.join(FAMILY)} and nn.TransformerEncoder"


def describe(model: nn.Module) -> Encoder:
    """The model as operators, in floating point, on the model's own parameters.

    Raises `InputError` with the name of the first module that has no integer operator.
    """
    kind = type(model).__name__
    if isinstance(model, nn.TransformerEncoder):
        encoder, outside = _torch(model), []
    elif kind in FAMILY and type(model).__module__.startswith("transformers."):
        encoder, outside = _huggingface(model, FAMILY[kind]), ["pooler"]
    else:
        inner = [name for name, child in model.named_children() if type(child).__name__ in FAMILY]
        hint = f"; give its {inner[0]} instead" if inner else ""
        raise InputError(f"model must be an encoder that can be converted, not {kind} ({KNOWN}){hint}")
    _require_claimed(model, encoder, outside)
    for operator in encoder.operators():
        if isinstance(operator, Linear):
            for name, layer in zip(operator.names, operator.layers, strict=True):
                _require_type(name, layer, nn.Linear)
    return encoder.eval()


def real_linear(module: nn.Module) -> Any:
    """A layer that `quant` has quantised as the linear layer its codes stand for, which keeps them; others as they are.

    The codes are its attribute `quantised`, and `convert` takes them as they are.
    """
    if not isinstance(module, QuantisedLinear):
        return module
    layer = nn.Linear(module.in_features, module.out_features, module.bias is not None)
    layer.weight = nn.Parameter(module.weight.dequantise())
    if module.bias is not None:
        layer.bias = nn.Parameter(module.bias.detach().clone())
    layer.quantised = module.weight  # pyright: ignore[reportArgumentType]
    return layer


def _huggingface(model: nn.Module, paths: Paths) -> Encoder:
    config: Any = model.config
    for key, allowed in (("is_decoder", False), ("add_cross_attention", False), ("position_embedding_type", "absolute"),
                         ("sinusoidal_pos_embds", None)):  # fmt: skip
        value = getattr(config, key, allowed)
        if value != allowed and allowed is not None:
            raise InputError(f"config: {key} must be {allowed!r} for the integer network, not {value!r}")
    function = config.activation if paths is _DISTILBERT else config.hidden_act
    if function not in ACTIVATIONS:
        raise InputError(f"config: hidden_act must be one of {', '.join(ACTIVATIONS)}, not {function!r}")
    layers = []
    for i, block in enumerate(model.get_submodule(paths.layers).children()):
        prefix = f"{paths.layers}.{i}."

        def part(path: str, block: nn.Module = block, prefix: str = prefix) -> tuple[str, Any]:
            return prefix + path, real_linear(block.get_submodule(path))

        layers.append(
            Layer(
                LayerModules(
                    qkv=dict(map(part, (paths.query, paths.key, paths.value))),
                    attention=prefix + paths.attention,
                    heads=getattr(config, paths.heads),
                    out=dict([part(paths.out)]),
                    norm1=part(paths.norm1),
                    up=dict([part(paths.up)]),
                    activation=(prefix + paths.activation, ACTIVATIONS[function]),
                    down=dict([part(paths.down)]),
                    norm2=part(paths.norm2),
                )
            )
        )
    encoder = Encoder("bert", layers, getattr(config, paths.positions))
    tables = {f"embeddings.{n}": t for n, t in model.get_submodule("embeddings").named_children() if n in EMBEDDINGS}
    ordered = {key: tables[key] for key in (f"embeddings.{name}" for name in EMBEDDINGS) if key in tables}
    encoder.embedding = Embedding("embeddings", ordered)  # pyright: ignore[reportArgumentType]
    encoder.norm = Norm("embeddings.LayerNorm", model.get_submodule("embeddings.LayerNorm"))  # pyright: ignore
    if type(model).__name__ == "RobertaModel":
        encoder.padding = config.pad_token_id
        encoder.row_length -= config.pad_token_id + 1
    return encoder


def _torch(model: nn.TransformerEncoder) -> Encoder:
    layers, batch_first = [], True
    for i, block in enumerate(model.layers):
        name = f"layers.{i}"
        if not isinstance(block, nn.TransformerEncoderLayer):
            raise InputError(f"{name}: {type(block).__name__} has no integer operator (nn.TransformerEncoderLayer has)")
        attention = block.self_attn
        batch_first = attention.batch_first
        if attention.bias_k is not None or attention.add_zero_attn or not attention._qkv_same_embed_dim:
            raise InputError(f"{name}.self_attn: bias_k, add_zero_attn, kdim and vdim have no integer operator")
        layers.append(
            Layer(
                LayerModules(
                    qkv=_fused(f"{name}.self_attn", attention),
                    attention=f"{name}.self_attn",
                    heads=attention.num_heads,
                    out={f"{name}.self_attn.out_proj": real_linear(attention.out_proj)},
                    norm1=(f"{name}.norm1", block.norm1),
                    up={f"{name}.linear1": real_linear(block.linear1)},
                    activation=(f"{name}.activation", _function(f"{name}.activation", block.activation)),
                    down={f"{name}.linear2": real_linear(block.linear2)},
                    norm2=(f"{name}.norm2", block.norm2),
                    norm_first=block.norm_first,
                )
            )
        )
    encoder = Encoder("torch", layers, TORCH_ROW_LENGTH)
    encoder.batch_first = batch_first
    encoder.input = Input("input")
    if model.norm is not None:
        encoder.final = Norm("norm", model.norm)  # pyright: ignore[reportArgumentType]
    return encoder


def _fused(name: str, attention: nn.MultiheadAttention) -> dict[str, nn.Linear]:
    """The three projections that `nn.MultiheadAttention` keeps in one parameter."""
    assert attention.in_proj_weight is not None
    weights = attention.in_proj_weight.detach().chunk(3)
    biases = [None] * 3 if attention.in_proj_bias is None else attention.in_proj_bias.detach().chunk(3)
    layers = {}
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        layer.weight = nn.Parameter(weight.clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.clone())
        layers[f"{name}.{part}"] = layer
    return layers


def _function(name: str, activation: Any) -> str:
    for function, kind, known in (
        (functional.relu, nn.ReLU, "relu"),
        (functional.gelu, nn.GELU, "gelu"),
        (functional.silu, nn.SiLU, "silu"),
        (functional.hardswish, nn.Hardswish, "hswish"),
    ):
        if activation is function:
            return known
        if isinstance(activation, kind):
            return "gelu-tanh" if getattr(activation, "approximate", "none") == "tanh" else known
    label = getattr(activation, "__name__", type(activation).__name__)
    raise InputError(f"{name}: {label} has no integer operator (relu, gelu, silu and hardswish have)")


def _require_claimed(model: nn.Module, encoder: Encoder, outside: Iterable[str]) -> None:
    """Every module without children must belong to an operator, do nothing, or lie beyond the boundary."""
    claimed = {id(module) for module in encoder.modules()}
    linears = {name for operator in encoder.operators() if isinstance(operator, Linear) for name in operator.names}
    for operator in encoder.operators():
        claimed |= {id(model_module) for model_module in _activation_modules(model, operator)}
        if isinstance(operator, Norm):
            _require_type(operator.name, operator.layer, (nn.LayerNorm, nn.RMSNorm))
            if len(operator.layer.normalized_shape) != 1:
                raise InputError(f"{operator.name}: a norm over several axes has no integer operator")
        if isinstance(operator, Embedding):
            for name, table in zip(operator.names, operator.tables, strict=True):
                _require_type(name, table, nn.Embedding)
                if table.max_norm is not None:
                    raise InputError(f"{name}: max_norm has no integer operator")
    for name, module in model.named_modules():
        beyond = any(name == part or name.startswith(f"{part}.") for part in outside)
        if isinstance(module, QuantisedLinear) and name in linears:
            continue
        if id(module) in claimed or beyond or isinstance(module, HARMLESS) or any(True for _ in module.children()):
            continue
        raise InputError(f"{name}: {type(module).__name__} has no integer operator")
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise InputError(f"{name}: forward hooks have no integer operator; remove them first")


def _activation_modules(model: nn.Module, operator: Operator) -> list[nn.Module]:
    """The module that an activation stands for, where the model has one."""
    if operator.kind != "activation":
        return []
    try:
        return [model.get_submodule(operator.name)]
    except AttributeError:
        return []


def _require_type(name: str, module: nn.Module, kinds: Any) -> None:
    """A subclass may compute anything, so the type must be the very one."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    own = (*kinds, nn.modules.linear.NonDynamicallyQuantizableLinear)
    if type(module) not in own:
        raise InputError(f"{name}: {type(module).__name__} has no integer operator")


@contextlib.contextmanager
def _real_activations(model: nn.Module) -> Iterator[None]:
    """Quantised layers take their inputs in floating point meanwhile."""
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
def require_same(model: nn.Module, encoder: Encoder, batch: Mapping[str, Any]) -> None:
    """The graph must compute what the model computes, on one batch. Raises `InputError` where it does not."""
    with _real_activations(model):
        expected = model(**batch)
    expected = expected if isinstance(expected, Tensor) else expected.last_hidden_state
    got = encoder(**batch).last_hidden_state
    mask = batch.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        expected, got = expected[mask != 0], got[mask != 0]
    padding = batch.get("src_key_padding_mask")
    if padding is not None and getattr(encoder, "batch_first", True):
        expected, got = expected[~padding], got[~padding]
    if not torch.isfinite(expected).all():
        raise InputError("model: gives NaN or infinity on the calibration data")
    worst = float((expected - got).abs().max() / expected.abs().max().clamp(min=1e-6))
    if worst > 1e-3:
        raise InputError(f"model: computes something else than its modules say (difference {worst:.3g} of the maximum)")
