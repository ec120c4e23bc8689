"""The INT8 of others, which the benchmark measures beside ours: dynamic quantisation of linear layers.

Their sums are rounded and scaled in floating point, and no hardware is promised to give the same codes.
"""

import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

PACKAGES = ("onnx", "onnxruntime")  # optional


def torch_dynamic(model: nn.Module) -> Callable[..., Any]:
    """The model with PyTorch's dynamically quantised linear layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of an interface that has no successor within PyTorch
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


class _Hidden(nn.Module):
    """The last hidden state alone, which ONNX can name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def onnx_runtime(model: nn.Module, example: dict[str, Tensor], threads: int) -> dict[str, Callable[..., Any]]:
    """ONNX Runtime's session of the dynamically quantised model, by its name; none without the packages."""
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        print("ONNX Runtime is not measured: pip install onnx onnxruntime", file=sys.stderr)
        return {}
    import onnxruntime  # pyright: ignore[reportMissingImports]
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportMissingImports]

    names, axes = list(example), {name: {0: "batch", 1: "tokens"} for name in example}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        real, quantised = Path(folder) / "real.onnx", Path(folder) / "int8.onnx"
        torch.onnx.export(
            _Hidden(model).eval(), tuple(example.values()), str(real), input_names=names, output_names=["hidden"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(real, quantised, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        session = onnxruntime.InferenceSession(str(quantised), options, providers=["CPUExecutionProvider"])
    return {
        "ONNX Runtime dynamic INT8": lambda **batch: session.run(
            None, {name: value.numpy() for name, value in batch.items()}
        )
    }
