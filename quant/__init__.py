"""Quantisation of PyTorch models: the plan, quantisers, observers, calibration data and packed formats.

    model = quant.quantize(model, plan, data)
    quant.save_pretrained(model, folder)
    model = quant.from_pretrained(folder)

The names load on first use, so that `import quant` stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.calibration import CalibrationData, Sampling
    from quant.formats.packed import PackedModel
    from quant.methods.post_training import Job, quantize
    from quant.plan import Plan, Rule, Settings
    from quant.pretrained import from_pretrained, save_pretrained
    from quant.primitives.linear import QuantisedLinear
    from quant.primitives.quantisers import QuantisedWeight

__all__ = [
    "CalibrationData",
    "Job",
    "PackedModel",
    "Plan",
    "QuantisedLinear",
    "QuantisedWeight",
    "Rule",
    "Sampling",
    "Settings",
    "from_pretrained",
    "quantize",
    "save_pretrained",
]

_HOMES = {
    "CalibrationData": "quant.calibration",
    "Job": "quant.methods.post_training",
    "PackedModel": "quant.formats.packed",
    "Plan": "quant.plan",
    "QuantisedLinear": "quant.primitives.linear",
    "QuantisedWeight": "quant.primitives.quantisers",
    "Rule": "quant.plan",
    "Sampling": "quant.calibration",
    "Settings": "quant.plan",
    "from_pretrained": "quant.pretrained",
    "quantize": "quant.methods.post_training",
    "save_pretrained": "quant.pretrained",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quant' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
