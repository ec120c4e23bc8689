"""An integer network on disk: `quant.formats.packed` with the operators' constants, and back, bit for bit.

What is stored is what runs: codes, integer scales, lowered tables, the control's values. Nothing is fitted, rounded or
looked up again when it is read.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quant.formats.packed import PackedModel
from quant.formats.packed_index import DESCRIPTION
from quant.plan import Plan
from sim.network.encoder import Encoder, Layer, LayerModules
from sim.network.operators.activation import Activation
from sim.network.operators.attention import EXP_SCALE, Context, Scores, Softmax
from sim.network.operators.base import Grid, Operator, set_mode
from sim.network.operators.linear import InputQuantiser, Linear, PackedLinear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Add, Embedding, Input
from sim.network.operators.tables import ValueNormaliser, ValueTable, control
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable
from sim.reference import Norm as NormSpecification
from sim.reference import Softmax as SoftmaxSpecification

BOUNDARY = {
    "bert": "token, position and type indices in, last_hidden_state out; pooling and heads stay floating point",
    "torch": "the input is rounded to 16-bit codes; the encoder's output comes out",
}


def save(encoder: Encoder, folder: str | Path) -> Path:
    """Write an integer network; returns the path of its description. Same network, same bytes.

    Raises `InputError` where the folder cannot be written.
    """
    writer = _Writer()
    for path, operator in _operators(encoder).items():
        writer.add(path, operator)
    assert encoder.plan is not None
    model = PackedModel(
        plan=encoder.plan,
        weights=writer.weights,
        tables=writer.tables,
        tensors={name: tensor.clone() for name, tensor in writer.tensors.items()},  # grids are shared
        boundary={encoder.family: BOUNDARY[encoder.family]},
        bounds=writer.bounds,
        details={"network": _shape(encoder), "operators": writer.rows},
        data_sha256=encoder.data_sha256,
    )
    return model.save(folder)


def load(folder: str | Path) -> Encoder:
    """Read what `save` wrote, in the mode "integer"; it has no floating-point weights, so no other mode.

    Raises:
        InputError: anything missing, altered or truncated; the line names the file and key.
    """
    model = PackedModel.load(folder)
    path = Path(folder) / DESCRIPTION
    if "network" not in model.details:
        maker = model.details.get("maker")
        hint = "; python -m sim convert makes one of it" if maker == "quant" else ""
        raise InputError(f"{path}: is no integer network{hint}")
    try:
        encoder = _skeleton(model.details["network"])
        rows = model.details["operators"]
        for name, operator in _operators(encoder).items():
            _Reader(model, name, rows[name]).fill(operator)
            operator.settle()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not an integer network that sim wrote ({error})") from None
    encoder.plan, encoder.data_sha256 = model.plan, model.data_sha256
    set_mode(encoder, "integer")
    return encoder.eval()


def _operators(encoder: Encoder) -> dict[str, Operator]:
    return {name: module for name, module in encoder.named_modules() if isinstance(module, Operator)}


def _shape(encoder: Encoder) -> dict[str, Any]:
    """What `_skeleton` needs."""
    layers = []
    for layer in encoder.blocks:
        layers.append(
            {
                "qkv": layer.qkv.names,
                "out": layer.out.names,
                "up": layer.up.names,
                "down": layer.down.names,
                "attention": layer.softmax.name.removesuffix(".softmax"),
                "heads": layer.scores.heads,
                "norms": [[norm.name, norm.centring] for norm in (layer.norm1, layer.norm2)],
                "activation": [layer.activation.name, layer.activation.function],
                "norm_first": layer.norm_first,
            }
        )
    return {
        "family": encoder.family,
        "row_length": encoder.row_length,
        "padding": encoder.padding,
        "batch_first": encoder.batch_first,
        "embedding": None if encoder.embedding is None else [encoder.embedding.name, encoder.embedding.names],
        "norm": None if encoder.norm is None else [encoder.norm.name, encoder.norm.centring],
        "final": None if encoder.final is None else [encoder.final.name, encoder.final.centring],
        "layers": layers,
    }


def _skeleton(shape: Mapping[str, Any]) -> Encoder:
    """The graph with operators that have neither real weights nor integers yet."""
    layers = [
        Layer(
            LayerModules(
                qkv=dict.fromkeys(row["qkv"], _NO_LINEAR),
                attention=row["attention"],
                heads=row["heads"],
                out=dict.fromkeys(row["out"], _NO_LINEAR),
                norm1=_no_norm(row["norms"][0]),
                up=dict.fromkeys(row["up"], _NO_LINEAR),
                activation=tuple(row["activation"]),
                down=dict.fromkeys(row["down"], _NO_LINEAR),
                norm2=_no_norm(row["norms"][1]),
                norm_first=row["norm_first"],
            )
        )
        for row in shape["layers"]
    ]
    encoder = Encoder(shape["family"], layers, shape["row_length"])
    encoder.padding, encoder.batch_first = shape["padding"], shape["batch_first"]
    if shape["embedding"] is None:
        encoder.input = Input("input")
    else:
        name, tables = shape["embedding"]
        encoder.embedding = Embedding(name, {table: nn.Embedding(1, 1, device="meta") for table in tables})
    for attribute in ("norm", "final"):
        if shape[attribute] is not None:
            setattr(encoder, attribute, Norm(*_no_norm(shape[attribute])))
    return encoder


_NO_LINEAR = nn.Linear(1, 1, device="meta")


def _no_norm(row: tuple[str, bool]) -> tuple[str, nn.LayerNorm | nn.RMSNorm]:
    name, centring = row
    return name, (nn.LayerNorm if centring else nn.RMSNorm)(1, device="meta")


class _Writer:
    """Collects what the packed model holds, operator by operator."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.weights: dict[str, Any] = {}
        self.tables: dict[str, LoweredTable] = {}
        self.bounds: dict[str, int] = {}

    def add(self, path: str, operator: Operator) -> None:
        row: dict[str, Any] = {"name": operator.name, "kind": operator.kind}
        for side in ("inputs", "outputs"):
            grids = getattr(operator, side)
            row[side] = [grid.bits for grid in grids]
            self.tensors |= {f"{path}.{side}.{k}": grid.scale for k, grid in enumerate(grids)}
        self.rows[path] = row
        if isinstance(operator, Linear):
            self._linear(path, operator, row)
        elif isinstance(operator, Add):
            row |= {"multipliers": list(operator.multipliers), "shift": operator.shift}
        elif isinstance(operator, Embedding):
            self.tensors |= {f"{path}.{k}": getattr(operator, f"codes{k}") for k in range(len(operator.names))}
        elif isinstance(operator, (Scores, Context)):
            self.tensors |= {f"{path}.multiplier": operator.multiplier, f"{path}.shift": operator.shift}
        elif isinstance(operator, Softmax):
            spec = operator.specification
            assert spec is not None
            row |= {"scale": spec.exp.s, "row_length": spec.row_length}
            self._table(f"{path}.exp", spec.exp)
            self._normaliser(f"{path}.div", spec.div, row)
        elif isinstance(operator, Norm):
            spec = operator.specification
            assert spec is not None
            row |= {"shift": spec.shift, "epsilon": spec.epsilon, "out_bits": spec.out_bits}
            self.tensors |= {f"{path}.{key}": torch.tensor(getattr(spec, key)) for key in ("gain", "bias")}
            self._normaliser(f"{path}.rsqrt", spec.rsqrt, row)
        elif isinstance(operator, Activation) and operator.scales is not None:
            self.tensors[f"{path}.scales"] = operator.scales
            for scale, table in operator.tables.items():
                self._table(f"{path}.{operator.function}.{scale}", table)

    def _linear(self, path: str, linear: Linear, row: dict[str, Any]) -> None:
        assert linear.source is not None
        row |= {"source": asdict(linear.source), "names": linear.names}
        for k, (name, weight, packed) in enumerate(zip(linear.names, linear.weights, linear.packed, strict=True)):
            assert isinstance(packed, PackedLinear)
            self.weights[name] = weight
            self.tensors |= {f"{path}.{k}.{key}": getattr(packed, key) for key in ("bias", "multiplier", "shift")}
            self.bounds[name] = max(-packed.bound[0], packed.bound[1])

    def _table(self, site: str, table: LoweredTable) -> None:
        if isinstance(table, ValueTable):
            self.tensors[f"{site}.values"] = torch.tensor(table.values)
        else:
            self.tables[site] = table

    def _normaliser(self, site: str, normaliser: Normaliser, row: dict[str, Any]) -> None:
        keys = ("scale", "input_bits", "input_frac_bits")
        row["normaliser"] = {key: getattr(normaliser, key) for key in keys}
        self._table(site, normaliser.lowered)


