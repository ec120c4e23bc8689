"""Checkpoints: safetensors (or PyTorch) files, single or sharded, and models that transformers builds from them.

transformers decides which name of a file is which parameter: its renamings, splits and joins, prefixes and ties. A
tensor that is missing or of another shape is one line that names the file and the key.
"""

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from quant.formats import gguf_file
from quant.formats.packed_index import plain_file
from sim.common.files import read_json
from sim.reference import InputError

SINGLE = ("model.safetensors", "pytorch_model.bin")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def build_model(folder: str | Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The architecture of a folder's config.json through transformers, its parameters not yet loaded.

    The class is the first of "architectures" if transformers has it, else the bare model.
    Raises `InputError` without transformers, or for an architecture or a configuration that it does not know.
    """
    kind, config = _architecture(Path(folder), base=False)
    return _made(Path(folder) / "config.json", lambda: kind._from_config(config, dtype=dtype)).eval()


def load_model(
    folder: str | Path, dtype: str = "float32", device: str | torch.device = "cpu", base: bool = False
) -> tuple[nn.Module, list[str]]:
    """A model as transformers' `from_pretrained` loads it, from files alone; no code of theirs runs.

    Parameters
    ----------
    folder : str or Path
        A checkpoint folder (config.json and safetensors or PyTorch files), or a GGUF file, whose weights are
        dequantised.
    dtype : str
        float32, bfloat16, float16, or auto: that of most of the files' numbers (of a GGUF file: float32).
    device : str or torch.device
        Where the model is put.
    base : bool
        Load the model inside a head (`BertModel` for a folder of `BertForMaskedLM`), without a pooler if the files have
        none.

    Returns
    -------
    model : nn.Module
        The model in evaluation mode.
    unused : list of str
        The names in the files that the model has no use for.

    Raises
    ------
    InputError
        If a file is damaged or quantised already, the architecture is unknown, or a tensor is missing or of a wrong
        type or shape; one line with the file and key.
    """
    path = Path(folder)
    if path.suffix == ".gguf":
        model, unused = _load_gguf(path, torch.float32 if dtype == "auto" else DTYPES[dtype], base)
    else:
        model, unused = _load_folder(path, dtype, base)
    return model.to(device).eval(), unused


def _load_folder(folder: Path, dtype: str, base: bool) -> tuple[nn.Module, list[str]]:
    checkpoint = Checkpoint.open(folder)
    if (folder / "config.json").is_file() and read_config(folder).get("quantization_config"):
        raise InputError(f"{folder / 'config.json'}: quantization_config: it is quantised already; give the original")
    kind, config = _architecture(folder, base)
    wanted = DTYPES[dtype] if dtype != "auto" else _usual_dtype(checkpoint)
    tensors = dict(checkpoint.tensors())
    model, found = _made(
        folder / "config.json",
        lambda: kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), dtype=wanted, ignore_mismatched_sizes=True,
            output_loading_info=True, local_files_only=True, trust_remote_code=False,
        ),
    )  # fmt: skip
    missing = set(found["missing_keys"])
    if base and missing and all(name.startswith("pooler.") for name in missing):
        model.register_module("pooler", None)
        missing = set()
    for name, stored, shape in sorted(found["mismatched_keys"]):
        place = checkpoint.files.get(name, folder)
        raise InputError(f"{place}: {name} must be of shape {list(shape)}, not {list(stored)}")
    if missing:
        raise InputError(f"{folder}: {min(missing)} is missing")
    if found["error_msgs"]:
        raise InputError(f"{folder}: {_line(found['error_msgs'][0])}")
    unused = sorted(set(found["unexpected_keys"]) & set(tensors))
    held = {**model.state_dict(), **dict(model.named_buffers())}  # with the buffers that are not saved any more
    whole = {name for name, tensor in held.items() if not tensor.is_floating_point()}
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    ignored = {n for n in tensors if any(re.search(p, n) for p in patterns) and not _held(n, set(held))}
    for name in sorted(set(tensors) - set(unused) - ignored):
        if tensors[name].dtype not in (*DTYPES.values(), torch.float64) and not _held(name, whole):
            raise InputError(
                f"{checkpoint.files[name]}: {name} must be floating point of 16 to 64 bits, not "
                f"{tensors[name].dtype}: quantised already?"
            )
    return model, unused


def _held(name: str, names: set[str]) -> bool:
    """Whether a name of a file is one of these, with or without the prefix of a head or of the model in it."""
    return any(f".{name}".endswith(f".{other}") or f".{other}".endswith(f".{name}") for other in names)


def _load_gguf(path: Path, dtype: torch.dtype, base: bool) -> tuple[nn.Module, list[str]]:
    transformers = _transformers()
    origin = gguf_file.read_origin(path)
    kind, config = _architecture(path, base)
    dense = getattr(transformers, "GgufConfig", None)  # where transformers could also leave the weights quantised
    how = {} if dense is None else {"quantization_config": dense(dequantize=True)}
    model, found = _made(
        path,
        lambda: kind.from_pretrained(
            str(path.parent), config=config, gguf_file=path.name, dtype=dtype, output_loading_info=True,
            local_files_only=True, trust_remote_code=False, **how,
        ),
    )  # fmt: skip
    if found["missing_keys"]:
        raise InputError(f"{path}: {min(found['missing_keys'])} is missing")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # it is floating point now
    model.hf_quantizer = None
    setattr(model.config, gguf_file.KEY, origin)
    return model, sorted(found["unexpected_keys"])


def _architecture(path: Path, base: bool) -> tuple[Any, Any]:
    """The class and the configuration that transformers has for a folder or a GGUF file."""
    transformers = _transformers()
    if path.suffix == ".gguf":
        where, what, names = path, {"gguf_file": path.name}, []
        folder, mapping = path.parent, transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    else:
        where, what, names = path / "config.json", {}, read_config(path).get("architectures") or []
        folder, mapping = path, transformers.MODEL_MAPPING
    # a folder's own Python never runs
    config = _made(
        where,
        lambda: transformers.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **what
        ),
    )
    named = names[0] if isinstance(names, list) and names and not base else None
    kind = getattr(transformers, named, None) if isinstance(named, str) else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        kind = _made(where, lambda: (transformers.MODEL_MAPPING if base else mapping)[type(config)])
    return (kind[0] if isinstance(kind, tuple) else kind), config


def _made(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives, without transformers' advice on stderr. Raises `InputError` with `path` if it fails."""
    transformers = _transformers()
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return make()
    except Exception as error:  # a configuration at fault raises many kinds
        raise InputError(f"{path}: transformers cannot build it ({_line(error)})") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError('a checkpoint needs transformers: pip install "bitwright[transformers]"') from None
    return transformers


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _usual_dtype(checkpoint: Checkpoint) -> torch.dtype:
    count: dict[torch.dtype, int] = {}
    for _, tensor in checkpoint.tensors():
        if tensor.is_floating_point():
            count[tensor.dtype] = count.get(tensor.dtype, 0) + tensor.numel()
    return max(count, key=lambda d: count[d]) if count else torch.float32


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


def _require_bounded(file: Path) -> None:
    """Raise `InputError` if a PyTorch file, a zip archive, would unpack to more bytes than it has."""
    if not zipfile.is_zipfile(file):
        return  # which torch refuses to map
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{file}: not a PyTorch file of tensors ({type(error).__name__})") from None
    if total > file.stat().st_size:
        raise InputError(
            f"{file}: unpacks to {total} bytes; a PyTorch file of {file.stat().st_size} has no more than those"
        )


@contextlib.contextmanager
def _reader(file: Path) -> Iterator[_Reader]:
    """Raises `InputError` with the file for one that cannot be read or is damaged."""
    if not file.is_file():
        raise InputError(f"{file}: cannot be read: there is no such file")
    if file.suffix != ".safetensors":
        _require_bounded(file)
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
