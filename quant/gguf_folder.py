"""A GGUF file as a checkpoint folder in floating point, as transformers writes one."""

import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.calibration import transformers_tokeniser
from quant.formats.checkpoint import load_model
from quant.formats.gguf_file import KEY, origin_line
from sim.common.files import locked
from sim.reference import InputError


def import_gguf(path: str | Path, target: str | Path) -> list[Mapping[str, Any]]:
    """Write the model of a GGUF file as config.json, float32 safetensors and a tokeniser.

    What the weights were is kept in config.json (`weights_origin`), and printed on stderr.

    Parameters
    ----------
    path : str or Path
        The file: Q4_0, Q4_1, Q8_0, F16 and F32.
    target : str or Path
        The folder to write; a checkpoint in it is replaced.

    Returns
    -------
    list
        A row for each number format in the file: tensors, values, bits and group size.

    Raises
    ------
    InputError
        If the file is damaged, of another number format, or of an architecture that transformers does not read.
    """
    path, target = Path(path), Path(target)
    model: Any = load_model(path)[0]
    origin = getattr(model.config, KEY)
    with locked(target), tempfile.TemporaryDirectory(dir=target, prefix=".import") as made:
        model.save_pretrained(made)
        save_tokeniser(path, made)
        for old in [*target.glob("model*.safetensors"), *target.glob("model.safetensors.index.json")]:
            old.unlink()
        for file in sorted(Path(made).iterdir(), key=lambda file: file.name == "config.json"):  # which is the last
            shutil.move(file, target / file.name)
    print(origin_line(model.config) or f"{path}: nothing was quantised", file=sys.stderr)
    return origin["rows"]


def save_tokeniser(path: str | Path, target: str | Path) -> None:
    """Write the tokeniser inside a GGUF file into a folder; one line on stderr if the file has none."""
    try:
        transformers_tokeniser(path).save_pretrained(target)
    except InputError as error:
        print(f"no tokeniser: {error}", file=sys.stderr)
