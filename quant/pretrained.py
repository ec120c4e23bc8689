"""Quantised models as folders: `save_pretrained` and `from_pretrained` on the packed container."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quant.formats.checkpoint import build_model
from quant.formats.packed import SHARD_BYTES, PackedModel
from quant.formats.packed_schema import require_details
from quant.methods.layers import matrix_of, replace, unfold
from quant.methods.post_training import (
    ATTRIBUTE,
    Quantisation,
    activation_from,
    activation_row,
    quantisation_of,
)
from quant.primitives.embedding import TiedEmbedding
from quant.primitives.linear import QuantisedLinear
from sim.common.files import locked, write_whole
from sim.reference import InputError

MAKER = "quant"
BOUNDARY = {
    "linear": "codes in, exact integer sums; scales and bias in floating point after the sum",
    "elsewhere": "floating point: embeddings, normalisation, attention and activation functions",
}
# what a tokeniser needs beside the weights
COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
              "vocab.json", "merges.txt", "spiece.model", "tokenizer.model",
              "chat_template.jinja", "generation_config.json")  # fmt: skip


def pack_model(model: nn.Module) -> PackedModel:
    """A quantised model as a container. Raises `InputError` if the model is not quantised."""
    done = quantisation_of(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, QuantisedLinear)}
    buffers = {f"{name}.{key}" for name, layer in layers.items() for key, _ in layer.named_buffers()}
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[tuple, str] = {}
    shared = {
        name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, QuantisedLinear)
    }
    for name, tensor in model.state_dict().items():
        if name in buffers or any(name.startswith(f"{other}.") for other in shared - set(layers)):
            continue
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and place in seen:
            tied[name] = seen[place]
            continue
        seen[place] = name
        tensors[name] = tensor
    names = {id(layer): name for name, layer in layers.items()}
    for name, module in model.named_modules():
        if isinstance(module, TiedEmbedding):
            tied[f"{name}.weight"] = f"{names[id(module.layer)]}.weight"
    details: dict[str, Any] = {
        "maker": MAKER,
        "layers": {
            name: {"activation": None if layer.activation is None else activation_row(layer.activation)}
            for name, layer in layers.items()
        },
        "rows": [dict(row) for row in done.rows],
        "tied": tied,
        "coverage": dict(done.coverage),
    }
    return PackedModel(
        plan=done.plan,
        weights={f"{name}.weight": layer.weight for name, layer in layers.items()},
        tensors=tensors,
        boundary=BOUNDARY,
        bounds={name: layer.bound for name, layer in layers.items() if layer.bound is not None},
        details=details,
        data_sha256=done.data_sha256,
    )


def save_pretrained(model: nn.Module, folder: str | Path, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write a quantised model as a `bitwright-packed` folder, and the config.json of a transformers model beside it.

    Parameters
    ----------
    model : nn.Module
        A model from `quantize` or `from_pretrained`.
    folder : str or Path
        The folder to write; an earlier model in it is replaced.
    shard_bytes : int
        Size at which a further safetensors file begins.

    Returns
    -------
    Path
        The path of packed.json.

    Raises
    ------
    InputError
        If the model is not quantised, the folder cannot be written, or another run is writing there.
    """
    quantisation_of(model)  # before the folder is made
    with locked(Path(folder)):
        return write_model(model, folder, shard_bytes)


def write_model(model: nn.Module, folder: str | Path, shard_bytes: int = SHARD_BYTES) -> Path:
    """As `save_pretrained`, for a caller that holds the folder's lock."""
    packed = pack_model(model)
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "to_json_string"):
        content = json.loads(config.to_json_string())
        content["architectures"] = [type(model).__name__]
        write_whole(Path(folder) / "config.json", json.dumps(content, indent=2) + "\n")
    return packed.save(folder, shard_bytes)


