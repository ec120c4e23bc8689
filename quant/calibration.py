"""Calibration data: text, JSON lines, npz, a folder of them, or batches of model keyword arguments from Python."""

import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.common.errors import require_range
from sim.common.files import read_text
from sim.reference import InputError

Sample = dict[str, np.ndarray]
Tokeniser = Callable[[str], Sequence[int]]
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
UNPACKED, EXPANSION = 1 << 28, 64  # an .npz may unpack to so many bytes, or to so many times its own size
SUFFIXES = (".txt", ".text", ".md", ".rst", ".jsonl", ".npz")


@dataclass(frozen=True)
class Sampling:
    """Which samples are used, how long they are, and how many make a batch.

    Parameters
    ----------
    samples : int
        How many samples; of fewer all are used.
    sequence_length : int
        Tokens to which a sample is cut.
    batch_size : int
        Samples in a batch.
    seed : int
        Decides which samples.
    pack : bool
        Join the samples and cut them into windows of exactly `sequence_length` tokens, as is usual for language models;
        `samples` counts the windows.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    samples: int = 128
    sequence_length: int = 128
    batch_size: int = 8
    seed: int = 0
    pack: bool = False

    def __post_init__(self) -> None:
        for name, high in (("samples", 1 << 30), ("sequence_length", 1 << 20), ("batch_size", 1 << 20)):
            require_range(name, getattr(self, name), 1, high)
        require_range("seed", self.seed, 0, (1 << 63) - 1)


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Batches of model keyword arguments, in a fixed order; it can be iterated over again and again.

    Parameters
    ----------
    batches : tuple of mappings
        Each the keyword arguments of one call of the model.
    sampling : Sampling
        How they were made.
    """

    batches: tuple[Mapping[str, Any], ...]
    sampling: Sampling

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def samples(self) -> int:
        """How many samples the batches hold."""
        return sum(map(_rows, self.batches))

    @property
    def digest(self) -> str:
        """SHA-256 of every batch: keys in order, types, shapes and bytes."""
        return digest(self.batches)


