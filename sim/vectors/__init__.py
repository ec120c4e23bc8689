"""Vector files: inputs and what the specification expects, a file per unit; free of torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.vectors.files import load_folder
    from sim.vectors.vector_set import VectorSet

__all__ = ["VectorSet", "load_folder"]

_HOMES = {"VectorSet": "sim.vectors.vector_set", "load_folder": "sim.vectors.files"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sim.vectors' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
