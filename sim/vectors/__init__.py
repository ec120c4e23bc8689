"""Vector files: inputs and what the specification expects, a file per unit; free of torch."""

from typing import TYPE_CHECKING

from sim.common.lazy import exports

if TYPE_CHECKING:
    from sim.vectors.files import load_folder
    from sim.vectors.vector_set import VectorSet

__all__ = ["VectorSet", "load_folder"]

__getattr__, __dir__ = exports(__name__, {"VectorSet": "sim.vectors.vector_set", "load_folder": "sim.vectors.files"})
