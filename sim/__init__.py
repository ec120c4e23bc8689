"""Simulation: the integer specification (`sim.reference`) and everything that is checked against it.

    network = sim.convert(model, plan, data)  # a transformer in integers

Nothing is imported eagerly, so that `import sim.reference` stays free of torch and of the simulators.
"""

from typing import TYPE_CHECKING

from sim.common.lazy import exports

if TYPE_CHECKING:
    from sim.network.convert import convert
    from sim.network.packed import load, save
    from sim.network.report import report

__all__ = ["convert", "load", "report", "save"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "convert": "sim.network.convert",
        "load": "sim.network.packed",
        "report": "sim.network.report",
        "save": "sim.network.packed",
    },
)
