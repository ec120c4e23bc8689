"""Searches over a network's design space: every point, or NSGA-II; seeded, and resumed with the same result.

Each group of points that differ in their machines alone is a unit of the run directory, kept as soon as it is measured.
NSGA-II is deterministic in its seed and in what it is told, so that a resumed search asks for the same points again and
finds them measured.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cost_model.analytical.estimate import COEFFICIENTS
from cost_model.explore.front import mark
from cost_model.explore.layer_error import first_generation
from cost_model.explore.network import Row, Task, evaluate, grouped
from cost_model.explore.network_space import NetworkPoint, NetworkSpace, papers
from cost_model.explore.network_subjects import Subject
from cost_model.network.memory import MEMORIES
from cost_model.network.row_units import ROW_UNITS
from quant.run_directory import RunDirectory
from sim.common.errors import require_range
from sim.common.files import content_sha256
from sim.common.parallel import Pool
from sim.reference import InputError

METHODS = ("exhaustive", "nsga2")
FIRST = ("layer-error", "random")
COLUMNS = {"energy": "energy_uj", "area": "area_mm2", "latency": "latency_ms", "memory": "model_bytes"}
OBJECTIVES = ("error", *COLUMNS)
PATIENCE = 4  # generations of known points before a search gives up on finding new ones


@dataclass(frozen=True)
class SearchOptions:
    """How a space is searched.

    Parameters
    ----------
    method : str
        "exhaustive", or "nsga2" (Deb et al., 2002; optuna's).
    points : int
        Points to evaluate with NSGA-II, at least; an exhaustive search refuses a larger space.
    population : int
        Points of a generation.
    seed : int
        Of NSGA-II.
    first : str
        The first generation: "layer-error", ordered by a cheap guess (`cost_model.explore.layer_error`), or "random".
    objectives : tuple of str
        Of `OBJECTIVES`, to be small.

    Raises
    ------
    InputError
        If a field is out of its range.
    """

    method: str = "nsga2"
    points: int = 256
    population: int = 32
    seed: int = 0
    first: str = "layer-error"
    objectives: tuple[str, ...] = OBJECTIVES

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.first not in FIRST:
            raise InputError(f"first must be one of {', '.join(FIRST)}, not {self.first!r}")
        require_range("points", self.points, 1, 1 << 20)
        require_range("population", self.population, 2, 1 << 12)
        require_range("seed", self.seed, 0, (1 << 31) - 1)
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise InputError(f"objectives must be different ones, not {list(self.objectives)}")
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise InputError(f"objectives must be of {', '.join(OBJECTIVES)}, not {name!r}")

    def columns(self, unit: str) -> list[str]:
        """The columns of the objectives, for an error in that unit."""
        return [f"error_{unit}" if name == "error" else COLUMNS[name] for name in self.objectives]


class Evaluations:
    """The rows of a subject's points, by digest in the order of asking: those that the run holds, others made now."""

    def __init__(self, subject: Subject, run: RunDirectory, pool: Pool) -> None:
        self.subject, self.run, self.pool = subject, run, pool
        self.rows: dict[str, Row] = {}

    def of(self, points: Sequence[NetworkPoint]) -> list[Row]:
        """The rows of points, in order; what is not known is measured, and kept group by group."""
        new = [point for point in points if point.digest not in self.rows]
        found, tasks = {}, {}
        for group in grouped(new):
            unit = " ".join([group[0].network.digest, *sorted(point.digest for point in group)])
            done = self.run.done(unit)
            if done is None:
                tasks[unit] = Task(self.subject, group)
            else:
                found |= {row["point"]: row for row in done[1]["rows"]}
        for unit, rows in self.pool.results(_named, list(tasks.items()), "network"):
            self.run.finish(unit, {}, {"rows": rows})
            found |= {row["point"]: row for row in rows}
        self.rows |= {point.digest: found[point.digest] for point in new}
        return [self.rows[point.digest] for point in points]


def _named(task: tuple[str, Task]) -> tuple[str, list[Row]]:
    return task[0], evaluate(task[1])


def configuration(subject: Subject, space: NetworkSpace, options: SearchOptions) -> dict[str, Any]:
    """What a run directory holds of a search: a run of another one cannot be resumed.

    `points` is left out, so that a search can be resumed with more of them, and of an exhaustive one all that does not
    change what is measured.
    """
    of_subject: Any = subject
    kept = ("method",) if options.method == "exhaustive" else ("method", "population", "seed", "first", "objectives")
    said = {key: value for key, value in asdict(options).items() if key in kept}
    prices = {path.name: content_sha256(path) for path in (COEFFICIENTS, MEMORIES, ROW_UNITS)}
    return {
        "subject": {"name": subject.name, **asdict(of_subject)},
        "space": asdict(space),
        "options": said,
        "prices": prices,
    }


def search(
    subject: Subject, space: NetworkSpace, options: SearchOptions, run: RunDirectory, pool: Pool | None = None
) -> list[Row]:
    """The rows of a search, the papers' points first; with `label` and `on_front`.

    Raises
    ------
    InputError
        If an exhaustive search has more points than `options.points`, or the subject's model or data are missing.
    """
    if options.method == "exhaustive" and space.size > options.points:
        raise InputError(f"points must be at least {space.size} for an exhaustive search, not {options.points}")
    evaluations = Evaluations(subject, run, pool or Pool())
    named = papers(space)
    evaluations.of(list(named.values()))
    if options.method == "exhaustive":
        evaluations.of(list(space.points()))
    else:
        first = [point for point in named.values() if space.holds(point)]
        if options.first == "layer-error":
            guessed = first_generation(subject, space, options.population, options.seed)
            first += [point for point in guessed if point not in first]
        _nsga2(space, options, evaluations, first[: options.population])
    labels = {point.digest: name for name, point in named.items()}
    rows = [{**row, "label": labels.get(digest)} for digest, row in evaluations.rows.items()]
    return mark(rows, options.columns(subject.unit))


def _nsga2(
    space: NetworkSpace, options: SearchOptions, evaluations: Evaluations, first: Sequence[NetworkPoint]
) -> None:
    """Generations of NSGA-II until enough points are known; `first` are in the first one."""
    optuna = _optuna()
    choices = {name: optuna.distributions.CategoricalDistribution(axis) for name, axis in space.axes.items()}
    sampler = optuna.samplers.NSGAIISampler(population_size=options.population, seed=options.seed)
    study = optuna.create_study(directions=["minimize"] * len(options.objectives), sampler=sampler)
    for point in first:
        study.enqueue_trial(asdict(point))
    columns = options.columns(evaluations.subject.unit)
    nothing_new = 0
    while len(evaluations.rows) < min(options.points, space.size) and nothing_new < PATIENCE:
        known = len(evaluations.rows)
        trials = [study.ask(choices) for _ in range(options.population)]
        rows = evaluations.of([NetworkPoint(**trial.params) for trial in trials])
        for trial, row in zip(trials, rows, strict=True):
            if row["refused"] is None:
                study.tell(trial, [row[name] for name in columns])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        nothing_new = nothing_new + 1 if len(evaluations.rows) == known else 0


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise InputError('nsga2 needs optuna: pip install "bitwright[explore]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
