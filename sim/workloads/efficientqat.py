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
# Block-AP's rates of steps and of weights, by subject and bits, where another than the preset is better: on the char_lm
# validation part, of 1e-4 to 1e-3 by 1e-3 to 3e-3; for SmolLM2 by the batches held out of its first two blocks
RATES = {("char_lm", 2): (3e-4, 1e-3), ("smollm2", 2): (1e-3, 3e-3)}
SEARCHED = ("smollm2",)  # subjects whose training begins with searched steps: chosen by the same data as the rates
SMOLLM2 = ("rounding", "GPTQ", "Block-AP, searched", "both, distilled")
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

    Those of `char_lm` are 3 and 4 bits, other groups and narrower multipliers. SmolLM2 has 3 bits alone, and the
    methods that are named in `SMOLLM2`.
    """
    if subject.name == "smollm2":
        shapes = (Shape(),) if quick else (Shape(), Shape(3))
        return [trial for shape in shapes for trial in _all(Rates(subject.name, shape)) if trial.name in SMOLLM2]
    two = Rates(subject.name, Shape())
    every = _all(two) + _long(two) + ([] if quick else _ablations(two))
    if not quick:
        for shape in (Shape(3), Shape(4)):
            every += _all(Rates(subject.name, shape))
        for shape in (Shape(group=32), Shape(group=128), Shape(group=256), Shape(multiplier_bits=4)):
            every += [trial for trial in _all(Rates(subject.name, shape)) if trial.name in (BASE, "Block-AP")]
    return every


@dataclass(frozen=True)
class Rates:
    """The learning rates of a subject's trials of a shape."""

    subject: str
    shape: Shape

    @property
    def blocks(self) -> tuple[float, float]:
        """Block-AP's, of steps and of weights."""
        bits = self.shape.bits
        return RATES.get((self.subject, bits), block_ap.PRESETS["small"][bits])

    def block_ap(self, seed: int, searched: bool = False) -> BlockAp:
        """The first phase."""
        return BlockAp(self.blocks, searched=searched, seed=seed)

    def e2e_qp(self, seed: int, distill: bool = True) -> E2eQp:
        """The second phase."""
        return E2eQp(e2e_qp.PRESETS["small"][self.shape.bits], distill=distill, seed=seed)


def _long(rates: Rates) -> list[Trial]:
    """The best methods with four times the tokens, in eight times as many steps."""
    return [
        _trial("GPTQ, long", rates, lambda _: (Gptq(), None), data="long", beside=("E2E-QP",)),
        _trial("Block-AP, long", rates, lambda seed: (rates.block_ap(seed), None), trains=True, data="long",
               beside=("GPTQ", "GPTQ, long")),
        _trial("both, distilled, long", rates, lambda seed: (rates.block_ap(seed), rates.e2e_qp(seed)), trains=True,
               data="long", beside=("Block-AP, long",)),
    ]  # fmt: skip


def _ablations(rates: Rates) -> list[Trial]:
    """The first phase with a part of what it trains, and with the tokens of both phases."""
    steps, weights = rates.blocks
    return [
        _trial(name, rates, lambda seed, how=how: (BlockAp(*how, seed=seed), None), trains=True)
        for name, how in {
            "Block-AP, steps alone": ((steps, 0.0), 2),
            "Block-AP, weights alone": ((0.0, weights), 2),
            "Block-AP, 3 epochs": ((steps, weights), 3),
        }.items()
    ]


def _all(rates: Rates) -> list[Trial]:
    """Rounding first, whose rise the others recover."""

    def both(seed: int) -> tuple[BlockAp, E2eQp]:
        return rates.block_ap(seed, rates.subject in SEARCHED), rates.e2e_qp(seed)

    return [
        _trial(BASE, rates, lambda _: (BlockAp(epochs=0), None), data=None),
        _trial("rounding, searched", rates, lambda _: (BlockAp(epochs=0, searched=True), None), data=None),
        _trial("learned clipping", rates, lambda seed: (LearnedClipping((CLIPPING, 0.0), seed=seed), None)),
        _trial("E2E-QP", rates, lambda seed: (BlockAp(epochs=0), rates.e2e_qp(seed, distill=False))),
        _trial("E2E-QP, distilled", rates, lambda seed: (BlockAp(epochs=0), rates.e2e_qp(seed))),
        _trial("GPTQ", rates, lambda _: (Gptq(), None), beside=("E2E-QP",)),
        _trial("GPTQ, E2E-QP, distilled", rates, lambda seed: (Gptq(), rates.e2e_qp(seed))),
        _trial("Block-AP", rates, lambda seed: (rates.block_ap(seed), None), trains=True, beside=("GPTQ",)),
        _trial("Block-AP, searched", rates, lambda seed: (rates.block_ap(seed, searched=True), None), trains=True),
        _trial("both, distilled", rates, both, trains=True),
        _trial("the same on integers", rates, both, trains=True, inputs=8),
    ]  # fmt: skip


def _trial(
    name: str, rates: Rates, phases: Any, *, trains: bool = False, inputs: int | None = None,
    data: str | None = "train", beside: tuple[str, ...] = (),
) -> Trial:  # fmt: skip
    """A trial; `phases` gives, for a seed, the method for the blocks and the second phase or None.

    Where Block-AP `trains`, its rates are a column. Without `data` no seed changes the result.
    With `inputs` the layers' inputs are codes of so many bits: sums are exact integers, as on the array.
    """

    shape = rates.shape

    def make(subject: Subject, seed: int) -> nn.Module:
        method: Method
        method, phase = phases(seed)
        plan = Options(shape.bits, shape.group, multiplier_bits=shape.multiplier_bits).plan(subject.model)
        given = subject.data(data or "train", seed)
        # what the first phase made is kept: the trial of both phases goes on from there
        said = {"method": repr(method), "plan": plan.to_dict(), "data": given.digest}
        name = f"{subject.name}-{description_sha256(said)[:12]}"
        with RunDirectory.open(cache_folder("methods_blocks") / name, said, resume=True) as run:
            made = quantize_blocks(subject.model, plan, given, method, job=Job(run))
        made = made if phase is None else train_steps(made, subject.model, given, phase, Job())
        return made if inputs is None else with_inputs(made, inputs)

    told = "real" if inputs is None else "token"
    columns = {"weights": shape.weights, "scales": "group", "inputs": told, "data": data}
    if trains:
        columns["rates"] = " ".join(f"{rate:g}" for rate in rates.blocks)
    return Trial(name, columns, make, data is not None, None if name == BASE else BASE, beside)
