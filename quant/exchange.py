"""GPTQ checkpoint folders to packed models and back."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from quant.formats.checkpoint import Checkpoint
from quant.formats.gptq_layout import FORMATS, TENSORS, config_of, export_weight, import_weight
from quant.formats.packed import PackedModel
from quant.plan import Plan, Rule
from quant.pretrained import BOUNDARY, COMPANIONS, MAKER
from sim.common.files import read_json, write_whole
from sim.reference import InputError


def export_gptq(
    folder: str | Path, target: str | Path, checkpoint_format: str = "gptq_v2", dtype: torch.dtype = torch.float16
) -> list[dict[str, Any]]:
    """Write a packed folder as a GPTQ checkpoint: model.safetensors, quantize_config.json, config.json if it has one.

    The layout holds one bit width and group size for all layers, and no activation scales. A row a layer tells by how
    much its scales were rounded to `dtype`, relatively.

    Raises:
        InputError: layers that differ in bits or group size, or that the layout cannot hold.
    """
    folder, target = Path(folder), Path(target)
    packed = PackedModel.load(folder)
    if not packed.weights:
        raise InputError(f"{folder}: holds no quantised weight")
    first = next(iter(packed.weights))
    kind = _kind(packed, first)
    tensors: dict[str, Tensor] = {}
    rows = []
    for name, weight in packed.weights.items():
        if _kind(packed, name) != kind:
            raise InputError(
                f"{name}: must have the bits, group size and symmetry of {first}, {kind}, not {_kind(packed, name)}"
            )
        layer = name.removesuffix(".weight")
        made = export_weight(weight, layer, checkpoint_format, dtype)
        tensors |= {f"{layer}.{key}": tensor for key, tensor in made.items()}
        exact = weight.group_multiplier.double() * weight.scale.value[:, None]
        change = ((made["scales"].t().double() - exact).abs() / exact).max()
        rows.append({"module": layer, "bits": weight.bits, "group_size": kind[1], "scale_change": float(change)})
    tensors |= {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in packed.tensors.items()
    }
    config = config_of(*kind, checkpoint_format)
    write_whole(target / "model.safetensors", safetensors.save(tensors, {"format": "pt"}))
    write_whole(target / "quantize_config.json", json.dumps(config, indent=2) + "\n")
    if (folder / "config.json").exists():
        content = read_json(folder / "config.json")
        write_whole(target / "config.json", json.dumps(content | {"quantization_config": config}, indent=2) + "\n")
    copy_companions(folder, target)
    return rows


def import_gptq(folder: str | Path, target: str | Path) -> list[dict[str, Any]]:
    """Write a GPTQ checkpoint as a packed folder. A row a layer tells by how much its scales were rounded, relatively.

    Raises:
        InputError: no GPTQ configuration, or a layer that is incomplete or has groups out of order.
    """
    folder, target = Path(folder), Path(target)
    config = _gptq_config(folder)
    bits, version = config["bits"], config.get("checkpoint_format") or "gptq"
    tensors = dict(Checkpoint.open(folder).tensors())
    layers = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    if not layers:
        raise InputError(f"{folder}: holds no qweight")
    weights, rows, details = {}, [], {}
    for layer in layers:
        parts = {key: tensors.pop(f"{layer}.{key}") for key in TENSORS if f"{layer}.{key}" in tensors}
        made = import_weight(parts, bits, layer, version)
        weights[f"{layer}.weight"] = made.weight
        details[layer] = {"activation": None}
        size = made.weight.group_size
        rows.append({"module": layer, "bits": bits, "group_size": size, "scale_change": made.scale_error})
    packed = PackedModel(
        plan=Plan((Rule("|".join(map(re.escape, layers)), weight_bits=bits, activation_bits=None),)),
        weights=weights,
        tensors=tensors,
        boundary=BOUNDARY,
        details={"maker": MAKER, "layers": details, "rows": rows, "tied": {}, "source": version},
    )
    if (folder / "config.json").exists():
        content = read_json(folder / "config.json")
        content.pop("quantization_config", None)
        write_whole(target / "config.json", json.dumps(content, indent=2) + "\n")
    packed.save(target)
    copy_companions(folder, target)
    return rows


def copy_companions(source: str | Path, target: str | Path) -> None:
    """The tokeniser's files, where there are any."""
    for name in COMPANIONS:
        if (Path(source) / name).is_file() and Path(source).resolve() != Path(target).resolve():
            shutil.copyfile(Path(source) / name, Path(target) / name)


def _kind(packed: PackedModel, name: str) -> tuple[int, int, bool]:
    """Bits, group size (-1: one per channel) and symmetry."""
    weight = packed.weights[name]
    return weight.bits, -1 if weight.group_size >= weight.codes.shape[1] else weight.group_size, weight.signed


def _gptq_config(folder: Path) -> Mapping[str, Any]:
    for name, key in (("quantize_config.json", None), ("config.json", "quantization_config")):
        if not (folder / name).exists():
            continue
        try:
            content = read_json(folder / name)
            content = content if key is None else content[key]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(content, dict):
            if type(content.get("bits")) is not int:
                raise InputError(f"{folder / name}: bits must be an integer, not {content.get('bits')!r}")
            version = content.get("checkpoint_format") or "gptq"
            if version not in FORMATS:
                raise InputError(
                    f"{folder / name}: checkpoint_format must be one of {', '.join(FORMATS)}, not {version!r}"
                )
            return content
    raise InputError(f"{folder}: has no quantize_config.json, nor a quantization_config in config.json")
