"""The sites of a packed model: what each computes for a number of tokens, and the bytes that it stores.

There are two kinds of packed models. `python -m sim convert` writes whole networks in integers, in which every
operation is a site. `python -m quant quantize` writes models whose linear layers are in integers; of their
floating-point rest only the bytes are known.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.network.floating_point import attention_widths, floating_matrices
from cost_model.network.shapes import size
from quant.formats.packed_index import DESCRIPTION, PackedIndex
from sim.reference import InputError
from sim.reference.attention import WEIGHT_BITS as CONTEXT_BITS
from sim.reference.gemm import WEIGHT_BITS

REST = "other tensors"
CONTROL = "the control: correctly rounded values, for which there is no unit"
PER_TOKEN = "finding a token's scale and applying it"
MAGNITUDES = f"{PER_TOKEN}; a requantiser for each result stands for the product with its magnitudes"
SUM = "two products and a rounding per element; python -m cost_model unit prices its unit"
FROM_FLOATS = "rounding floating-point activations to codes"
ROTATED = ", and the Hadamard transform of floating-point activations before that"


@dataclass(frozen=True)
class Site:
    """A site of the model: its name, its kind, and the stored bytes of its tensors by role."""

    name: str
    kind: str
    bytes: Mapping[str, int]


@dataclass(frozen=True)
class Gemm(Site):
    """`jobs` products of activations (tokens, inputs) and weights (inputs, outputs).

    Weights of `stored_bits` wait in an array of `weight_bits`. In a product of two activations keys or values are the
    weights. `group` is None per channel, `multiplier_bits` 0 if every m_g is 1. `activation_bits` is None unless the
    activations are signed codes of at most 8 bits; `integer` is False if they are in floating point.
    `inputs_requantised` is for the site whose 16-bit inputs go through a requantiser first: of several on one input the
    first, since an input is quantised once. `inputs_scaled` is for the one before which each token gets its scale.
    `inputs_uncounted` says what makes the codes if no unit at the array does.
    """

    jobs: int
    tokens: int
    inputs: int
    outputs: int
    stored_bits: int
    weight_bits: int
    weight_signed: bool
    activation_bits: int | None
    group: int | None
    multiplier_bits: int
    out_bits: int | None
    inputs_requantised: bool = False
    inputs_scaled: bool = False
    inputs_uncounted: str | None = None
    integer: bool = True

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.jobs * self.tokens * self.inputs * self.outputs


@dataclass(frozen=True)
class Pwl(Site):
    """A function on codes: the number of `codes` for each of its tables, and the geometry of the tables."""

    codes: tuple[int, ...]
    entries: int
    in_bits: int
    coef_bits: int
    out_bits: int


@dataclass(frozen=True)
class InRows(Site):
    """`rows` rows of `length` elements for a rowwise unit; `kind` is softmax, layernorm or rmsnorm."""

    rows: int
    length: int


@dataclass(frozen=True)
class Transform(Site):
    """Hadamard transforms of `rows` rows of `length` codes of `in_bits`, in blocks; 16 bits out."""

    rows: int
    length: int
    block: int
    in_bits: int


@dataclass(frozen=True)
class Floating(Site):
    """Products that stay in floating point; `macs` is None if their number is not known."""

    macs: int | None


@dataclass(frozen=True)
class Uncounted(Site):
    """A site that is not priced: `why` is the reason, `elements` its size, `macs` its multiply-accumulates."""

    elements: int
    why: str
    macs: int = 0


@dataclass(frozen=True)
class Sum(Uncounted):
    """A sum of two tensors with scales of their own, for residual adders."""


def sites(
    index: PackedIndex, folder: str | Path, tokens: int, batch: int = 1, image: Sequence[int] | None = None
) -> list[Site]:
    """The sites in the order of execution; tensors without a site come last, so that all stored bytes are counted.

    Parameters
    ----------
    index : PackedIndex
    folder : str or Path
        Where it was read, for errors.
    tokens, batch : int
        Tokens of a sequence, and sequences or images.
    image : sequence of int, optional
        Height and width in pixels; a network whose sizes follow from the image needs them.

    Raises
    ------
    InputError
        The model is of neither maker, a row would be longer than the model allows, or the image is missing.
    """
    path = Path(folder) / DESCRIPTION
    details = index.content["details"]
    lengths = {"tokens": tokens, "batch": batch}
    if image is not None:
        lengths |= {"height": image[0], "width": image[1]}
    reader = _Reader(index, lengths)
    try:
        if "network" in details:
            found = reader.network(details["network"], details["operators"])
        elif details.get("maker") == "quant":
            found = reader.layers(details["layers"])
        else:
            raise InputError("was made neither by python -m sim convert nor by python -m quant")
        return [*found, Site(REST, "constants", reader.rest())]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise InputError(f"{path}: a key is missing or foreign ({error!r})") from None
    except ValueError as error:
        raise InputError(f"{path}: a size is no number ({error})") from None


class _Reader:
    """Reads a model's parts and keeps track of the tensors that have been counted."""

    def __init__(self, index: PackedIndex, lengths: Mapping[str, int]) -> None:
        self.index, self.lengths = index, lengths
        self.tokens, self.batch = lengths["tokens"], lengths["batch"]
        self.left = {name: len(tensor.data) for name, tensor in index.tensors.items()}

    def bytes(self, roles: Mapping[str, Iterable[str]]) -> dict[str, int]:
        """The bytes of tensors by role; each tensor is counted once."""
        sums = {role: sum(self.left.pop(name, 0) for name in names) for role, names in roles.items()}
        return {role: count for role, count in sums.items() if count}

    def rest(self) -> dict[str, int]:
        """The bytes of tensors that no site has counted."""
        floats = [n for n in self.left if self.index.tensors[n].kind.startswith(("F", "BF"))]
        return self.bytes({"floating point": floats, "integers": [n for n in self.left if n not in floats]})

    def network(self, shape: Mapping[str, Any], operators: Iterable[Mapping[str, Any]]) -> list[Site]:
        """The sites of an integer network, in the order of execution, without steps that only move values."""
        longest = shape["limits"].get("tokens")
        if longest is not None and self.tokens > longest:
            raise InputError(f"tokens must be at most the model's {longest}, not {self.tokens}")
        return [site for row in operators for site in SITES.get(row["kind"], _no_sites)(self, row)]

    def sizes(self, row: Mapping[str, Any], side: str, index: int = 0) -> tuple[int, ...]:
        """The shape of an input or output for these tokens, batches and pixels."""
        return tuple(size(text, self.lengths) for text in row[side][index]["shape"])

    def weight(self, name: str, path: str | None) -> dict[str, int]:
        """The bytes of a weight and of what belongs to its outputs, stored under `path`, or beside it if None."""
        roles: dict[str, list[str]] = {
            "codes": [f"{name}.codes"],
            "zero points": [f"{name}.zero_point"],
            "group multipliers": [f"{name}.group_multiplier"],
            "scales": [f"{name}.multiplier", f"{name}.shift"],
        }
        if path is None:
            roles["bias"] = [f"{name.removesuffix('.weight')}.bias"]
        else:
            roles["bias"] = [f"{path}.bias"]
            roles["requantisers"] = [f"{path}.multiplier", f"{path}.shift"]
        return self.bytes(roles)

    def linear(self, name: str, path: str | None, tokens: int, out_bits: int | None, **fields: Any) -> Gemm:
        row = self.index.content["weights"][name]
        outputs, inputs = row["shape"]
        return Gemm(
            name, "linear", self.weight(name, path), 1, tokens, inputs, outputs,
            stored_bits=row["bits"], weight_bits=_array_bits(row["bits"]), weight_signed=row["signed"],
            group=None if row["group_size"] >= inputs else row["group_size"],
            multiplier_bits=row["multiplier_bits"], out_bits=out_bits, **fields,
        )  # fmt: skip

    def tables(self, path: str) -> dict[str, int]:
        return self.bytes({"tables": [name for name in self.left if _is_table(name, path)]})

    def is_control(self, path: str) -> bool:
        """Whether a site has the correctly rounded values of its functions instead of tables."""
        return any(name.startswith(f"{path}.") and name.endswith(".values") for name in self.left)

    def layers(self, rows: Mapping[str, Any]) -> list[Site]:
        """The linear layers of a quantised model, each assumed to process every token, and its other products."""
        found: list[Site] = []
        for name, row in rows.items():
            activation = row["activation"] or {"bits": 32, "signed": True, "multiplier": None}
            bits = activation["bits"] if activation["signed"] and activation["bits"] <= 8 else None
            uncounted = FROM_FLOATS if activation["multiplier"] is not None else PER_TOKEN
            uncounted += ROTATED if "hadamard" in activation else ""
            found.append(
                self.linear(
                    f"{name}.weight", None, self.tokens * self.batch, None, activation_bits=bits,
                    inputs_uncounted=uncounted, integer=row["activation"] is not None,
                )
            )  # fmt: skip
        kinds = self.index.content["details"].get("coverage", {}).get("skipped", {})
        found += [
            Floating(m.name, m.kind, self.bytes({"floating point": m.tensors}), m.macs)
            for m in floating_matrices(self.index, kinds, self.tokens * self.batch)
        ]
        pairs = self.batch * self.tokens**2  # of a query and a key, masked or not
        found += [
            Floating(f"{name}.{product}", product, {}, pairs * width)
            for name, width in attention_widths(self.index).items()
            for product in PRODUCTS
        ]
        return found


