"""The trials of EfficientQAT (2407.11062) on language models: both phases, and other methods beside them."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from quant.methods.blocks import Method, quantize_blocks
from quant.methods.efficientqat import block_ap, e2e_qp
from quant.methods.efficientqat.block_ap import BlockAp
from quant.methods.efficientqat.e2e_qp import E2eQp
from quant.methods.efficientqat.quantise import Options, train_steps, with_inputs
from quant.methods.gptq import Gptq
from quant.methods.omniquant import LearnedClipping
from quant.methods.post_training import Job
from quant.run_directory import RunDirectory
from sim.common.cache import cache_folder
from sim.common.files import description_sha256
from sim.workloads.method_subjects import Subject
from sim.workloads.method_trials import Trial

CLIPPING = 0.2  # rate of learned clipping: of 0.005, 0.05, 0.2 and 0.5 the best on the validation part
BASE = "rounding"  # what the others' gains are counted from


@dataclass(frozen=True)
class Shape:
    """Bits of a weight, inputs in a group, and bits of a group's multiplier."""

    bits: int = 2
    group: int = 64
    multiplier_bits: int = 8

    @property
    def weights(self) -> str:
        """As a column says it."""
        wide = "" if self.multiplier_bits == 8 else f"m{self.multiplier_bits}"
        return f"w{self.bits}g{self.group}{wide}"


def trials(subject: Subject, quick: bool = False) -> list[Trial]:
    """Every method at 2 bits in groups of 64; without `quick` other bits too.

    Those of `char_lm` are 3 and 4 bits, other groups and narrower multipliers. SmolLM2 has 3 bits alone, and of the
    trained ones only those from searched steps.
    """
    if subject.name == "smollm2":
        kept = (BASE, "GPTQ", "Block-AP, searched", "both, searched, distilled")
        shapes = (Shape(),) if quick else (Shape(), Shape(3))
        return [trial for shape in shapes for trial in _all(shape) if trial.name in kept]
    every = _all(Shape()) + _long(Shape()) + ([] if quick else _ablations(Shape()))
    if not quick:
        for shape in (Shape(3), Shape(4)):
            every += _all(shape)
        for shape in (Shape(group=32), Shape(group=128), Shape(group=256), Shape(multiplier_bits=4)):
            every += [trial for trial in _all(shape) if trial.name in (BASE, "Block-AP")]
    return every


def _long(shape: Shape) -> list[Trial]:
    """The best methods with four times the tokens, in eight times as many steps."""
    rates, step = block_ap.PRESETS["small"][shape.bits], e2e_qp.PRESETS["small"][shape.bits]

    def both(seed: int) -> tuple[BlockAp, E2eQp]:
        return BlockAp(rates, seed=seed), E2eQp(step, distill=True, seed=seed)

    return [
        _trial("GPTQ, long", shape, lambda _: (Gptq(), None), data="long", beside=("E2E-QP",)),
        _trial(
            "Block-AP, long",
            shape,
            lambda seed: (BlockAp(rates, seed=seed), None),
            data="long",
            beside=("GPTQ", "GPTQ, long"),
        ),
        _trial("both, distilled, long", shape, both, data="long", beside=("Block-AP, long",)),
    ]


def _ablations(shape: Shape) -> list[Trial]:
    """The first phase with a part of what it trains, and with the tokens of both phases."""
    steps, weights = block_ap.PRESETS["small"][shape.bits]
    return [
        _trial("Block-AP, steps alone", shape, lambda seed: (BlockAp((steps, 0.0), seed=seed), None)),
        _trial("Block-AP, weights alone", shape, lambda seed: (BlockAp((0.0, weights), seed=seed), None)),
        _trial("Block-AP, 3 epochs", shape, lambda seed: (BlockAp((steps, weights), 3, seed=seed), None)),
    ]


def _all(shape: Shape) -> list[Trial]:
    """Rounding first, whose rise the others recover."""
    rates, step = block_ap.PRESETS["small"][shape.bits], e2e_qp.PRESETS["small"][shape.bits]

    def trained(seed: int, searched: bool) -> BlockAp:
        return BlockAp(rates, searched=searched, seed=seed)

    def distilled(seed: int) -> E2eQp:
        return E2eQp(step, distill=True, seed=seed)

    return [
        _trial(BASE, shape, lambda _: (BlockAp(epochs=0), None), seeded=False),
        _trial("rounding, searched", shape, lambda _: (BlockAp(epochs=0, searched=True), None), seeded=False),
        _trial("learned clipping", shape, lambda seed: (LearnedClipping((CLIPPING, 0.0), seed=seed), None)),
        _trial("E2E-QP", shape, lambda seed: (BlockAp(epochs=0), E2eQp(step, seed=seed))),
        _trial("E2E-QP, distilled", shape, lambda seed: (BlockAp(epochs=0), distilled(seed))),
        _trial("GPTQ", shape, lambda _: (Gptq(), None), beside=("E2E-QP",)),
        _trial("GPTQ, E2E-QP, distilled", shape, lambda seed: (Gptq(), distilled(seed))),
        _trial("Block-AP", shape, lambda seed: (trained(seed, False), None), beside=("GPTQ",)),
        _trial("Block-AP, searched", shape, lambda seed: (trained(seed, True), None)),
        _trial("both, searched, distilled", shape, lambda seed: (trained(seed, True), distilled(seed))),
        _trial("the same on integers", shape, lambda seed: (trained(seed, True), distilled(seed)), inputs=8),
    ]


def _trial(
    name: str,
    shape: Shape,
    phases: Any,
    *,
    seeded: bool = True,
    inputs: int | None = None,
    data: str = "train",
    beside: tuple[str, ...] = (),
) -> Trial:
    """A trial; `phases` gives, for a seed, the method for the blocks and the second phase or None.

    With `inputs` the layers' inputs are codes of so many bits: sums are exact integers, as on the array.
    """

    def make(subject: Subject, seed: int) -> nn.Module:
        method: Method
        method, phase = phases(seed)
        plan = Options(shape.bits, shape.group, multiplier_bits=shape.multiplier_bits).plan(subject.model)
        given = subject.data(data, seed)
        # what the first phase made is kept: the trial of both phases goes on from there
        said = {"method": repr(method), "plan": plan.to_dict(), "data": given.digest}
        name = f"{subject.name}-{description_sha256(said)[:12]}"
        with RunDirectory.open(cache_folder("methods_blocks") / name, said, resume=True) as run:
            made = quantize_blocks(subject.model, plan, given, method, job=Job(run))
        made = made if phase is None else train_steps(made, subject.model, given, phase, Job())
        return made if inputs is None else with_inputs(made, inputs)

    told = "real" if inputs is None else "token"
    columns = {"weights": shape.weights, "scales": "group", "inputs": told, "data": data if seeded else None}
    return Trial(name, columns, make, seeded, None if name == BASE else BASE, beside)
