"""Packed models as GPTQ or compressed-tensors checkpoint folders, and GPTQ's as packed models."""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from quant.formats import compressed_tensors
from quant.formats.checkpoint import Checkpoint
from quant.formats.gptq_config import GptqConfig
from quant.formats.gptq_layout import TENSORS, config_of, export_weight, import_weight
from quant.formats.packed import PackedModel
from quant.methods.coverage import coverage_line, coverage_of_packed, size_line
from quant.plan import Plan, Rule
from quant.pretrained import BOUNDARY, COMPANIONS, MAKER
from sim.common.files import locked, read_json, require_other, write_whole
from sim.reference import InputError


def export_gptq(
    folder: str | Path, target: str | Path, checkpoint_format: str = "gptq_v2", dtype: torch.dtype = torch.float16
) -> list[dict[str, Any]]:
    """Write a packed folder as a GPTQ checkpoint: model.safetensors, quantize_config.json, config.json if it has one.

    Coverage and sizes are printed on stderr. The layout holds one bit width and group size for all
    layers, and no activation scales.

    Parameters
    ----------
    folder, target : str or Path
        The packed folder to read, and the checkpoint folder to write.
    checkpoint_format : str
        "gptq_v2", or "gptq" (v1), which stores zero points less one.
    dtype : torch.dtype
        Format of the scales and of what stays floating point; float32 holds the scales exactly.

    Returns
    -------
    list
        A row for each layer; `scale_change` is the largest relative change of a scale by rounding to `dtype`.

    Raises
    ------
    InputError
        If layers differ in bits or group size, or the layout cannot hold them.
    """
    folder, target = Path(folder), Path(target)
    require_other(folder, target)
    packed = PackedModel.load(folder)
    if not packed.weights:
        raise InputError(f"{folder}: holds no quantised weight")
    first = next((n for n, w in packed.weights.items() if w.group_size < w.codes.shape[1]), next(iter(packed.weights)))
    kind = _kind(packed, first)
    tensors: dict[str, Tensor] = {}
    rows = []
    for name, weight in packed.weights.items():
        layer = name.removesuffix(".weight")
        _require_plain(layer, packed.details.get("layers", {}).get(layer, {}).get("activation"), "GPTQ")
        fits = weight.group_size >= weight.codes.shape[1] <= kind[1]  # one group, no longer than the others'
        if _kind(packed, name) not in (kind, (kind[0], -1, kind[2]) if fits else kind):
            raise InputError(
                f"{name}: must have the bits, group size and symmetry of {first}, {kind}, not {_kind(packed, name)}"
            )
        made = export_weight(weight, layer, checkpoint_format, dtype)
        tensors |= {f"{layer}.{key}": tensor for key, tensor in made.items()}
        exact = weight.group_multiplier.double() * weight.scale.value[:, None]
        change = ((made["scales"].t().double() - exact).abs() / exact).max()
        rows.append({"module": layer, "bits": weight.bits, "group_size": kind[1], "scale_change": float(change)})
    tensors |= _rest(packed, dtype)
    config = config_of(*kind, checkpoint_format)
    config["lm_head"] = any(row["module"].rpartition(".")[2] == "lm_head" for row in rows)
    if skipped := packed.details.get("coverage", {}).get("skipped_layers"):
        config["dynamic"] = {f"-:^{re.escape(layer)}$": {} for layer in skipped}  # as GPTQModel and vLLM read it
    with locked(target):
        _write(folder, target, tensors, config, dtype)
        write_whole(target / "quantize_config.json", json.dumps(config, indent=2) + "\n")
    _say(packed, target, "a GPTQ checkpoint")
    return rows


def export_compressed_tensors(
    folder: str | Path, target: str | Path, dtype: torch.dtype = torch.float16
) -> list[dict[str, Any]]:
    """Write a packed folder as a compressed-tensors checkpoint, "pack-quantized": model.safetensors and config.json.

    Layers may differ in bits and groups, and their inputs may have a scale for each token. Coverage and sizes are
    printed on stderr.

    Parameters
    ----------
    folder, target : str or Path
        The packed folder to read, and the checkpoint folder to write.
    dtype : torch.dtype
        Format of the scales and of what stays floating point; float32 holds the scales exactly.

    Returns
    -------
    list
        A row for each layer.

    Raises
    ------
    InputError
        If the format cannot hold a layer, or the folder has no config.json.
    """
    folder, target = Path(folder), Path(target)
    require_other(folder, target)
    packed = PackedModel.load(folder)
    if not packed.weights:
        raise InputError(f"{folder}: holds no quantised weight")
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: has no config.json, which the format's own settings are part of")
    layers = {name.removesuffix(".weight"): weight for name, weight in packed.weights.items()}
    activations = {name: row["activation"] for name, row in packed.details.get("layers", {}).items()}
    for name in layers:
        _require_plain(name, activations.get(name), "compressed-tensors")
    config = compressed_tensors.config_of(
        layers, activations, packed.details.get("coverage", {}).get("skipped_layers", [])
    )
    tensors = {
        f"{name}.{key}": tensor
        for name, weight in layers.items()
        for key, tensor in compressed_tensors.export_weight(weight, name, dtype).items()
    }
    tensors |= _rest(packed, dtype)
    with locked(target):
        _write(folder, target, tensors, config, dtype)
    _say(packed, target, "a compressed-tensors checkpoint")
    return [{"module": name, "bits": w.bits, "group_size": w.group_size} for name, w in layers.items()]


