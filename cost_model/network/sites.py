"""The sites of a packed model: what each computes for so many tokens, and what of it the files store.

Two makers are read. `python -m sim convert` writes whole networks in integers, in which every operation is a site.
`python -m quant quantize` writes models whose linear layers are in integers; the rest of those is floating point, of
which nothing is known here but its bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quant.formats.packed_index import DESCRIPTION, PackedIndex
from sim.reference import InputError
from sim.reference.gemm import WEIGHT_BITS

REST = "other tensors"
CONTROL = "the control: correctly rounded values, of which there is no unit"
PER_TOKEN = "finding a token's scale and applying it"
FROM_FLOATS = "rounding floating-point activations to codes"


@dataclass(frozen=True)
class Site:
    """A place of the model: its name, what it is, and the bytes of its tensors by their role, as stored."""

    name: str
    kind: str
    bytes: Mapping[str, int]


@dataclass(frozen=True)
class Gemm(Site):
    """`jobs` products of activations (tokens, inputs) and weights (inputs, outputs).

    Weights are `weight_bits` wide in the array; `group` is None per channel, `multiplier_bits` 0 where every m_g is 1.
    `activation_bits` is None where the activations are no signed codes of at most 8 bits. `inputs_requantised` is for
    the site whose 16-bit inputs go through a requantiser first: of several on one input the first, since an input is
    quantised once. `inputs_uncounted` says what else makes the codes, of which there is no unit.
    """

    jobs: int
    tokens: int
    inputs: int
    outputs: int
    weight_bits: int
    weight_signed: bool
    activation_bits: int | None
    group: int | None
    multiplier_bits: int
    out_bits: int | None
    inputs_requantised: bool = False
    inputs_uncounted: str | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.jobs * self.tokens * self.inputs * self.outputs


@dataclass(frozen=True)
class Pwl(Site):
    """A function on codes: how many `codes` each of its tables takes, and the tables' geometry."""

    codes: tuple[int, ...]
    entries: int
    in_bits: int
    coef_bits: int
    out_bits: int


@dataclass(frozen=True)
class InRows(Site):
    """`rows` rows of `length` through a unit for rows; `kind` is softmax, layernorm or rmsnorm."""

    rows: int
    length: int


@dataclass(frozen=True)
class Uncounted(Site):
    """A site without a unit in `rtl`: `why` says so, `elements` is its size."""

    elements: int
    why: str


def sites(index: PackedIndex, folder: str | Path, tokens: int, batch: int = 1) -> list[Site]:
    """The sites in the order of the computation, the tensors that belong to none last; bytes add up to the files'.

    Raises `InputError` where the model is of neither maker, or a row would be longer than the model allows.
    """
    path = Path(folder) / DESCRIPTION
    details = index.content["details"]
    reader = _Reader(index, tokens, batch)
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
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: a key is missing or foreign ({error!r})") from None