def from_pretrained(
    folder: str | Path,
    model: nn.Module | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Load the quantised model in a folder.

    Parameters
    ----------
    folder : str or Path
        A `bitwright-packed` folder of `save_pretrained` or of the command.
    model : nn.Module, optional
        A fresh model of the same architecture, which is changed in place. Without it the folder's config.json is built
        through transformers.
    device : str or torch.device
        Where the model is put.
    dtype : torch.dtype, optional
        Format of what stays floating point; by default as it was saved.

    Returns
    -------
    nn.Module
        The model in evaluation mode.

    Raises
    ------
    InputError
        If the folder is damaged or does not fit the model; one line with the file and key.
    """
    packed = PackedModel.load(folder)
    path = Path(folder) / "packed.json"
    if packed.details.get("maker") != MAKER:
        raise InputError(f"{path}: was made by {packed.details.get('maker')!r}, whose own loader must read it")
    require_own_details(packed, folder)
    if model is None:
        kinds = [tensor.dtype for tensor in packed.tensors.values() if tensor.is_floating_point()]
        model = build_model(folder, dtype or (max(kinds, key=kinds.count) if kinds else torch.float32))
    elif dtype is not None:
        model.to(dtype)
    model = unfold(model)
    replacements: dict[int, nn.Module] = {}
    made: dict[str, QuantisedLinear] = {}
    modules = dict(model.named_modules())
    for name, row in packed.details["layers"].items():
        linear = modules.get(name)
        matrix = matrix_of(linear)
        if linear is None or matrix is None:
            raise InputError(f"{path}: {name} must be a linear layer of the model")
        weight = packed.weights[f"{name}.weight"]
        if tuple(weight.codes.shape) != tuple(matrix.shape):
            wanted, found = tuple(matrix.shape), tuple(weight.codes.shape)
            raise InputError(f"{path}: {name}.weight must be of shape {wanted}, not {found}")
        bias = packed.tensors.get(f"{name}.bias")
        activation = None if row["activation"] is None else activation_from(row["activation"])
        made[f"{name}.weight"] = replacements[id(linear)] = QuantisedLinear(weight, bias, activation, name)
    for name, source in packed.details["tied"].items():
        if source not in made:
            continue
        embedding, shape = modules.get(name.removesuffix(".weight")), tuple(made[source].weight.codes.shape)
        if not isinstance(embedding, nn.Embedding) or tuple(embedding.weight.shape) != shape:
            raise InputError(f"{path}: {name} must be an embedding of shape {shape} in the model")
        replacements[id(embedding)] = TiedEmbedding(made[source], embedding.weight.dtype, embedding.padding_idx)
    replace(model, replacements)
    _load(model, packed, path)
    setattr(
        model,
        ATTRIBUTE,
        Quantisation(
            packed.plan, packed.data_sha256, tuple(packed.details["rows"]), packed.details.get("coverage", {})
        ),
    )
    return model.to(device=device).eval()


def require_own_details(packed: PackedModel, folder: str | Path) -> None:
    """Raise `InputError`, with the file and key, unless the details are such as this package writes."""
    try:
        require_details(packed.details, packed.tensors, packed.weights)
    except InputError as error:
        raise InputError(f"{Path(folder) / 'packed.json'}: {error}") from None


def _load(model: nn.Module, packed: PackedModel, path: Path) -> None:
    """Copy what is not a code into the model, each tensor checked by name and shape."""
    tied = {name: source for name, source in packed.details["tied"].items() if source in packed.tensors}
    stored = {**packed.tensors, **{name: packed.tensors[source] for name, source in tied.items()}}
    layers = [name for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, QuantisedLinear)]
    targets = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{layer}.") for layer in layers)
    }
    present = {tensor.data_ptr() for name, tensor in targets.items() if name in stored}
    for name, tensor in list(targets.items()):
        if name not in stored:
            if tensor.data_ptr() not in present:  # tied to one that is
                raise InputError(f"{path}: {name} is missing")
            del targets[name]
        elif stored[name].shape != tensor.shape:
            raise InputError(f"{path}: {name} must be of shape {tuple(tensor.shape)}, not {tuple(stored[name].shape)}")
    with torch.no_grad():
        for name, tensor in targets.items():
            tensor.copy_(stored[name])
