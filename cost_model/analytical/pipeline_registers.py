"""The registers of pipelines: the model of `rtl.blocks.pipeline` for an array of units at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np

from cost_model.analytical.broadcasting import Array
from rtl.blocks.pipeline import check_stages


@dataclass(frozen=True)
class Step:
    """A step like `rtl.blocks.pipeline.Step`, with the bits of each field that it makes in place of its logic."""

    reads: tuple[str, ...]
    levels: Array
    makes: Mapping[str, Array]


@dataclass(frozen=True)
class Pipeline:
    """Steps in `stages` stages to the field `result`, for the units for which `when` is true.

    `inputs` are the fields before the first step that later ones read.
    """

    steps: Sequence[Step]
    result: str
    stages: Array
    inputs: Mapping[str, Array] = field(default_factory=dict)
    when: Array = True

    @cached_property
    def ranks(self) -> np.ndarray:
        """Whether a rank of registers follows each step: a row of booleans for each step, in the shape of the units.

        The ranks are where `rtl.blocks.pipeline.cut` places them: least maximum delay, then sum of squares. All
        placements are evaluated, for all units at once. Raises `InputError` if there are more stages than steps.
        """
        count = len(self.steps)
        shape = np.broadcast_shapes(*(np.shape(a) for a in (*(s.levels for s in self.steps), *self._live, self.stages)))
        stage_list = np.broadcast_to(np.asarray(self.stages), shape).ravel()
        delays = np.stack([np.broadcast_to(np.asarray(s.levels, np.float64), shape).ravel() for s in self.steps])
        ranks = np.zeros((count, len(stage_list)), bool)
        for depth in np.unique(stage_list):
            check_stages(depth, count)
            here = np.flatnonzero(stage_list == depth)
            until = np.concatenate([np.zeros((1, len(here))), np.cumsum(delays[:, here], axis=0)])
            best = np.full(len(here), np.inf)
            answer = np.zeros(len(here), int)
            placements = np.zeros((math.comb(count - 1, int(depth) - 1), count), bool)
            for k, inner in enumerate(combinations(range(1, count), int(depth) - 1)):
                edges = [0, *inner, count]
                placements[k, np.array(edges[1:]) - 1] = True
                parts = np.diff(until[edges], axis=0)
                price = parts.max(axis=0) * 1e6 + (parts * parts).sum(axis=0)
                better = price < best
                best = np.where(better, price, best)
                answer[better] = k
            ranks[:, here] = placements[answer].T
        return ranks.reshape(count, *shape)

    @property
    def register_bits(self) -> np.ndarray:
        """The bits of all ranks, one valid bit in each."""
        bits = np.zeros(self.ranks.shape[1:])
        for rank, live in zip(self.ranks, self._live, strict=True):
            bits += rank * (np.asarray(live) + 1.0)
        return bits

    @cached_property
    def _live(self) -> list[Array]:
        """After each step, the bits of the fields that a later one reads."""
        made = dict(self.inputs)
        live = []
        for k, step in enumerate(self.steps):
            made |= step.makes
            wanted = {name for later in self.steps[k + 1 :] for name in later.reads} | {self.result}
            live.append(sum(bits for name, bits in made.items() if name in wanted))
        return live


def register_bits(pipelines: Sequence[Pipeline]) -> Array:
    """The bits of all ranks, one valid bit in each; a unit has the first of `pipelines` whose `when` is true for it.

    Raises `InputError` if there are more stages than steps.
    """
    *special, general = pipelines
    bits = general.register_bits
    for pipeline in reversed(special):
        bits = np.where(pipeline.when, pipeline.register_bits, bits)
    return bits
