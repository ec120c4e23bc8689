"""A subject that is measured in a fraction of a second: an encoder of two layers with random weights."""

from dataclasses import dataclass

import numpy as np

from cost_model.explore.network_space import NetworkPoint, NetworkSpace
from cost_model.explore.network_subjects import BERT, Prepared, plan
from sim.network.convert import calibrate
from sim.network.graph import Network
from sim.workloads.sentence import embed
from tests.sim.network.models import bert, token_batches

SPACE = NetworkSpace(
    attention=("w8a8", "w4g16a8"), fc1=("w8a8", "w4g16a4"), fc2=("w8a8",), activation_entries=(8,), exp_entries=(8,),
    div_entries=(8,), rsqrt_entries=(8,), rows=(4,), columns=(4, 8), depth=(16,), lanes=(1,), two_pass=(False,),
    acc_bits=(None,), weights_in=("dram", "sram"), tokens=(12,),
)  # fmt: skip


@dataclass(frozen=True)
class Toy:
    """One less the cosine of each embedding with the one in floating point."""

    texts: int = 8
    name = "toy"
    unit = "cosine"
    layout = BERT

    def prepare(self) -> Prepared:
        model, batches = bert(), token_batches(2, self.texts // 2)
        real = embed(model, batches, range(self.texts))

        def measure(network: Network) -> np.ndarray:
            return 1 - (embed(network, batches, range(self.texts)) * real).sum(1)

        calibration = calibrate(model, plan(self, NetworkPoint()), token_batches(seed=1))
        return Prepared(calibration, measure, token_batches(1, 2, 6))
