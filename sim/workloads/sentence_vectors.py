"""The sentence encoder's real activations as vectors."""

from pathlib import Path

from quant import Plan
from quant.formats.checkpoint import load_model
from quant.zoo.packaged import find
from sim.network.convert import convert
from sim.network.recorded_vectors import layer_sets, network_sets
from sim.network.table_sets import fitted_tables, folder_tables
from sim.vectors.vector_set import VectorSet
from sim.workloads.sentence import Options, Sentences

SENTENCES = 8
FEED_FORWARD = ("layers.0.up", "layers.0.down")
LAYER_SENTENCES = 3  # through the array, in which each token costs thousands of cycles


def sentence_vectors(tables: Path | None = None, seed: int = 0, quick: bool = False) -> list[VectorSet]:
    """Every site of all-MiniLM-L6-v2 in W8A8 with activations per token, and a feed-forward layer with static ones.

    Tables are those of a folder, else fitted with 8 entries. `quick` takes two sentences.
    """
    folder = find("minilm")
    texts = Sentences(folder, Options(count=SENTENCES, calibration=32))
    data = texts.calibration(seed)
    model, _ = load_model(folder)
    chosen = fitted_tables("genetic", 8) if tables is None else folder_tables(tables)
    source = {"network": "all-MiniLM-L6-v2", "seed": seed, "sentences_sha256": texts.digest}
    sets: list[VectorSet] = []
    for granularity in ("token", "tensor"):
        network = convert(model, Plan.uniform(activation_granularity=granularity, tables=chosen), data)
        count = 2 if quick else SENTENCES if granularity == "token" else LAYER_SENTENCES
        batches = [{key: value[:count] for key, value in texts.batches[0].items()}]
        if granularity == "token":
            sets += network_sets("sentence", network, batches, source)
        else:
            sets += layer_sets("sentence-ffn", network, batches, source, FEED_FORWARD)
    return sets
