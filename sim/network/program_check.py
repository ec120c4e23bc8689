"""What a program computes, against the integer network; differences by operator, row and channel."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.network.program_builder import Program, Step
from sim.reference import engine as hardware
from sim.reference.engine import Engine


def first_difference(program: Program, expected: Mapping[str, np.ndarray]) -> str | None:
    """Execute the program in numpy; the first operator, row and channel that differs from the network's, or None."""
    lanes = program.config.lanes
    engine = Engine(program.config.words, lanes)
    for step in program.steps:
        engine.execute(step.instruction)
        if step.output is None or not step.last:
            continue
        got = hardware.untiled(engine.read(step.place.walk(lanes)), step.place.rows, step.place.channels)
        want = expected[step.output]
        want = want[step.head] if want.ndim == 3 and step.head is not None else want
        want = want if step.place.order is None else want[:, step.place.order]
        wrong = np.argwhere(got != want)
        if len(wrong):
            row, channel = map(int, wrong[0])
            return f"{_name(step)}: row {row} channel {channel} is {got[row, channel]}, not {want[row, channel]}"
    return None


def located(program: Program, run: Any) -> str:
    """The first write that a run found to be wrong, as operator, row and channel.

    `run` has `first`, the number of the instruction, `place`, that of the write in it, and `found`, (address, word).
    """
    if run.first >= len(program.steps):
        return "a write behind the program's end"
    step = program.steps[run.first]
    engine = Engine(program.config.words, program.config.lanes)
    written = engine.run(program.instructions[: run.first + 1])[-1]
    address, word = run.found
    if address != written.addresses[run.place]:
        return f"{_name(step)}: address {address}, not {written.addresses[run.place]}"
    wrong = np.flatnonzero((word != written.elements[run.place]) & written.counted[run.place])
    if not len(wrong):
        return f"{_name(step)}: other lanes were written at address {address}"
    lane = int(wrong[0])
    row, channel = step.place.position(address, lane, program.config.lanes)
    return f"{_name(step)}: row {row} channel {channel} is {word[lane]}, not {written.elements[run.place, lane]}"


def _name(step: Step) -> str:
    return step.key if step.head is None else f"{step.key} head {step.head}"