def _require_plain(layer: str, activation: Mapping[str, Any] | None, layout: str) -> None:
    """Raises InputError if a layer's inputs are transformed before its product, which no layout says."""
    if activation is not None and "hadamard" in activation:
        raise InputError(f"{layer}: its inputs are transformed by hadamard, which the layout of {layout} does not hold")


def _rest(packed: PackedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """What is not a quantised layer, in `dtype`. Raises InputError where a value is not finite in it."""
    made = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in packed.tensors.items()}
    for name, source in packed.details.get("tied", {}).items():
        if source in packed.weights:  # no layout has an embedding of codes
            made[name] = packed.weights[source].dequantise(dtype)
    for name, tensor in made.items():
        _require_finite(f"{name} in {str(dtype).removeprefix('torch.')}", tensor)
    return made


def _write(
    folder: Path, target: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], dtype: torch.dtype
) -> None:
    """The checkpoint's tensors, and config.json if the packed folder has one; the caller holds the target's lock."""
    write_whole(target / "model.safetensors", safetensors.save(dict(tensors), {"format": "pt"}))
    if (folder / "config.json").exists():
        content = _config(folder) | {"quantization_config": config}
        content["dtype" if "dtype" in content else "torch_dtype"] = str(dtype).removeprefix("torch.")
        write_whole(target / "config.json", json.dumps(content, indent=2) + "\n")
    copy_companions(folder, target)


def _config(folder: Path) -> dict[str, Any]:
    content = read_json(folder / "config.json")
    if not isinstance(content, dict):
        raise InputError(f"{folder / 'config.json'}: must be an object")
    return content


def _say(packed: PackedModel, target: Path, what: str) -> None:
    coverage, size = coverage_of_packed(packed), (target / "model.safetensors").stat().st_size
    print(coverage_line(coverage), file=sys.stderr)
    print(f"{coverage['bytes_after']} bytes packed, {size} as {what}", file=sys.stderr)


def import_gptq(folder: str | Path, target: str | Path) -> list[dict[str, Any]]:
    """Write a GPTQ checkpoint as a packed folder; coverage and sizes are printed on stderr.

    Settings of single layers (`dynamic` of GPTQModel: bits, group size, symmetry, or not quantised) are followed.

    Parameters
    ----------
    folder, target : str or Path
        The checkpoint folder to read, and the packed folder to write.

    Returns
    -------
    list
        A row for each layer; `scale_change` is the largest relative change of a scale by rounding.

    Raises
    ------
    InputError
        If there is no GPTQ configuration or it has unknown settings for single layers, or a layer is incomplete or has
        groups out of order.
    """
    folder, target = Path(folder), Path(target)
    require_other(folder, target)
    config = GptqConfig.read(folder)
    checkpoint = Checkpoint.open(folder)
    tensors = dict(checkpoint.tensors())
    layers = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    if not layers:
        raise InputError(f"{folder}: holds no qweight")
    weights, rows, details = {}, [], {}
    for layer in layers:
        parts = {key: tensors.pop(f"{layer}.{key}") for key in TENSORS if f"{layer}.{key}" in tensors}
        try:
            own = config.of(layer)
            made = import_weight(
                parts, own.bits, layer, own.version, symmetric=own.symmetric, group_size=own.group_size
            )
        except InputError as error:
            raise InputError(f"{checkpoint.files[f'{layer}.qweight']}: {error}") from None
        weights[f"{layer}.weight"] = made.weight
        details[layer] = {"activation": None}
        size = made.weight.group_size
        rows.append({"module": layer, "bits": own.bits, "group_size": size, "scale_change": made.scale_error})
    for name, tensor in tensors.items():
        layer, _, key = name.rpartition(".")
        if key in ("qzeros", "g_idx"):
            raise InputError(f"{folder}: {layer}.qweight is missing")
        _require_finite(f"{folder}: {name}", tensor)
    packed = PackedModel(
        plan=_plan(rows),
        weights=weights,
        tensors=tensors,
        boundary=BOUNDARY,
        details={"maker": MAKER, "layers": details, "rows": rows, "tied": {}, "source": config.version},
    )
    coverage = coverage_of_packed(packed) | {"bytes_before": checkpoint.size}
    packed = replace(packed, details={**packed.details, "coverage": coverage})
    with locked(target):
        if (folder / "config.json").exists():
            content = _config(folder)
            content.pop("quantization_config", None)
            write_whole(target / "config.json", json.dumps(content, indent=2) + "\n")
        packed.save(target)
        copy_companions(folder, target)
    print(coverage_line(coverage), size_line(coverage), sep="\n", file=sys.stderr)
    return rows


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_complex():
        raise InputError(f"{name}: must be real, not {tensor.dtype}")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name}: holds NaN or infinite values")


def copy_companions(source: str | Path, target: str | Path) -> None:
    """Copy the tokeniser's files that the folder has; the caller holds the target's lock."""
    for name in COMPANIONS:
        if (Path(source) / name).is_file() and Path(source).resolve() != Path(target).resolve():
            shutil.copyfile(Path(source) / name, Path(target) / name)


def _kind(packed: PackedModel, name: str) -> tuple[int, int, bool]:
    """Bits, group size (-1: one per channel) and symmetry."""
    weight = packed.weights[name]
    return weight.bits, -1 if weight.group_size >= weight.codes.shape[1] else weight.group_size, weight.signed


def _plan(rows: list[dict[str, Any]]) -> Plan:
    """A rule for the layers of each bit width, in the order of the layers."""
    layers: dict[int, list[str]] = {}
    for row in rows:
        layers.setdefault(row["bits"], []).append(re.escape(row["module"]))
    return Plan(tuple(Rule("|".join(names), weight_bits=b, activation_bits=None) for b, names in layers.items()))