def digest(batches: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over mappings of tensors and other values, keys sorted: types, shapes and bytes."""
    total = hashlib.sha256()
    for i, batch in enumerate(batches):
        for key in sorted(batch):
            value = batch[key]
            if isinstance(value, Tensor):
                flat = value.detach().cpu().contiguous()
                total.update(f"{i} {key} {flat.dtype} {list(flat.shape)}\n".encode())
                total.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
            else:
                total.update(f"{i} {key} {value!r}\n".encode())
    return total.hexdigest()


def load(source: Any, sampling: Sampling | None = None, tokeniser: Tokeniser | None = None) -> CalibrationData:
    """Calibration data from a path or from an iterable of batches.

    Text: a sample is a line that is not blank. JSON lines: an object with "text", or with lists under the names of the
    model's arguments ("input_ids"). npz: arrays under those names, a sample along the first axis. A folder: its files
    of these kinds, in the order of their names. The seed picks `samples` of them; sequences are cut to
    `sequence_length`, padded with zeros to the longest of their batch, and the padding is in `attention_mask`. An
    iterable's batches are all taken as they are; only an explicit `sampling` ends them, once their first axes add up
    to its `samples`.

    Raises
    ------
    InputError
        If there is nothing to read, the data set is empty, a field is wrong, or text has no tokeniser.
    """
    if isinstance(source, CalibrationData):
        return source
    if not isinstance(source, (str, Path)):
        return _from_iterable(source, sampling)
    sampling = sampling or Sampling()
    path = Path(source)
    lazy = [sample for file in _files(path) for sample in _read(file, sampling, tokeniser)]
    if not lazy:
        raise InputError(f"{path}: the data set is empty")
    order = np.random.default_rng(sampling.seed).permutation(len(lazy))
    shuffled = (lazy[i]() for i in order)  # read when it is taken: a large corpus is not tokenised whole
    picked = list(_windows(shuffled, sampling, path) if sampling.pack else islice(shuffled, sampling.samples))
    if not picked:
        raise InputError(f"{path}: the data set is empty: it has fewer than {sampling.sequence_length} tokens")
    for sample in picked:
        if sample.keys() != picked[0].keys():
            raise InputError(f"{path}: samples must agree in their keys, not {sorted(picked[0])} and {sorted(sample)}")
    size = sampling.batch_size
    return CalibrationData(tuple(_batch(picked[i : i + size], path) for i in range(0, len(picked), size)), sampling)


def require_fitting(model: torch.nn.Module, data: CalibrationData, source: str = "data") -> None:
    """Raise `InputError` for token codes or lengths that a transformers model's configuration has no room for."""
    config = getattr(model, "config", None)
    vocabulary, positions = (getattr(config, key, None) for key in ("vocab_size", "max_position_embeddings"))
    if positions is not None and getattr(config, "model_type", "") in _OFFSET_POSITIONS:
        positions -= (getattr(config, "pad_token_id", None) or 0) + 1  # they count from behind the padding's
    for batch in data:
        ids = batch.get("input_ids")
        if not isinstance(ids, Tensor) or not ids.numel() or ids.ndim != 2:
            continue
        if ids.is_floating_point():
            raise InputError(f"{source}: input_ids must be integers, not {ids.dtype}")
        if vocabulary is not None and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
            raise InputError(
                f"{source}: input_ids must be in 0..{vocabulary - 1}, not {int(ids.min())}..{int(ids.max())}"
            )
        if positions is not None and ids.shape[1] > positions:
            raise InputError(
                f"{source}: sequences must have at most {positions} tokens for this model, not {ids.shape[1]} "
                "(--sequence-length cuts them)"
            )


def _windows(samples: Iterable[Sample], sampling: Sampling, path: Path) -> Iterator[Sample]:
    """The samples' tokens joined, in windows; what is left at the end is not used."""
    joined: list[np.ndarray] = []
    held, made, length = 0, 0, sampling.sequence_length
    for sample in samples:
        if set(sample) != {"input_ids"} or sample["input_ids"].ndim != 1:
            raise InputError(f"{path}: only sequences of input_ids can be packed, not {sorted(sample)}")
        joined.append(sample["input_ids"])
        held += len(joined[-1])
        while held >= length:
            tokens = np.concatenate(joined)
            yield {"input_ids": tokens[:length]}
            made, joined, held = made + 1, [tokens[length:]], held - length
            if made == sampling.samples:
                return


def tokeniser_of(folder: str | Path, sequence_length: int | None = None) -> Tokeniser:
    """The tokeniser in a checkpoint folder or a GGUF file, through transformers; nothing is downloaded.

    It cuts to `sequence_length` so that its closing tokens stay. Raises `InputError` if transformers is not installed
    or the folder has no tokeniser.
    """
    tokeniser = transformers_tokeniser(folder)
    limits: dict[str, Any] = {"truncation": sequence_length is not None, "max_length": sequence_length}
    return lambda text: tokeniser(text, verbose=False, **limits)["input_ids"]


def transformers_tokeniser(folder: str | Path) -> Any:
    """transformers' own tokeniser of a checkpoint folder or a GGUF file; errors as `tokeniser_of`."""
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError:
        raise InputError('text needs a tokeniser: pip install "bitwright[transformers]"') from None
    path, what = Path(folder), {}
    if path.suffix == ".gguf":
        path, what = path.parent, {"gguf_file": path.name}
    try:
        made = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False, **what)
    except Exception as error:  # a folder at fault raises many kinds
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{folder}: has no tokeniser that can be read ({line})") from None
    if len(made.get_vocab()) <= len(made.all_special_tokens):  # what transformers makes of a folder without its files
        raise InputError(f"{folder}: has no tokeniser: its vocabulary is empty")
    return made


def _from_iterable(source: Any, sampling: Sampling | None) -> CalibrationData:
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(f"data must be a path or an iterable of keyword arguments, not {type(source).__name__}")
    batches: list[Mapping[str, Any]] = []
    total = 0
    for batch in source:
        if not isinstance(batch, Mapping):
            raise InputError(f"data[{len(batches)}] must be a mapping of keyword arguments, not {type(batch).__name__}")
        made = {key: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) and v.dtype.kind in "iufb" else v
                for key, v in batch.items()}  # fmt: skip
        rows = _rows(made)
        if rows:  # an empty batch shows nothing
            batches.append(made)
        total += rows
        if sampling is not None and total >= sampling.samples:
            break
    if not total:
        raise InputError("data: the data set is empty")
    return CalibrationData(tuple(batches), sampling or Sampling())


def _rows(batch: Mapping[str, Any]) -> int:
    """Samples in a batch: the first axis of its first tensor, 1 where it has none."""
    tensors = [value for value in batch.values() if isinstance(value, Tensor)]
    return int(tensors[0].shape[0]) if tensors and tensors[0].ndim else 1


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        if not files:
            raise InputError(f"{path}: the data set is empty: no file ends in {', '.join(SUFFIXES)}")
        return files
    if not path.exists():
        raise InputError(f"{path}: cannot be read: there is no such file or folder")
    if not path.is_file():
        raise InputError(f"{path}: must be a regular file or a folder")
    if path.suffix not in ("", *SUFFIXES):
        raise InputError(f"{path}: calibration data must end in {', '.join(SUFFIXES)}, not {path.suffix}")
    return [path]


