"""A language model's real activations as vectors: the first layers of SmolLM2 on Brown text."""

from pathlib import Path
from typing import Any

from quant import Plan
from quant.calibration import tokeniser_of
from quant.formats.checkpoint import load_model
from quant.zoo.corpora import brown
from quant.zoo.packaged import find
from sim.network.convert import convert
from sim.network.recorded_vectors import network_sets
from sim.network.rotation import rotated
from sim.network.table_sets import fitted_tables, folder_tables
from sim.vectors.vector_set import VectorSet
from sim.workloads.language import FUNCTIONS, windows

LAYERS = 2
WINDOWS, LENGTH = 4, 32  # recorded


def language_vectors(tables: Path | None = None, seed: int = 0, quick: bool = False) -> list[VectorSet]:
    """Every site with a unit in the first layers, rotated, in W8A8 with activations per token.

    Tables are those of a folder, else fitted with 8 entries. `quick` takes one window.
    """
    path = find("smollm2")
    words = tokeniser_of(path)
    model: Any = load_model(path)[0]
    del model.model.layers[LAYERS:]
    model.config.num_hidden_layers = LAYERS
    chosen = fitted_tables("genetic", 8, FUNCTIONS) if tables is None else folder_tables(tables, FUNCTIONS)
    data = [{"input_ids": windows(brown("train"), words, 8, LENGTH)}]
    network = convert(rotated(model, seed), Plan.uniform(activation_granularity="token", tables=chosen), data)
    batch = {"input_ids": windows(brown("test"), words, 1 if quick else WINDOWS, LENGTH)}
    source = {"network": path.stem, "layers": LAYERS, "seed": seed}
    return network_sets("language", network, [batch], source)
