"""Simulation: the integer specification (`sim.reference`) and everything that is checked against it.

    network = sim.convert(model, plan, data)  # a transformer in integers

Nothing is imported eagerly, so that `import sim.reference` stays free of torch and of the simulators.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.network.convert import convert
    from sim.network.packed import load, save
    from sim.network.report import report

__all__ = ["convert", "load", "report", "save"]

_HOMES = {
    "convert": "sim.network.convert",
    "load": "sim.network.packed",
    "report": "sim.network.report",
    "save": "sim.network.packed",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
