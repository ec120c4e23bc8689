"""The registers of pipelines: the model of `rtl.blocks.pipeline` for an array of units at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


def register_bits(pipelines: Sequence[Pipeline]) -> Array:
    """The bits of all ranks, one valid bit in each; a unit has the first of `pipelines` whose `when` is true for it.

    Raises `InputError` if there are more stages than steps.
    """
    *special, general = pipelines
    bits = _register_bits(general)
    for pipeline in reversed(special):
        bits = np.where(pipeline.when, _register_bits(pipeline), bits)
    return bits


def _register_bits(pipeline: Pipeline) -> np.ndarray:
    """The bits of the ranks where `rtl.blocks.pipeline.cut` places them: least maximum delay, then sum of squares.

    All placements are evaluated, for all units at once.
    """
    steps, stages = pipeline.steps, pipeline.stages
    live = _live_bits(steps, pipeline.result, pipeline.inputs)
    count = len(steps)
    shape = np.broadcast_shapes(*(np.shape(a) for a in (*(s.levels for s in steps), *live, stages)))
    stage_list = np.broadcast_to(np.asarray(stages), shape).ravel()
    delays = np.stack([np.broadcast_to(np.asarray(s.levels, np.float64), shape).ravel() for s in steps])
    bits = np.stack([np.broadcast_to(np.asarray(a, np.float64), shape).ravel() for a in live])
    total = np.empty(len(stage_list))
    for depth in np.unique(stage_list):
        check_stages(depth, count)
        here = np.flatnonzero(stage_list == depth)
        until = np.concatenate([np.zeros((1, len(here))), np.cumsum(delays[:, here], axis=0)])
        held = bits[:, here]
        best = np.full(len(here), np.inf)
        answer = np.zeros(len(here))
        for inner in combinations(range(1, count), int(depth) - 1):
            edges = [0, *inner, count]
            parts = np.diff(until[edges], axis=0)
            price = parts.max(axis=0) * 1e6 + (parts * parts).sum(axis=0)
            better = price < best
            best = np.where(better, price, best)
            answer = np.where(better, held[[edge - 1 for edge in edges[1:]]].sum(axis=0), answer)
        total[here] = answer + depth
    return total.reshape(shape)


def _live_bits(steps: Sequence[Step], result: str, inputs: Mapping[str, Array]) -> list[Array]:
    """After each step, the bits of the fields that a later one reads."""
    made = dict(inputs)
    live = []
    for k, step in enumerate(steps):
        made |= step.makes
        wanted = {name for later in steps[k + 1 :] for name in later.reads} | {result}
        live.append(sum(bits for name, bits in made.items() if name in wanted))
    return live
