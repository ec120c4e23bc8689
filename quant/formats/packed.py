"""The packed model, `bitwright-packed`: safetensors files of integers and one JSON that says what they mean.

The folder holds `packed.json` and the files that it names with their hashes. The files are written first, under names
that carry their hash, and `packed.json` last: an interruption leaves the old model or none.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from quant.formats.packed_index import (
    BIT_ORDER,
    DESCRIPTION,
    FORMAT,
    VERSION,
    content_sha256,
    read_description,
    read_files,
    require_tensors,
)
from quant.formats.packing import pack, row_bytes, unpack
from quant.plan import Plan
from quant.primitives.quantisers import QuantisedWeight
from quant.primitives.scales import Scale
from sim.common.files import write_whole
from sim.reference import InputError, LoweredTable
from sim.reference.requant import MAX_SHIFT

SHARD_BYTES = 4 << 30
_TABLE_ARRAYS = ("thresholds", "slopes", "intercepts")


@dataclass(frozen=True, eq=False)
class PackedModel:
    """All that an integer model is, whoever made it.

    Parameters
    ----------
    plan : Plan
        The plan it was made with.
    weights : mapping
        Matrices in integers, by name.
    tables : mapping
        Lowered tables, by site.
    tensors : mapping
        Everything else by name: scales and zero points of activations as integers, the rest in floating point.
    boundary : mapping
        In words: what is integer and what is not.
    bounds : mapping
        The largest magnitude that each layer's accumulators can reach.
    details : mapping
        The maker's own JSON.
    data_sha256 : str, optional
        Hash of the calibration data.
    """

    plan: Plan
    weights: Mapping[str, QuantisedWeight] = field(default_factory=dict)
    tables: Mapping[str, LoweredTable] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    boundary: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str | None = None

    def save(self, folder: str | Path, shard_bytes: int = SHARD_BYTES) -> Path:
        """Write the folder; returns the path of `packed.json`. Same model, same bytes. Files of an earlier one go."""
        folder = Path(folder)
        files: dict[str, str] = {}
        where: dict[str, str] = {}
        for shard in _shards(self._stored(), shard_bytes):
            data = safetensors.save(shard)
            digest = hashlib.sha256(data).hexdigest()
            name = f"packed-{len(files) + 1:05}-{digest[:12]}.safetensors"
            write_whole(folder / name, data)
            files[name] = digest
            where |= dict.fromkeys(shard, name)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "plan": self.plan.to_dict(),
            "plan_sha256": self.plan.digest,
            "data_sha256": self.data_sha256,
            "boundary": dict(self.boundary),
            "bounds": dict(self.bounds),
            "details": dict(self.details),
            "bit_order": BIT_ORDER,
            "weights": {name: weight_row(weight) for name, weight in self.weights.items()},
            "tables": {site: _table_row(table) for site, table in self.tables.items()},
            "tensors": where,
            "files": files,
        }
        content["sha256"] = content_sha256(content)
        path = write_whole(folder / DESCRIPTION, json.dumps(content, indent=1, allow_nan=False) + "\n")
        for old in folder.glob("packed-*.safetensors"):
            if old.name not in files:
                with contextlib.suppress(OSError):
                    old.unlink()
        return path

    @classmethod
    def load(cls, folder: str | Path) -> "PackedModel":
        """Read a folder, refusing any byte that is not what was written.

        Raises `InputError`, one line with the file and key, for anything missing, altered, truncated or foreign.
        """
        folder = Path(folder)
        content = read_description(folder)
        stored = _read_files(folder, content)
        path = folder / DESCRIPTION
        try:
            plan = Plan.from_dict(content["plan"])
            weights = {name: read_weight(name, row, stored) for name, row in content["weights"].items()}
            tables = {site: _read_table(site, row, stored) for site, row in content["tables"].items()}
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: a key is missing or foreign ({error})") from None
        if plan.digest != content["plan_sha256"]:
            raise InputError(f"{path}: plan_sha256 is not the plan's")
        return cls(
            plan, weights, tables, stored, content["boundary"], content["bounds"], content["details"],
            content["data_sha256"],
        )  # fmt: skip

    def _stored(self) -> dict[str, Tensor]:
        """Every tensor of the files, by name; weights and tables first."""
        stored: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            stored |= {f"{name}.{key}": tensor for key, tensor in weight_tensors(weight).items()}
        for site, table in self.tables.items():
            for key in _TABLE_ARRAYS:
                stored[f"{site}.{key}"] = torch.tensor(getattr(table, key), dtype=torch.int64)
        for name, tensor in self.tensors.items():
            if name in stored:
                raise InputError(f"{name} is the name of two tensors")
            stored[name] = tensor.detach().cpu().contiguous()
        return stored


def _shards(stored: Mapping[str, Tensor], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in stored.items():
        if shard and size + tensor.nbytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    if shard:
        yield shard


def _read_files(folder: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    stored: dict[str, Tensor] = {}
    for name, data in read_files(folder, content).items():
        try:
            stored |= safetensors.load(data)
        except SafetensorError as error:
            raise InputError(f"{folder / name}: not a safetensors file ({error})") from None
    require_tensors(folder, content, stored)
    return {name: stored[name] for name in content["tensors"]}


def weight_row(weight: QuantisedWeight) -> dict[str, Any]:
    """What the JSON says of a weight."""
    outputs, inputs = weight.codes.shape
    return {"shape": [outputs, inputs], "bits": weight.bits, "signed": weight.signed, "group_size": weight.group_size,
            "multiplier_bits": _multiplier_bits(weight)}  # fmt: skip


def _multiplier_bits(weight: QuantisedWeight) -> int:
    """The width of the group multipliers; 0 if each is 1, and then none is stored."""
    largest = int(weight.group_multiplier.max()) if weight.group_multiplier.numel() else 1
    return 0 if largest == 1 else largest.bit_length()


def weight_tensors(weight: QuantisedWeight) -> dict[str, Tensor]:
    """What is stored of a weight: no zero points where signed, no group multipliers where all are 1."""
    stored = {"codes": pack(weight.codes, weight.bits, weight.signed)}
    if not weight.signed:
        stored["zero_point"] = pack(weight.zero_point, weight.bits, False)
    if bits := _multiplier_bits(weight):
        stored["group_multiplier"] = pack(weight.group_multiplier, bits, False)
    stored["multiplier"] = pack(weight.scale.multiplier[:, None], 16, False)
    stored["shift"] = weight.scale.shift.to(torch.uint8).cpu()
    return stored


def read_weight(name: str, row: Mapping[str, Any], stored: dict[str, Tensor]) -> QuantisedWeight:
    """Rebuild a weight from `weight_row` and take its tensors, `name`.codes and so on, out of `stored`."""
    (outputs, inputs), bits, signed, size = row["shape"], row["bits"], row["signed"], row["group_size"]
    groups = -(-inputs // size)

    def take(key: str, count: int, width: int, sign: bool = False) -> Tensor:
        packed = stored.pop(f"{name}.{key}")
        expected = [outputs, row_bytes(count, width)]
        if list(packed.shape) != expected or packed.dtype != torch.uint8:
            raise InputError(f"{name}.{key} must be uint8 {expected}, not {packed.dtype} {list(packed.shape)}")
        return unpack(packed, count, width, sign)

    codes = take("codes", inputs, bits, signed)
    zero = torch.zeros(outputs, groups, dtype=torch.int32) if signed else take("zero_point", groups, bits).int()
    width = row["multiplier_bits"]
    multiplier = take("group_multiplier", groups, width).int() if width else torch.ones_like(zero)
    scale = Scale(take("multiplier", 1, 16)[:, 0].long(), _shift(name, stored.pop(f"{name}.shift"), outputs))
    return QuantisedWeight(codes, zero, multiplier, scale, bits, signed, size)


def _shift(name: str, shift: Tensor, outputs: int) -> Tensor:
    """The shifts of the channels' scales, int64. Raises `InputError` for another shape or type, or a value above 47."""
    if list(shift.shape) != [outputs] or shift.dtype != torch.uint8:
        raise InputError(f"{name}.shift must be uint8 [{outputs}], not {shift.dtype} {list(shift.shape)}")
    if int(shift.max()) > MAX_SHIFT:
        raise InputError(f"{name}.shift must be in 0..{MAX_SHIFT}, not {int(shift.max())}")
    return shift.long()


def _table_row(table: LoweredTable) -> dict[str, Any]:
    return {key: value for key, value in table.to_dict().items() if key not in _TABLE_ARRAYS}


def _read_table(site: str, row: Mapping[str, Any], stored: dict[str, Tensor]) -> LoweredTable:
    arrays = {key: tuple(stored.pop(f"{site}.{key}").tolist()) for key in _TABLE_ARRAYS}
    return LoweredTable(**arrays, **row)
