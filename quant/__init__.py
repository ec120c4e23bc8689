"""Quantisation of PyTorch models: the plan, quantisers, observers, calibration data and packed formats.

    model = quant.quantize(model, plan, data)
    quant.save_pretrained(model, folder)
    model = quant.from_pretrained(folder)

The names load on first use, so that `import quant` stays free of torch.
"""

from typing import TYPE_CHECKING

from sim.common.lazy import exports

if TYPE_CHECKING:
    from quant.calibration import CalibrationData, Sampling
    from quant.formats.packed import PackedModel
    from quant.methods.efficientqat.quantise import efficientqat
    from quant.methods.post_training import Job, quantize
    from quant.methods.zeroquant import zeroquant
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
    "efficientqat",
    "from_pretrained",
    "quantize",
    "save_pretrained",
    "zeroquant",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "CalibrationData": "quant.calibration",
        "Job": "quant.methods.post_training",
        "PackedModel": "quant.formats.packed",
        "Plan": "quant.plan",
        "QuantisedLinear": "quant.primitives.linear",
        "QuantisedWeight": "quant.primitives.quantisers",
        "Rule": "quant.plan",
        "Sampling": "quant.calibration",
        "Settings": "quant.plan",
        "efficientqat": "quant.methods.efficientqat.quantise",
        "from_pretrained": "quant.pretrained",
        "quantize": "quant.methods.post_training",
        "save_pretrained": "quant.pretrained",
        "zeroquant": "quant.methods.zeroquant",
    },
)
