"""The layers of a model that can be quantised: finding them, and putting others in their places."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from quant.primitives.attention import ProjectedAttention
from quant.primitives.embedding import TiedEmbedding
from quant.primitives.experts import Experts, holds_experts
from quant.primitives.linear import QuantisedLinear
from sim.reference import InputError


def matrix_of(module: nn.Module | None) -> Tensor | None:
    """The weights (out, in) of a layer that can be quantised, None for any other module.

    Those are plain `nn.Linear` (a subclass may use its weights elsewhere) and transformers' `Conv1D` (GPT-2), which
    holds them transposed.
    """
    if type(module) is nn.Linear:
        return module.weight
    if type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils":
        return module.get_parameter("weight").t()  # pyright: ignore[reportOptionalMemberAccess]
    return None


def unfold(model: nn.Module) -> nn.Module:
    """The model, changed in place, with a linear layer for every matrix that a module holds packed with others.

    Those modules are `nn.MultiheadAttention` and transformers' experts of one tensor. The outputs stay the same.
    """
    made: dict[int, nn.Module] = {}
    for module in model.modules():
        if type(module) is nn.MultiheadAttention:
            made[id(module)] = ProjectedAttention(module)
        elif holds_experts(module):
            made[id(module)] = Experts(module)
    if made:
        replace(model, made)
    return made.get(id(model), model)


def unfolded(model: nn.Module) -> nn.Module:
    """An unfolded copy that shares the tensors of the model, which stays as it is."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return unfold(copy.deepcopy(model, shared))


def quantisable(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that a plan's rules are matched against, by their first names; see `matrix_of` and `unfold`."""
    return {name: module for name, module in model.named_modules() if name and matrix_of(module) is not None}


def tied_embeddings(model: nn.Module, replacements: Mapping[int, nn.Module]) -> dict[int, nn.Module]:
    """An embedding on the codes of a replaced linear layer for each one that held the same matrix, by its id.

    Raises `InputError` if such a layer's inputs are rotated.
    """
    matrices: dict[int, QuantisedLinear] = {}
    for module in model.modules():
        layer = replacements.get(id(module))
        if isinstance(layer, QuantisedLinear) and type(module) is nn.Linear:
            matrices.setdefault(id(module.weight), layer)
    tied = [
        module for module in model.modules()
        if type(module) is nn.Embedding and module.max_norm is None and id(module.weight) in matrices
    ]  # fmt: skip
    for layer in (matrices[id(module.weight)] for module in tied):
        if layer.hadamard is not None:
            raise InputError(f"{layer.name}: is tied to an embedding, which has no inputs to transform by hadamard")
    return {id(m): TiedEmbedding(matrices[id(m.weight)], m.weight.dtype, m.padding_idx) for m in tied}


def replace(model: nn.Module, replacements: Mapping[int, nn.Module]) -> None:
    """Put each new module wherever the one of that id stands, also where several parents share it.

    PyTorch's encoder layers have a fused path that reads the weights of their linear layers; they are taken off it.
    """
    for parent in list(model.modules()):
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # what the fused path asks for first
        if isinstance(parent, nn.TransformerEncoder):
            parent.use_nested_tensor = False
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in replacements:
                setattr(parent, name, replacements[id(child)])
