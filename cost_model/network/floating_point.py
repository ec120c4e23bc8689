"""What a packed model of `quant` leaves in floating point: matrices, and the products of two activations in attention.

A packed folder holds no architecture, so both are found by the names and shapes of its tensors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from quant.formats.packed_index import PackedIndex

# an attention's own layers: those of its queries apart, or queries, keys and values in one matrix
QUERIES = {"q_proj": "k_proj", "query": "key", "q_lin": "k_lin", "to_q": "to_k", "q": "k"}
TOGETHER = ("in_proj", "in_proj_weight", "c_attn", "qkv", "qkv_proj", "query_key_value", "Wqkv")

UNKNOWN = ("matrix", "float64", "float32", "float16", "bfloat16")  # kinds of modules that are no classes


@dataclass(frozen=True)
class Matrices:
    """The matrices of a module in floating point; `macs` is None for a convolution, whose positions are not known."""

    name: str
    kind: str
    tensors: tuple[str, ...]
    macs: int | None


def is_floating(kind: str) -> bool:
    """Whether a safetensors type is floating point."""
    return kind.startswith(("F", "BF"))


def floating_matrices(index: PackedIndex, kinds: Mapping[str, str], tokens: int) -> list[Matrices]:
    """The floating-point matrices by module, for a number of tokens; `kinds` gives classes of modules, as far as known.

    Every expert of a layer of experts is counted for every token. A matrix that two modules share is each one's.
    """
    tied = index.content["details"].get("tied", {})
    known = {**index.tensors, **{name: index.tensors[of] for name, of in tied.items() if of in index.tensors}}
    modules: dict[str, list[str]] = {}
    for name, tensor in known.items():
        if is_floating(tensor.kind) and len(tensor.shape) > 1:
            modules.setdefault(name.rpartition(".")[0], []).append(name)
    found = []
    for name, tensors in modules.items():
        kind = kinds.get(name, "matrix")
        macs = [_macs(kind, tensor, known[tensor].shape, tokens) for tensor in tensors]
        counts = [count for count in macs if count is not None]
        found.append(Matrices(name, kind, tuple(tensors), sum(counts) if len(counts) == len(macs) else None))
    return found


def attention_widths(index: PackedIndex) -> dict[str, int]:
    """The width of all heads' queries together, by the name of the attention's module.

    A score takes one multiply-accumulate for each of its head's channels, and so does the context.
    """
    shapes = {name.removesuffix(".weight"): row["shape"] for name, row in index.content["weights"].items()}
    for name, tensor in index.tensors.items():
        if is_floating(tensor.kind) and len(tensor.shape) == 2:
            shapes[name.removesuffix(".weight")] = tensor.shape
    found = {}
    for name, shape in shapes.items():
        module, _, layer = name.rpartition(".")
        if layer in QUERIES and f"{module}.{QUERIES[layer]}".lstrip(".") in shapes:
            found[module] = shape[0]
        elif layer in TOGETHER:
            found[module] = min(shape)
    return found


def _macs(kind: str, name: str, shape: tuple[int, ...], tokens: int) -> int | None:
    """Multiply-accumulates of one matrix: none if it is looked up or added, as an embedding is."""
    if shape[0] == 1 or _is_embedding(kind.lower(), name.lower()):
        return 0
    if len(shape) > 2 and "expert" not in f"{kind} {name}".lower():
        return None
    return math.prod(shape) * tokens


def _is_embedding(kind: str, name: str) -> bool:
    """Whether a tensor is an embedding by its module's class, or by its own name.

    A layer multiplies whatever the modules around it are called. Without a class its own name has to do.
    """
    if kind in UNKNOWN:
        own = name.removesuffix(".weight").rpartition(".")[2]
        return "embed" in own and not own.endswith(("project", "projection", "proj", "out"))
    return "embed" in kind or "embed" in name.rpartition(".")[2]