class _Reader:
    """Goes through a model's parts and notes which tensors have been counted."""

    def __init__(self, index: PackedIndex, tokens: int, batch: int) -> None:
        self.index, self.tokens, self.batch = index, tokens, batch
        self.left = {name: len(tensor.data) for name, tensor in index.tensors.items()}

    def bytes(self, roles: Mapping[str, Iterable[str]]) -> dict[str, int]:
        """The bytes of tensors by role; they are counted once."""
        sums = {role: sum(self.left.pop(name, 0) for name in names) for role, names in roles.items()}
        return {role: count for role, count in sums.items() if count}

    def rest(self) -> dict[str, int]:
        """What no site has counted."""
        floats = [n for n in self.left if self.index.tensors[n].kind.startswith(("F", "BF"))]
        return self.bytes({"floating point": floats, "integers": [n for n in self.left if n not in floats]})

    def network(self, shape: Mapping[str, Any], operators: Mapping[str, Any]) -> list[Site]:
        """The sites of an integer network."""
        longest = shape["row_length"]
        if self.tokens > longest:
            raise InputError(f"tokens must be at most the model's {longest}, not {self.tokens}")
        found: list[Site] = []
        for prefix in ("embedding", "input", "norm"):
            if prefix in operators:
                found += self._operator(prefix, operators[prefix], shape, None)
        for k, layer in enumerate(shape["layers"]):
            first, second = ("norm1", "norm2") if layer["norm_first"] else ("add1", "add2")
            attention = ("qkv", "scores", "softmax", "context", "out")
            feed = ("up", "activation", "down")
            order = (
                (first, *attention, "add1", second, *feed, "add2")
                if layer["norm_first"]
                else (*attention, "add1", "norm1", *feed, "add2", "norm2")
            )
            for part in order:
                found += self._operator(f"layers.{k}.{part}", operators[f"layers.{k}.{part}"], shape, layer)
        if "final" in operators:
            found += self._operator("final", operators["final"], shape, None)
        return found

    def _operator(
        self, path: str, row: Mapping[str, Any], shape: Mapping[str, Any], layer: Mapping[str, Any] | None
    ) -> list[Site]:
        kind, name, rows = row["kind"], row["name"], self.tokens * self.batch
        if kind == "linear":
            source = row["source"]
            static, uncounted = source["kind"] == "static", PER_TOKEN if source["kind"] == "token" else None
            return [
                self._linear(
                    one, f"{path}.{k}", rows, row["outputs"][k], activation_bits=source["bits"],
                    inputs_requantised=static and k == 0, inputs_uncounted=uncounted,
                )
                for k, one in enumerate(row["names"])
            ]  # fmt: skip
        if kind in ("scores", "context", "softmax", "activation"):
            assert layer is not None
            return [getattr(self, f"_{kind}")(path, row, layer)]
        if kind == "norm":
            length = self.index.tensors[f"{path}.gain"].shape[0]
            control, stored = self._is_control(path), self.bytes({"gains and biases": [f"{path}.gain", f"{path}.bias"]})
            stored |= self._tables(path)
            if control:
                return [Uncounted(name, kind, stored, rows * length, CONTROL)]
            return [InRows(name, _norm_kind(path, shape, layer), stored, rows, length)]
        if kind == "embedding":
            tables = [f"{path}.{k}" for k in range(len(shape["embedding"][1]))]
            width = self.index.tensors[tables[0]].shape[1]
            return [Uncounted(name, kind, self.bytes({"embeddings": tables}), rows * width, "a look-up in memory")]
        return [Uncounted(name, kind, {}, 0, _WHY[kind])]

    def _linear(self, name: str, path: str | None, tokens: int, out_bits: int | None, **fields: Any) -> Gemm:
        row = self.index.content["weights"][name]
        outputs, inputs = row["shape"]
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
        return Gemm(
            name, "linear", self.bytes(roles), 1, tokens, inputs, outputs,
            weight_bits=_array_bits(row["bits"]), weight_signed=row["signed"],
            group=None if row["group_size"] >= inputs else row["group_size"],
            multiplier_bits=row["multiplier_bits"], out_bits=out_bits, **fields,
        )  # fmt: skip

    def _tables(self, path: str) -> dict[str, int]:
        return self.bytes({"tables": [name for name in self.left if _is_table(name, path)]})

    def _is_control(self, path: str) -> bool:
        """Whether a site has the correctly rounded values of its functions in the place of tables."""
        return any(name.startswith(f"{path}.") and name.endswith(".values") for name in self.left)

    def _scores(self, path: str, row: Mapping[str, Any], layer: Mapping[str, Any]) -> Gemm:
        return self._product(path, row, layer, self._head_width(layer), self.tokens)

    def _context(self, path: str, row: Mapping[str, Any], layer: Mapping[str, Any]) -> Gemm:
        return self._product(path, row, layer, self.tokens, self._head_width(layer))

    def _head_width(self, layer: Mapping[str, Any]) -> int:
        return self.index.content["weights"][layer["qkv"][0]]["shape"][0] // layer["heads"]

    def _product(self, path: str, row: Mapping[str, Any], layer: Mapping[str, Any], inputs: int, outputs: int) -> Gemm:
        """A product for each head of each sequence; what the array holds as weights are keys or values."""
        stored = self.bytes({"requantisers": [f"{path}.multiplier", f"{path}.shift"]})
        activation_bits, weight_bits = row["inputs"]
        return Gemm(
            row["name"], row["kind"], stored, self.batch * layer["heads"], self.tokens, inputs, outputs,
            weight_bits=_array_bits(weight_bits), weight_signed=True, activation_bits=activation_bits, group=None,
            multiplier_bits=0, out_bits=row["outputs"][0],
        )  # fmt: skip

    def _softmax(self, path: str, row: Mapping[str, Any], layer: Mapping[str, Any]) -> Site:
        rows, control, stored = self.batch * layer["heads"] * self.tokens, self._is_control(path), self._tables(path)
        if control:
            return Uncounted(row["name"], "softmax", stored, rows * self.tokens, CONTROL)
        return InRows(row["name"], "softmax", stored, rows, self.tokens)

    def _activation(self, path: str, row: Mapping[str, Any], layer: Mapping[str, Any]) -> Site:
        """Each channel takes the table of its scale exponent."""
        rows, name = self.tokens * self.batch, row["name"]
        function, channels = layer["activation"][1], self.index.content["weights"][layer["up"][0]]["shape"][0]
        scales, control = self.index.tensors.get(f"{path}.scales"), self._is_control(path)
        stored = self.bytes({"channel scales": [f"{path}.scales"]}) | self._tables(path)
        if scales is None or control:
            why = "ReLU is a comparison" if scales is None else CONTROL
            return Uncounted(name, "activation", stored, rows * channels, why)
        used, counts = np.unique(scales.integers(), return_counts=True)
        key = f"{path}.{function}.{used[0]}"
        table = self.index.content["tables"][key]
        return Pwl(
            name, "pwl", stored,
            codes=tuple(int(count) * rows for count in counts),
            entries=self.index.tensors[f"{key}.slopes"].shape[0],
            in_bits=table["in_bits"], coef_bits=table["coef_bits"], out_bits=table["out_bits"],
        )  # fmt: skip

    def layers(self, rows: Mapping[str, Any]) -> list[Site]:
        """The linear layers of a quantised model; each is taken to see every token."""
        found: list[Site] = []
        for name, row in rows.items():
            activation = row["activation"] or {"bits": 32, "signed": True, "multiplier": None}
            bits = activation["bits"] if activation["signed"] and activation["bits"] <= 8 else None
            uncounted = FROM_FLOATS if activation["multiplier"] is not None else PER_TOKEN
            found.append(
                self._linear(
                    f"{name}.weight", None, self.tokens * self.batch, None, activation_bits=bits,
                    inputs_uncounted=uncounted,
                )
            )  # fmt: skip
        return found


def _array_bits(bits: int) -> int:
    """The weight width of the narrowest array that holds codes of `bits`."""
    return next(width for width in WEIGHT_BITS if width >= bits)


def _is_table(tensor: str, path: str) -> bool:
    return tensor.startswith(f"{path}.") and tensor.endswith((".thresholds", ".slopes", ".intercepts", ".values"))


def _norm_kind(path: str, shape: Mapping[str, Any], layer: Mapping[str, Any] | None) -> str:
    row = shape[path] if layer is None else layer["norms"][int(path[-1]) - 1]
    return "layernorm" if row[1] else "rmsnorm"


_WHY = {
    "add": "two products and a rounding per element; no unit of it in rtl",
    "input": "rounded at the boundary, outside",
}
