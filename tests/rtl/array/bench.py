"""The array in Amaranth's simulator: random layers, every stream fed, results collected, cycles counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from amaranth.hdl import Shape
from amaranth.sim import Simulator, SimulatorContext
from hypothesis import strategies as st

from rtl.array import operands
from rtl.array.config import ArrayConfig
from rtl.array.gemm import Gemm
from rtl.pwl import Word
from sim.reference.arithmetic import code_range
from sim.reference.gemm import WEIGHT_BITS, GroupedLinear
from sim.vectors.array_suite import random_layer, with_ends

Work = tuple[GroupedLinear, np.ndarray]  # a layer and its activations
Shape3 = tuple[int, int, int]  # tokens, inputs, outputs


def random_work(
    rng: np.random.Generator, config: ArrayConfig, shape: Shape3, activation_bits: int | None = None
) -> Work:
    """A random layer and random activations for a job of (tokens, inputs, outputs)."""
    tokens, inputs, outputs = shape
    layer = random_layer(rng, config, inputs, outputs, activation_bits)
    return layer, with_ends(rng, *code_range(layer.activation_bits, True), (tokens, inputs))


def random_jobs(rng: np.random.Generator, config: ArrayConfig, jobs: Sequence[tuple[Shape3, int]]) -> list[Work]:
    """Random work for jobs of (shape, activation bits), to follow one another: all layers have one zero point."""
    work = [random_work(rng, config, shape, bits if config.two_pass else None) for shape, bits in jobs]
    return [(replace(layer, zero_point=work[0][0].zero_point), activations) for layer, activations in work]


def small_arrays() -> st.SearchStrategy[ArrayConfig]:
    """Any array of a few elements."""
    return st.builds(
        ArrayConfig, st.integers(1, 5), st.integers(1, 6), st.sampled_from(WEIGHT_BITS), st.booleans(),
        two_pass=st.booleans(), group=st.none() | st.integers(1, 7), max_inputs=st.just(16),
        group_multiplier_bits=st.sampled_from([0, 3, 16]), depth=st.integers(1, 6), stages=st.integers(1, 5),
    )  # fmt: skip


def job_shapes() -> st.SearchStrategy[tuple[Shape3, int]]:
    """((tokens, inputs, outputs), activation bits) of a job for `small_arrays`."""
    return st.tuples(st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 7)), st.sampled_from([4, 8]))


@dataclass
class Stream:
    """A source of beats; an offer stands until it is taken."""

    port: Any
    beats: list[int]
    taken: int = 0
    offered: bool = False

    @property
    def left(self) -> int:
        return len(self.beats) - self.taken


@dataclass
class Run:
    """What came out: `codes` (beats, C); `ends`, the cycles from the first job's being taken to each job's last result,
    both included; `left` beats that no stream took.
    """

    codes: np.ndarray
    ends: list[int]
    left: int

    @property
    def cycles(self) -> int:
        """Of all jobs."""
        return self.ends[-1]


def beats(config: ArrayConfig, layer: GroupedLinear, activations: np.ndarray) -> dict[str, list[int]]:
    """The beats of each stream, of one job."""
    result = {"i": [job_beat(config, layer, activations)]}
    order = operands.reading_order(config, layer, len(activations))
    for name, words in operands.images(config, layer, activations)._asdict().items():
        if words is not None:
            image = integers(words)
            result[name] = [image[address] for address in order[name]]
    return result


def integers(words: np.ndarray) -> list[int]:
    """Packed words as integers."""
    return [int.from_bytes(word.tobytes(), "little") for word in words]


def job_beat(config: ArrayConfig, layer: GroupedLinear, activations: np.ndarray) -> int:
    """The payload of the job."""
    payload = operands.job(config, layer, len(activations)).payload(config)
    return config.job_layout.const(payload).as_value().value


def collected(config: ArrayConfig, payloads: Sequence[int]) -> np.ndarray:
    """The codes (beats, C) in the payloads of `o`."""
    lane = Shape.cast(config.out_layout.elem_shape)
    size = -(-lane.width * config.columns // 8)
    packed = np.array([list(value.to_bytes(size, "little")) for value in payloads], dtype=np.uint8)
    return operands.unpack(packed, config.columns, lane.width, lane.signed)


def run(
    config: ArrayConfig,
    work: Sequence[Work],
    seed: int | None = None,
    feeding: dict[str, list[int]] | None = None,
    words: Sequence[Word] = (),
    settings: dict[str, int] | None = None,
) -> Run:
    """The jobs of `work`, one after the other; a `seed` stalls every stream at random.

    All layers have one zero point. `feeding` replaces the beats of the streams. Raises `TimeoutError` if results are
    missing.
    """
    dut = Gemm(config)
    jobs = [beats(config, layer, activations) for layer, activations in work]
    feeding = feeding or {name: [beat for job in jobs for beat in job[name]] for name in jobs[0]}
    last = last_results(config, work)
    want = last[-1] + 1
    shapes = [(len(activations), layer.inputs, layer.outputs) for layer, activations in work]
    limit = 20 * sum(config.schedule.cycles(*shape, config.passes) for shape in shapes) + 200
    rng = np.random.default_rng(seed)
    streams = [Stream(getattr(dut, name), values) for name, values in feeding.items()]
    got: list[int] = []
    taken_at: list[int] = []
    given_at: list[int] = []

    async def drive(ctx: SimulatorContext) -> None:
        for name, value in {"zero_point": work[0][0].zero_point, **(settings or {})}.items():
            ctx.set(getattr(dut, name), value)
        for word in words:
            for name in Word._fields:
                ctx.set(getattr(dut.table, name), getattr(word, name))
            ctx.set(dut.table.en, 1)
            await ctx.tick()
        if words:
            ctx.set(dut.table.en, 0)
        await ctx.tick().repeat(2)
        for cycle in range(limit):
            go = rng.random(len(streams) + 1) < (0.7 if seed is not None else 2)
            for stream, ready in zip(streams, go, strict=False):
                stream.offered = stream.left > 0 and (stream.offered or bool(ready))
                ctx.set(stream.port.valid, stream.offered)
                if stream.offered:
                    ctx.set(stream.port.payload.as_value(), stream.beats[stream.taken])
            ctx.set(dut.o.ready, bool(go[-1]))
            readies = [stream.port.ready for stream in streams]
            _, _, valid, payload, *taken = await ctx.tick().sample(dut.o.valid, dut.o.payload.as_value(), *readies)
            for stream, took in zip(streams, taken, strict=True):
                if took and stream.offered:
                    stream.taken, stream.offered = stream.taken + 1, False
                    if stream is streams[0]:
                        taken_at.append(cycle)
            if valid and go[-1]:
                got.append(payload)
                given_at.append(cycle)
            if len(got) == want:
                return
        raise TimeoutError(f"{len(got)} of {want} results after {limit} cycles")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    ends = [given_at[place] - taken_at[0] + 1 for place in last]
    return Run(collected(config, got), ends, sum(stream.left for stream in streams))


def last_results(config: ArrayConfig, work: Sequence[Work]) -> list[int]:
    """The place of each job's last beat in `o`."""
    beats = [len(activations) * config.schedule.output_tiles(layer.outputs) for layer, activations in work]
    return [total - 1 for total in accumulate(beats)]


def expected(config: ArrayConfig, work: Sequence[Work]) -> np.ndarray:
    """What the array gives by the specification, (beats, C)."""
    parts = [operands.results(config, layer.output(activations), layer.zero_point) for layer, activations in work]
    return np.concatenate(parts)


def cycles(config: ArrayConfig, layer: GroupedLinear, activations: np.ndarray) -> int:
    """The closed formula for one job."""
    return config.schedule.cycles(*job_shape(config, layer, activations))


def ends(config: ArrayConfig, work: Sequence[Work]) -> list[int]:
    """The closed formula for jobs that follow one another: when each one's last result is."""
    shapes = [job_shape(config, *job) for job in work]
    begins = accumulate((config.schedule.interval(*shape) for shape in shapes[:-1]), initial=0)
    return [begin + config.schedule.cycles(*shape) for begin, shape in zip(begins, shapes, strict=True)]


def job_shape(config: ArrayConfig, layer: GroupedLinear, activations: np.ndarray) -> tuple[int, int, int, int]:
    """(tokens, inputs, outputs, passes)."""
    passes = 2 if config.two_pass and layer.activation_bits > 4 else 1
    return len(activations), layer.inputs, layer.outputs, passes
