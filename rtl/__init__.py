"""Amaranth components and the Verilog they become.

    config = PwlConfig(entries=8)
    text, description = render(Pwl(config), "pwl8", "pwl")

`UNITS` is every unit by name; `rtl.emit.emit` writes what `render` gives. Nothing is imported until it is asked for, so
that `import rtl` needs no Amaranth.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtl.emit import render
    from rtl.pwl import Pwl, PwlConfig
    from rtl.units import UNITS

__all__ = ["UNITS", "Pwl", "PwlConfig", "render"]

_HOMES = {"Pwl": "rtl.pwl", "PwlConfig": "rtl.pwl", "UNITS": "rtl.units", "render": "rtl.emit"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rtl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
