"""Quantisation of PyTorch models: the plan, quantisers, observers, calibration data and packed formats.

    model = quant.quantize(model, plan, data)
    quant.save_pretrained(model, folder)
    model = quant.from_pretrained(folder)

The names load on first use, so that `import quant` stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.calibration import CalibrationData
    from quant.plan import Plan, Rule, Settings

__all__ = ["CalibrationData", "Plan", "Rule", "Settings"]

_HOMES = {
    "CalibrationData": "quant.calibration",
    "Plan": "quant.plan",
    "Rule": "quant.plan",
    "Settings": "quant.plan",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quant' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