def _linear(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    source, key = row["source"], row["key"]
    static, uncounted = source["kind"] == "static", PER_TOKEN if source["kind"] == "token" else None
    return [
        reader.linear(
            name, f"{key}.{k}", math.prod(reader.sizes(row, "inputs")[:-1]), row["outputs"][k]["bits"],
            activation_bits=source["bits"], inputs_requantised=static and k == 0,
            inputs_scaled=uncounted is not None and k == 0, inputs_uncounted=uncounted,
        )
        for k, name in enumerate(row["names"])
    ]  # fmt: skip


def _product(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    """A product for each head of each sequence; the array holds keys or values as weights."""
    activation_bits, weight_bits = (port["bits"] for port in row["inputs"])
    return [_heads(reader, row, row["kind"], row["heads"], activation_bits, weight_bits)]


def _token_product(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    """The same of codes with a scale for each token: the heads that share a key are rows of one product."""
    product = row["kind"].removeprefix("token-")
    bits = CONTEXT_BITS if product == "context" else 8
    return [replace(_heads(reader, row, product, row["key_heads"], bits, 8), inputs_uncounted=MAGNITUDES)]


def _heads(
    reader: _Reader, row: Mapping[str, Any], product: str, key_heads: int, activation_bits: int, weight_bits: int
) -> Gemm:
    """A product for each of the heads of keys or values, of activations and weights of these widths."""
    key = row["key"]
    rows, keys, width = reader.sizes(row, "inputs", 1)  # keys or values
    queries = row["heads"] // key_heads * reader.sizes(row, "inputs")[-2]
    inner, outer = PRODUCTS[product](keys, width // key_heads)
    stored = reader.bytes({"requantisers": [f"{key}.multiplier", f"{key}.shift"]})
    planes = -(-activation_bits // 8)  # a 16-bit code is two codes of 8 bits, a product each
    return Gemm(
        row["name"], row["kind"], stored, rows * key_heads * planes, queries, inner, outer,
        stored_bits=weight_bits, weight_bits=_array_bits(weight_bits), weight_signed=True,
        activation_bits=min(activation_bits, 8), group=None, multiplier_bits=0,
        out_bits=row["outputs"][0]["bits"],
    )  # fmt: skip


# inner and outer size of a head's product, from the number of keys and the head's width
PRODUCTS: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "scores": lambda keys, width: (width, keys),
    "context": lambda keys, width: (keys, width),
}


def _depthwise(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    """A product for each window and channel, which an array would not share."""
    elements = math.prod(reader.sizes(row, "outputs"))
    stored, why = reader.weight(row["name"], f"{row['key']}.0"), "products of single channels, which no array takes"
    return [Uncounted(row["name"], row["kind"], stored, elements, why, elements * row["kernel"] ** 2)]


def _linear_attention(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    """Two products of each head, with keys' and with queries' codes, that have a column for the sum of the weights."""
    key = row["key"]
    *rows, width = reader.sizes(row, "inputs")
    macs = 2 * math.prod(rows) * width * (width // row["heads"] + 1)
    stored = reader.bytes({"requantisers": [f"{key}.multiplier", f"{key}.shift"]}) | reader.tables(key)
    why = "products with 32-bit sums, which no array takes, and a division"
    return [Uncounted(row["name"], row["kind"], stored, math.prod(reader.sizes(row, "outputs")), why, macs)]


def _hadamard(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    *rows, length = reader.sizes(row, "inputs")
    return [Transform(row["name"], "hadamard", {}, math.prod(rows), length, row["block"], row["inputs"][0]["bits"])]


def _softmax(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    *rows, length = reader.sizes(row, "inputs")
    return [_rows(reader, row, "softmax", {}, math.prod(rows), length)]


def _norm(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    *rows, length = reader.sizes(row, "inputs")
    constants = {"gains and biases": [f"{row['key']}.gain", f"{row['key']}.bias"]}
    kind = "layernorm" if row["centring"] else "rmsnorm"
    return [_rows(reader, row, kind, constants, math.prod(rows), length)]


def _rows(
    reader: _Reader, row: Mapping[str, Any], unit: str, constants: Mapping[str, Iterable[str]], rows: int, length: int
) -> Site:
    """Rows for the unit, or an uncounted site if it has the control."""
    control = reader.is_control(row["key"])
    stored = reader.bytes(constants) | reader.tables(row["key"])
    if control:
        return Uncounted(row["name"], row["kind"], stored, rows * length, CONTROL)
    return InRows(row["name"], unit, stored, rows, length)


def _activation(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    """Each channel takes the table of its scale exponent."""
    *rows, channels = reader.sizes(row, "inputs")
    key, name, count = row["key"], row["name"], math.prod(rows)
    scales, control = reader.index.tensors.get(f"{key}.scales"), reader.is_control(key)
    stored = reader.bytes({"channel scales": [f"{key}.scales"]}) | reader.tables(key)
    if scales is None or control:
        why = "ReLU is a comparison" if scales is None else CONTROL
        return [Uncounted(name, "activation", stored, count * channels, why)]
    used, counts = np.unique(scales.integers(), return_counts=True)
    first = f"{key}.{row['function']}.{used[0]}"
    table = reader.index.content["tables"][first]
    return [
        Pwl(
            name, "pwl", stored,
            codes=tuple(int(number) * count for number in counts),
            entries=reader.index.tensors[f"{first}.slopes"].shape[0],
            in_bits=table["in_bits"], coef_bits=table["coef_bits"], out_bits=table["out_bits"],
        )
    ]  # fmt: skip


def _embedding(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    tables = [f"{row['key']}.{k}" for k in range(len(row["names"]))]
    elements = math.prod(reader.sizes(row, "outputs"))
    return [Uncounted(row["name"], "embedding", reader.bytes({"embeddings": tables}), elements, "a look-up in memory")]


def _sum(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    return [Sum(row["name"], row["kind"], {}, math.prod(reader.sizes(row, "outputs")), SUM)]


def _uncounted(why: str) -> "Maker":
    return lambda reader, row: [Uncounted(row["name"], row["kind"], {}, 0, why)]


def _no_sites(reader: _Reader, row: Mapping[str, Any]) -> list[Site]:
    """No site for a step without numbers; a site without a unit for an operator that is not in `SITES`."""
    if all(port["bits"] is None for port in row["outputs"]):
        return []
    return [Uncounted(row["name"], row["kind"], {}, 0, "no unit of it in rtl")]


Maker = Callable[[_Reader, Mapping[str, Any]], list[Site]]

SITES: dict[str, Maker] = {  # by the operator's kind
    "embedding": _embedding,
    "input": _uncounted("rounded at the boundary, outside"),
    "linear": _linear,
    "scores": _product,
    "context": _product,
    "hadamard": _hadamard,
    "softmax": _softmax,
    "norm": _norm,
    "token-scores": _token_product,
    "token-context": _token_product,
    "depthwise": _depthwise,
    "linear-attention": _linear_attention,
    "add": _sum,
    "requantise": _uncounted("a product and a rounding per element; python -m cost_model unit prices its unit"),
    "product": _uncounted("a product and a rounding per element; python -m cost_model unit prices its unit"),
    "rope": _uncounted("two products, a sum and a rounding per element; python -m cost_model unit prices its unit"),
    "activation": _activation,
}


def _array_bits(bits: int) -> int:
    """The weight width of the narrowest array that holds codes of `bits`."""
    return next(width for width in WEIGHT_BITS if width >= bits)


def _is_table(tensor: str, path: str) -> bool:
    return tensor.startswith(f"{path}.") and tensor.endswith((".thresholds", ".slopes", ".intercepts", ".values"))