def _read(file: Path, sampling: Sampling, tokeniser: Tokeniser | None) -> Iterator[Callable[[], Sample]]:
    """A call for each sample of a file that makes it."""
    if file.suffix == ".npz":
        yield from _npz(file, sampling)
        return
    text = read_text(file)
    # a line of JSON ends at a line feed alone: its strings may hold U+2028 and the like
    for number, line in enumerate(text.split("\n") if file.suffix == ".jsonl" else text.splitlines(), 1):
        if not line.strip():
            continue
        if file.suffix == ".jsonl":
            yield partial(_json_sample, line, f"{file}: line {number}", sampling, tokeniser)
        else:
            yield partial(_tokens, line.strip(), str(file), sampling, tokeniser)


def _json_sample(line: str, place: str, sampling: Sampling, tokeniser: Tokeniser | None) -> Sample:
    row = _json_row(line, place)
    if "text" in row:
        return _tokens(row["text"], place, sampling, tokeniser)
    return {key: _cut(value, f"{place}: {key}", sampling) for key, value in row.items()}


def _json_row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not valid JSON ({error})") from None
    if not isinstance(row, dict) or not row:
        raise InputError(f"{place}: must be an object with text, or with the model's arguments")
    if "text" in row and not isinstance(row["text"], str):
        raise InputError(f"{place}: text must be a string, not {type(row['text']).__name__}")
    return row


def _tokens(text: str, place: str, sampling: Sampling, tokeniser: Tokeniser | None) -> Sample:
    if tokeniser is None:
        raise InputError(f"{place}: text needs a tokeniser")
    return {"input_ids": _cut(list(tokeniser(text)), f"{place}: input_ids", sampling)}


def _cut(values: Any, place: str, sampling: Sampling) -> np.ndarray:
    """One sample's argument as an array, cut along its first axis."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iufb":
        raise InputError(f"{place}: must hold numbers of one shape, not {str(values)[:40]!r}")
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    elif array.dtype == np.float64:
        array = array.astype(np.float32)
    return array[: sampling.sequence_length] if array.ndim and not sampling.pack else array


def _npz(file: Path, sampling: Sampling) -> Iterator[Callable[[], Sample]]:
    try:
        _require_bounded(file)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise InputError(f"{file}: not an .npz of arrays ({type(error).__name__})") from None
    lengths = {key: array.shape[0] if array.ndim else None for key, array in arrays.items()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        raise InputError(f"{file}: arrays must agree in their first axis, the samples, not {lengths}")
    for i in range(next(iter(lengths.values()), 0) or 0):
        yield partial(_npz_sample, arrays, i, file, sampling)


def _require_bounded(file: Path) -> None:
    """Raise `InputError` if arrays would take far more memory than the file; nothing is unpacked before."""
    most = max(UNPACKED, EXPANSION * file.stat().st_size)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(stream)
                header = stream.tell()
            claimed = math.prod(shape) * kind.itemsize
            if claimed != member.file_size - header:
                raise InputError(
                    f"{file}: {member.filename} holds {member.file_size - header} bytes, not the {claimed} of its shape"
                )
        total = sum(member.file_size for member in archive.infolist())
    if total > most:
        raise InputError(f"{file}: unpacks to {total} bytes; at most {most} are read from a file of this size")


def _npz_sample(arrays: Mapping[str, np.ndarray], i: int, file: Path, sampling: Sampling) -> Sample:
    return {key: _cut(array[i], f"{file}: {key}", sampling) for key, array in arrays.items()}


def _batch(samples: Sequence[Sample], path: Path) -> dict[str, Tensor]:
    """Stack samples; sequences of integers are padded, and `attention_mask` says where."""
    batch: dict[str, Tensor] = {}
    for key in samples[0]:
        arrays = [sample[key] for sample in samples]
        if len({(a.shape[1:], a.ndim) for a in arrays}) > 1:
            raise InputError(f"{path}: {key} must have one shape but for its length")
        longest = max(a.shape[0] for a in arrays) if arrays[0].ndim else 0
        padded = [np.pad(a, [(0, longest - a.shape[0]), *[(0, 0)] * (a.ndim - 1)]) if a.ndim else a for a in arrays]
        batch[key] = torch.from_numpy(np.stack(padded))
    if "input_ids" in batch and "attention_mask" not in batch:
        mask = np.zeros(batch["input_ids"].shape, dtype=np.int64)
        for row, sample in zip(mask, samples, strict=True):
            row[: sample["input_ids"].shape[0]] = 1
        batch["attention_mask"] = torch.from_numpy(mask)
    return batch
