"""The first layers of SmolLM2 in integers and windows of a text, as the engine runs them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from quant import Plan
from quant.calibration import digest, tokeniser_of
from quant.formats.checkpoint import load_model
from quant.zoo.corpora import brown
from quant.zoo.packaged import find
from sim.common.errors import require_range
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.table_sets import fitted_tables
from sim.workloads.language import FUNCTIONS, windows

MOST = 1000  # windows of the test split
CALIBRATION = 8  # of the training split


def language_layers(
    samples: int, tokens: int, layers: int | None
) -> tuple[Network, list[dict[str, Tensor]], Mapping[str, str]]:
    """The network in W8A8 with activations per token, a batch (1, `tokens`) for each sample, and what both come from.

    It has the model's first `layers`, or all. Samples are windows of Brown's test split. Raises InputError if a number
    is out of its range.
    """
    path = find("smollm2")
    words = tokeniser_of(path)
    model: Any = load_model(path)[0]
    most = len(model.model.layers)
    require_range("--samples", samples, 1, MOST)
    require_range("--sequence-length", tokens, 2, model.config.max_position_embeddings)
    kept = most if layers is None else layers
    require_range("--layers", kept - 1, 0, most - 1)
    del model.model.layers[kept:]
    model.config.num_hidden_layers = kept
    plan = Plan.uniform(activation_granularity="token", tables=fitted_tables("genetic", 8, FUNCTIONS))
    calibration = [{"input_ids": windows(brown("train"), words, CALIBRATION, tokens)}]
    network = convert(model, plan, calibration)
    batches = [{"input_ids": row[None]} for row in windows(brown("test"), words, samples, tokens)]
    return network, batches, {
        "network": path.stem if kept == most else f"{path.stem}, {kept} of its {most} layers",
        "data": "Brown corpus, test split",
        "data_sha256": digest(batches),
    }  # fmt: skip
