"""all-MiniLM-L6-v2 in integers and texts of a stated length, as the engine runs them."""

from collections.abc import Mapping

from torch import Tensor

from quant import Plan
from quant.calibration import digest, tokeniser_of
from quant.formats.checkpoint import load_model
from quant.zoo.packaged import find
from sim.common.errors import require_range
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.table_sets import fitted_tables
from sim.workloads.sentence import LONGEST, Options, Sentences, padded

MOST, JOINED = 1000, 16  # texts, and sentences of a text
CALIBRATION = 32


def sentence_layers(samples: int, tokens: int, seed: int) -> tuple[Network, list[dict[str, Tensor]], Mapping[str, str]]:
    """The network in W8A8 with activations per token, a batch (1, `tokens`) for each sample, and what both come from.

    A text is sentences of Python's, one after the other, cut to `tokens`. Raises InputError if `samples` or `tokens` is
    out of its range, or a package is missing.
    """
    require_range("--samples", samples, 1, MOST)
    require_range("tokens", tokens, 2, LONGEST)
    folder = find("minilm")
    texts = Sentences(folder, Options(count=max(samples * JOINED, 2), calibration=CALIBRATION))
    cut = tokeniser_of(folder, tokens)
    starts = range(0, samples * JOINED, JOINED)
    batches = [padded([[*cut(" ".join(texts.measured[first : first + JOINED]))]]) for first in starts]
    model, _ = load_model(folder)
    plan = Plan.uniform(activation_granularity="token", tables=fitted_tables("genetic", 8))
    network = convert(model, plan, texts.calibration(seed))
    return network, batches, {
        "network": "all-MiniLM-L6-v2",
        "data": f"{JOINED} sentences that come with Python to a text",
        "data_sha256": digest(batches),
    }  # fmt: skip