class _Reader:
    """Gives one operator its integers back."""

    def __init__(self, model: PackedModel, path: str, row: Mapping[str, Any]) -> None:
        self.model, self.path, self.row = model, path, row

    def fill(self, operator: Operator) -> None:
        path, row = self.path, self.row
        for side in ("inputs", "outputs"):
            grids = [Grid(bits, self.tensor(f"{side}.{k}")) for k, bits in enumerate(row[side])]
            setattr(operator, side, grids)
        if isinstance(operator, Linear):
            operator.source = InputQuantiser(**row["source"])
            operator.weights = [self.model.weights[name] for name in row["names"]]
            operator.packed = nn.ModuleList(self._linear(operator, k) for k in range(len(operator.names)))
        elif isinstance(operator, Add):
            first, second = row["multipliers"]
            operator.multipliers, operator.shift = (first, second), row["shift"]
        elif isinstance(operator, Embedding):
            for k in range(len(operator.names)):
                operator.register_buffer(f"codes{k}", self.tensor(str(k)))
        elif isinstance(operator, (Scores, Context)):
            for key in ("multiplier", "shift"):
                operator.register_buffer(key, self.tensor(key))
        elif isinstance(operator, Softmax):
            exp = self._table("exp", "exp", operator.name, row["scale"], EXP_SCALE, 8)
            div = self._normaliser("div", operator.name)
            operator.specification = SoftmaxSpecification(exp, EXP_SCALE, div, row["row_length"])
            operator.attach()
        elif isinstance(operator, Norm):
            gain, bias = (tuple(self.tensor(key).tolist()) for key in ("gain", "bias"))
            operator.specification = NormSpecification(
                gain, bias, row["shift"], row["epsilon"], self._normaliser("rsqrt", operator.name), operator.centring,
                16, row["out_bits"],
            )  # fmt: skip
            operator.attach()
        elif isinstance(operator, Activation) and f"{path}.scales" in self.model.tensors:
            self._activation(operator)

    def tensor(self, key: str) -> Tensor:
        return self.model.tensors[f"{self.path}.{key}"]

    def _linear(self, linear: Linear, k: int) -> PackedLinear:
        assert linear.source is not None
        constants = {key: self.tensor(f"{k}.{key}") for key in ("bias", "multiplier", "shift")}
        return PackedLinear.of(linear.weights[k], constants, linear.source, linear.outputs[k].bits)

    def _activation(self, operator: Activation) -> None:
        grid = operator.outputs[0]
        exponent = -int(torch.frexp(grid.scale).exponent) + 1
        operator.scales = self.tensor("scales")
        operator.tables = {
            s: self._table(f"{operator.function}.{s}", operator.function, operator.name, s, exponent, grid.bits)
            for s in sorted(set(operator.scales.tolist()))
        }
        operator.attach()

    def _table(self, key: str, function: str, site: str, scale: int, exponent: int, bits: int) -> LoweredTable:
        values = self.model.tensors.get(f"{self.path}.{key}.values")
        if values is None:
            return self.model.tables[f"{self.path}.{key}"]
        plain = replace(control(function).lower(scale, exponent), out_bits=bits)
        fields = {name: getattr(plain, name) for name in LoweredTable.__dataclass_fields__}
        return ValueTable(**fields, values=tuple(values.tolist()))

    def _normaliser(self, function: str, site: str) -> Normaliser:
        numbers = self.row["normaliser"]
        values = self.model.tensors.get(f"{self.path}.{function}.values")
        if values is not None:
            return ValueNormaliser(
                control(function), input_signed=False, values=tuple(values.tolist()), **numbers
            )  # fmt: skip
        table = table_of(self.model.plan, site, function)
        normaliser = Normaliser(table, input_signed=False, **numbers)
        if normaliser.lowered != self.model.tables[f"{self.path}.{function}"]:
            raise InputError(f"{self.path}.{function}: the lowered table is not that of the plan's")
        return normaliser


def table_of(plan: Plan, site: str, function: str) -> PwlTable:
    """The table that a plan's rules give a site; the last rule that has one counts."""
    table: PwlTable | str | None = None
    for rule in plan.rules:
        if rule.matches(site):
            table = rule.settings.get("tables", {}).get(function, table)
    if not isinstance(table, PwlTable):
        raise InputError(f"{site}: the plan has no table of {function}")
    return table
