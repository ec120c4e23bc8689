"""Coverage: how much of a model became integers, what stayed floating point, and the sizes before and after."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from quant.formats.packed import PackedModel, weight_tensors
from quant.methods.layers import quantisable
from quant.primitives.linear import QuantisedLinear


def coverage_of(model: nn.Module) -> dict[str, Any]:
    """How much of a quantised model is in integers, and what is not.

    Parameters
    ----------
    model : nn.Module
        A model with `QuantisedLinear` layers.

    Returns
    -------
    dict
        `integer_parameters`, `parameters` and their ratio `share`. `integer_multiply_accumulates`,
        `multiply_accumulates` and `multiply_accumulate_share`: products with weights for one token, every expert
        counted; products of two activations, as in attention, are not among them. `skipped`: the class of each module
        that keeps a matrix in floating point, by name; `skipped_layers`: those that a plan could quantise.
    """
    layers = [module for module in model.modules() if isinstance(module, QuantisedLinear)]
    integer = sum(layer.get_buffer("codes").numel() for layer in layers)
    total = integer + sum(parameter.numel() for parameter in model.parameters())
    products = integer + sum(map(weight_products, model.modules()))
    skipped = {
        name: type(module).__name__
        for name, module in model.named_modules()
        if any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
    }
    return {
        "integer_parameters": integer,
        "parameters": total,
        "share": integer / total,
        "integer_multiply_accumulates": integer,
        "multiply_accumulates": products,
        "multiply_accumulate_share": integer / products,
        "skipped": skipped,
        "skipped_layers": [name for name in quantisable(model) if name in skipped],
    }


def coverage_of_packed(packed: PackedModel) -> dict[str, Any]:
    """The coverage of a packed model whose architecture is unknown: parameters, and the matrices left by name.

    Without the architecture nobody can say which matrices multiply, so multiply-accumulates are not counted.
    """
    integer = sum(weight.codes.numel() for weight in packed.weights.values())
    total = integer + sum(tensor.numel() for tensor in packed.tensors.values())
    skipped = {name.removesuffix(".weight"): str(tensor.dtype).removeprefix("torch.")
               for name, tensor in packed.tensors.items() if tensor.ndim > 1}  # fmt: skip
    stored = [part for weight in packed.weights.values() for part in weight_tensors(weight).values()]
    return {
        "integer_parameters": integer,
        "parameters": total,
        "share": integer / total,
        "skipped": skipped,
        "bytes_after": bytes_of([*stored, *packed.tensors.values()]),
    }


def coverage_line(coverage: Mapping[str, Any]) -> str:
    """The coverage in one line for people."""
    skipped = [f"{name} ({kind})" for name, kind in coverage["skipped"].items()]
    kept = f"; in floating point: {', '.join(skipped)}" if skipped else ""
    products = ""
    if "multiply_accumulate_share" in coverage:
        share = 100 * coverage["multiply_accumulate_share"]
        products = f" and {share:.1f} % of {coverage['multiply_accumulates']} multiply-accumulates with weights a token"
    return f"{100 * coverage['share']:.1f} % of {coverage['parameters']} parameters{products} are integers{kept}"


def size_line(coverage: Mapping[str, Any]) -> str:
    """The sizes before and after in one line for people."""
    before, after = coverage["bytes_before"], coverage["bytes_after"]
    line = f"{before} bytes before, {after} after ({after / before:.2f} of it)"
    return line if after <= before else f"{line}: larger; --dtype auto keeps the rest in the format of the files"


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, those that share their memory counted once."""
    held = {(tensor.data_ptr(), tensor.nbytes): tensor.nbytes for tensor in tensors if tensor.nbytes}
    return sum(held.values())


def unquantised(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a quantised model, by name, that are not codes or scales of a quantised layer."""
    layers = [(name, m) for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, QuantisedLinear)]
    integers = {f"{name}.{key}" for name, layer in layers for key, _ in layer.named_buffers()}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in integers}


def weight_products(module: nn.Module) -> int:
    """Multiply-accumulates of a module's own real weights for one token (of a convolution: for one output position).

    Embeddings are looked up, vectors are added or scaled, and so is a parameter whose first axis is 1: none multiplies
    as a matrix.
    """
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return 0
    return sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1 and p.shape[0] > 1)
