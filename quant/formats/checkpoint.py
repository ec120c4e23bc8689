"""Checkpoint folders: safetensors (or PyTorch) files, single or sharded, loaded into a model by name.

A tensor that is missing or of another shape is one line that names the file and the key. Tied parameters are stored
once; a prefix that only the model or only the file has ("bert.") is bridged; so are the old names of LayerNorm.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from quant.formats.packed_index import plain_file
from sim.common.files import read_json
from sim.reference import InputError

SINGLE = ("model.safetensors", "pytorch_model.bin")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a folder: the file that holds each, read when asked for."""

    folder: Path
    files: Mapping[str, Path]

    @classmethod
    def open(cls, folder: str | Path) -> "Checkpoint":
        """Find the files of a folder, or take one file. Raises `InputError` if there is none or a shard is damaged."""
        folder = Path(folder)
        if folder.is_file():
            return cls(folder.parent, dict.fromkeys(_names(folder), folder))
        for single in SINGLE:
            if (folder / f"{single}.index.json").exists():
                return cls(folder, _sharded(folder / f"{single}.index.json"))
            if (folder / single).exists():
                return cls(folder, dict.fromkeys(_names(folder / single), folder / single))
        others = sorted(folder.glob("*.safetensors"))
        if len(others) == 1:
            return cls(folder, dict.fromkeys(_names(others[0]), others[0]))
        raise InputError(f"{folder}: has no checkpoint: {' or '.join(SINGLE)}, or their index of shards")

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.stat().st_size for file in dict.fromkeys(self.files.values()))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor, file by file."""
        for file in dict.fromkeys(self.files.values()):
            with _reader(file) as read:
                for name in (n for n, f in self.files.items() if f == file):
                    yield name, read(name)

    def load_into(self, model: nn.Module) -> list[str]:
        """Copy the tensors into the parameters and buffers of `model`; returns the names that the model has no use for.

        Numbers are converted to the model's types. Raises `InputError` with the file and key for a tensor that is
        missing or misshapen, before anything is copied, and for one that holds no numbers of the kind.
        """
        targets = model.state_dict()
        prefix = getattr(model, "base_model_prefix", "")
        names = {stored: _target(stored, targets, prefix) for stored in self.files}
        found = {target for target in names.values() if target is not None}
        present = {targets[name].data_ptr() for name in found}
        for name, tensor in targets.items():
            if name not in found and (tensor.data_ptr() not in present or not tensor.numel()):
                raise InputError(f"{self.folder}: {name} is missing")
        for stored, shape in self.shapes():
            target = names[stored]
            if target is not None and shape != list(targets[target].shape):
                wanted = list(targets[target].shape)
                raise InputError(f"{self.files[stored]}: {stored} must be of shape {wanted}, not {shape}")
        with torch.no_grad():
            for stored, tensor in self.tensors():
                target = names[stored]
                if target is not None:
                    _require_numbers(tensor, targets[target], f"{self.files[stored]}: {stored}")
                    targets[target].copy_(tensor)
        return sorted(stored for stored, target in names.items() if target is None)

    def shapes(self) -> Iterator[tuple[str, list[int]]]:
        """Every tensor's shape, from the files' headers where they have one."""
        for file in dict.fromkeys(self.files.values()):
            with _reader(file) as read:
                for name in (n for n, f in self.files.items() if f == file):
                    yield name, read.shape(name)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The folder's config.json. Raises `InputError` if it is missing or has no `model_type`."""
    path = Path(folder) / "config.json"
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise InputError(f"{path}: model_type must be the name of an architecture")
    return content


def build_model(folder: str | Path, dtype: torch.dtype = torch.float32, base: bool = False) -> nn.Module:
    """The architecture of a folder's config.json through transformers, its parameters not yet loaded.

    The class is the first of "architectures" if transformers has it, else, and with `base`, the bare model.
    Raises `InputError` without transformers, or for an architecture or a configuration that it does not know.
    """
    config = read_config(folder)
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError('a checkpoint folder needs transformers: pip install "bitwright[transformers]"') from None
    try:
        # a folder's own Python never runs
        made = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        names = [] if base else config.get("architectures") or []
        kind = getattr(transformers, names[0], None) if names else None
        made.dtype = dtype
        with _quiet(transformers):
            model = (
                kind._from_config(made, dtype=dtype) if kind else transformers.AutoModel.from_config(made, dtype=dtype)
            )
    except Exception as error:  # a configuration at fault raises many kinds
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{Path(folder) / 'config.json'}: transformers cannot build it ({line})") from None
    return model.eval()


