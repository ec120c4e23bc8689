"""GGUF files (llama.cpp): which number formats a file's weights have, before transformers dequantises them.

Q8_0, Q4_0 and Q4_1 share a scale among 32 consecutive inputs: w = d q, d (q - 8), or d q + m, with d and m in float16.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.common.files import require_regular
from sim.reference import InputError

KEY = "weights_origin"  # of config.json
BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8, "F16": None, "F32": None}  # bits of a code, in groups of 32
GROUP = 32


def read_origin(path: str | Path) -> dict[str, Any]:
    """What the weights of a GGUF file are before they are dequantised.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        `format` "gguf" and `rows`: for each number format in the file its number of tensors and of values. If most
        values of matrices are quantised, also `bits` and `group_size` of the most frequent format.

    Raises
    ------
    InputError
        If gguf is not installed, the file is damaged, or a tensor has a format other than those of `BITS`.
    """
    try:
        import gguf
    except ModuleNotFoundError:
        raise InputError('a GGUF file needs gguf and accelerate: pip install "bitwright[gguf]"') from None
    require_regular(path)
    try:
        found = [(t.name, t.tensor_type.name, int(t.n_elements), len(t.shape)) for t in gguf.GGUFReader(path).tensors]
    except FileNotFoundError:
        raise InputError(f"{path}: cannot be read: there is no such file") from None
    except Exception as error:  # a damaged file raises many kinds
        raise InputError(f"{path}: not a whole GGUF file ({type(error).__name__})") from None
    if not found:
        raise InputError(f"{path}: holds no tensor")
    tensors: Counter[str] = Counter()
    values: Counter[str] = Counter()
    matrices: Counter[str] = Counter()
    for name, kind, count, rank in found:
        if kind not in BITS:
            raise InputError(f"{path}: {name} must be one of {', '.join(BITS)}, not {kind}")
        tensors[kind] += 1
        values[kind] += count
        matrices[kind] += count if rank > 1 else 0
    rows = [{"number_format": kind, "tensors": tensors[kind], "values": values[kind], "bits": BITS[kind],
             "group_size": None if BITS[kind] is None else GROUP} for kind in sorted(tensors)]  # fmt: skip
    most = max(matrices, key=lambda kind: matrices[kind])
    quantised = {} if BITS[most] is None else {"bits": BITS[most], "group_size": GROUP}
    return {"format": "gguf", "rows": rows} | quantised


def origin_line(config: object) -> str | None:
    """What every result on such a model says, in one line; None if the weights were floating point.

    Parameters
    ----------
    config : object
        A model's configuration, or the content of its config.json.
    """
    origin = config.get(KEY) if isinstance(config, Mapping) else getattr(config, KEY, None)
    if not isinstance(origin, Mapping) or "bits" not in origin:
        return None
    return (
        f"weights came as {origin['bits']} bit in groups of {origin.get('group_size')}, dequantised from "
        f"{str(origin.get('format')).upper()}: quantised alike they lose nothing"
    )
