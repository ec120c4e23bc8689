"""Real activations of a 4-bit network with Hadamard transforms as vectors: the small Llama on Brown text.

Weights and inputs have 4 bits, and every layer has a transform: each transform, each layer's quantiser, and a layer's
products in the array.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from quant.calibration import tokeniser_of
from quant.zoo import char_lm
from quant.zoo.corpora import brown
from rtl.rowwise.token import TokenConfig
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.operators.linear import Linear
from sim.network.operators.recording import require_same
from sim.network.recorded_vectors import layer_sets, network_sets, record
from sim.network.table_sets import fitted_tables, folder_tables
from sim.vectors.random_unit import unit_set
from sim.vectors.vector_set import VectorSet
from sim.workloads.four_bits import Options, Subject, plan, subject
from sim.workloads.language import FUNCTIONS, windows

BITS = 4  # of weights and inputs
WINDOWS, LENGTH = 4, 32  # recorded
LAYER = ("layers.0.qkv", "layers.0.gate_up", "layers.0.down")  # through the array


def four_bits_vectors(tables: Path | None = None, seed: int = 0, quick: bool = False) -> list[VectorSet]:
    """Every site with a unit, inputs scaled per token; and layers through the array, with static scales.

    Tables are those of a folder, else fitted with 8 entries. `quick` takes one window.
    """
    words = tokeniser_of(char_lm.trained())
    batch = {"input_ids": windows(brown("test"), words, 1 if quick else WINDOWS, LENGTH)}
    return subject_sets(subject("char_lm", Options(("char_lm",))), [batch], tables, seed)


def subject_sets(
    chosen: Subject, batches: Sequence[Mapping[str, Tensor]], tables: Path | None, seed: int
) -> list[VectorSet]:
    """The same of any Llama, on these batches."""
    found = fitted_tables("genetic", 8, FUNCTIONS) if tables is None else folder_tables(tables, FUNCTIONS)
    source = {"network": chosen.name, "seed": seed}

    def network(granularity: str) -> Network:
        return convert(chosen.model, plan(chosen, BITS, BITS, "all", found, granularity), chosen.data)

    by_token = network("token")
    sets = [*network_sets("four-bits", by_token, batches, source), *token_sets("four-bits", by_token, batches, source)]
    return sets + layer_sets("four-bits", network("tensor"), batches, source, LAYER)


def token_sets(
    name: str, network: Network, batches: Sequence[Mapping[str, Tensor]], source: Mapping[str, Any]
) -> list[VectorSet]:
    """What the layers' quantisers take and give: a set for each length of row and width, with a load for each layer."""
    seen, given = record(network, batches), dict[tuple[int, int], list[Any]]()
    linears = [operator for operator in network.operators() if isinstance(operator, Linear)]
    for linear in linears:
        assert linear.source is not None
        x = np.concatenate([arguments[0].flatten(0, -2).numpy() for arguments, _ in seen[linear.name]])
        last = np.zeros(x.shape, dtype=np.int64)
        last[:, -1] = 1
        inputs = {"x": x.ravel().astype(np.int64), "last": last.ravel()}
        codes = np.concatenate(
            [linear.activations(arguments[0])[0].numpy().ravel() for arguments, _ in seen[linear.name]]
        )
        config = TokenConfig(x.shape[1], linear.source.bits)
        require_same(linear.name, config.expected(inputs, {})["code"], codes)
        given.setdefault((config.row_length, config.out_bits), []).append(({}, inputs))
    where = {**source, "sites": [linear.name for linear in linears]}
    return [
        unit_set(f"{name}-token-{length}-{bits}", "token", TokenConfig(length, bits), loads, where)
        for (length, bits), loads in given.items()
    ]