def load_model(
    folder: str | Path, dtype: str = "float32", device: str | torch.device = "cpu", base: bool = False
) -> tuple[nn.Module, list[str]]:
    """A checkpoint folder as a model in evaluation mode, and the names in its files that the model has no use for.

    `dtype` is float32, bfloat16, float16, or auto: that of most of the files' numbers. With `base` the model is the one
    inside a head (`BertModel` for a folder of `BertForMaskedLM`), without a pooler if the files have none.
    Raises `InputError`, one line, for every fault of the folder, also one that is quantised already.
    """
    checkpoint = Checkpoint.open(folder)
    if (Path(folder) / "config.json").is_file() and read_config(folder).get("quantization_config"):
        raise InputError(
            f"{Path(folder) / 'config.json'}: quantization_config: it is quantised already; give the original"
        )
    model = build_model(folder, DTYPES[dtype] if dtype != "auto" else _usual_dtype(checkpoint), base)
    if base and getattr(model, "pooler", None) is not None and not any("pooler." in n for n in checkpoint.files):
        model.register_module("pooler", None)
    unused = checkpoint.load_into(model)
    return model.to(device), unused


def _usual_dtype(checkpoint: Checkpoint) -> torch.dtype:
    count: dict[torch.dtype, int] = {}
    for _, tensor in checkpoint.tensors():
        if tensor.is_floating_point():
            count[tensor.dtype] = count.get(tensor.dtype, 0) + tensor.numel()
    return max(count, key=lambda d: count[d]) if count else torch.float32


def _require_numbers(tensor: Tensor, target: Tensor, name: str) -> None:
    """Raise `InputError` for real numbers that are stored as something else."""
    if target.is_floating_point() and tensor.dtype not in (*DTYPES.values(), torch.float64):
        raise InputError(f"{name} must be floating point of 16 to 64 bits, not {tensor.dtype}: quantised already?")


def _target(stored: str, targets: Mapping[str, Tensor], prefix: str) -> str | None:
    """The model's name for a tensor of the file, None where it has none."""
    modern = stored
    for old, new in _OLD_NAMES:
        modern = modern.removesuffix(old) + new if modern.endswith(old) else modern
    for name in (stored, modern):
        for candidate in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")):
            if candidate in targets:
                return candidate
    return None


def _sharded(index: Path) -> dict[str, Path]:
    try:
        entries = read_json(index)["weight_map"]
        files = {str(name): plain_file(index.parent, file, index.name) for name, file in entries.items()}
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{index}: must be JSON with a weight_map of names to files") from None
    for file in dict.fromkeys(files.values()):
        held = set(_names(file))
        for name in (n for n, f in files.items() if f == file):
            if name not in held:
                raise InputError(f"{file}: {name} is missing, which {index.name} says it holds")
    return files


def _names(file: Path) -> list[str]:
    with _reader(file) as read:
        return read.names


@dataclass(frozen=True, eq=False)
class _Reader:
    """Tensors of one file by name, and their shapes."""

    names: list[str]
    get: Callable[[str], Tensor]
    shape: Callable[[str], list[int]]

    def __call__(self, name: str) -> Tensor:
        return self.get(name)


@contextlib.contextmanager
def _reader(file: Path) -> Iterator[_Reader]:
    """Raises `InputError` with the file for one that cannot be read or is damaged."""
    if not file.is_file():
        raise InputError(f"{file}: cannot be read: there is no such file")
    if file.suffix != ".safetensors":
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # unpickling raises many kinds
            raise InputError(f"{file}: not a PyTorch file of tensors ({type(error).__name__})") from None
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
        yield _Reader(list(tensors), tensors.__getitem__, lambda name: list(tensors[name].shape))
        return
    try:
        opened = safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a whole safetensors file ({error})") from None
    with opened as reader:
        yield _Reader(list(reader.keys()), reader.get_tensor, lambda name: list(reader.get_slice(name).get_shape()))


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No advice on stderr while a model is built."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
