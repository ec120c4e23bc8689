"""Amaranth components and the Verilog they become.

    config = PwlConfig(entries=8)
    text, description = render(Pwl(config), "pwl8", "pwl")

`UNITS` is every unit by name, and each unit's configuration and component are exported; `rtl.emit.emit` writes what
`render` gives. Nothing is imported until it is asked for, so that `import rtl` needs no Amaranth.
"""

from typing import TYPE_CHECKING

from sim.common.lazy import exports

if TYPE_CHECKING:
    from rtl.array.config import ArrayConfig
    from rtl.array.gemm import Gemm
    from rtl.array.processing_element_stream import ElementConfig, ElementStream
    from rtl.emit import render
    from rtl.floating.mac import Mac, MacConfig
    from rtl.floating.operators import Operator, OperatorConfig
    from rtl.floating.pwl import FloatPwl, FloatPwlConfig
    from rtl.normaliser import NormaliserConfig, NormaliserUnit
    from rtl.pwl import Pwl, PwlConfig
    from rtl.requant import RequantConfig, Requantiser
    from rtl.rowwise.norm import NormConfig, NormUnit
    from rtl.rowwise.softmax import SoftmaxConfig, SoftmaxUnit
    from rtl.units import UNITS

__all__ = [
    "UNITS",
    "ArrayConfig",
    "ElementConfig",
    "ElementStream",
    "FloatPwl",
    "FloatPwlConfig",
    "Gemm",
    "Mac",
    "MacConfig",
    "NormConfig",
    "NormUnit",
    "NormaliserConfig",
    "NormaliserUnit",
    "Operator",
    "OperatorConfig",
    "Pwl",
    "PwlConfig",
    "RequantConfig",
    "Requantiser",
    "SoftmaxConfig",
    "SoftmaxUnit",
    "render",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "PwlConfig": "rtl.pwl",
        "Pwl": "rtl.pwl",
        "NormaliserConfig": "rtl.normaliser",
        "NormaliserUnit": "rtl.normaliser",
        "RequantConfig": "rtl.requant",
        "Requantiser": "rtl.requant",
        "FloatPwlConfig": "rtl.floating.pwl",
        "FloatPwl": "rtl.floating.pwl",
        "MacConfig": "rtl.floating.mac",
        "Mac": "rtl.floating.mac",
        "OperatorConfig": "rtl.floating.operators",
        "Operator": "rtl.floating.operators",
        "SoftmaxConfig": "rtl.rowwise.softmax",
        "SoftmaxUnit": "rtl.rowwise.softmax",
        "NormConfig": "rtl.rowwise.norm",
        "NormUnit": "rtl.rowwise.norm",
        "ArrayConfig": "rtl.array.config",
        "Gemm": "rtl.array.gemm",
        "ElementConfig": "rtl.array.processing_element_stream",
        "ElementStream": "rtl.array.processing_element_stream",
        "UNITS": "rtl.units",
        "render": "rtl.emit",
    },
)
