"""Many configurations of one model: calibrated once, then quantised and measured for each plan, in parallel."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from quant import Plan
from sim.network.calibration import Calibration
from sim.network.convert import quantise
from sim.network.graph import Network
from sim.workloads.processes import in_processes


class Point(NamedTuple):
    """What `measure` gave for a plan's network, and the seconds that quantising and measuring it took."""

    value: Any
    seconds: float


class _Shared(NamedTuple):
    calibration: Calibration
    measure: Callable[[Network], Any]

    def point(self, plan: Plan) -> Point:
        started = time.perf_counter()
        value = self.measure(quantise(self.calibration, plan))
        return Point(value, time.perf_counter() - started)


def measure_points(
    calibration: Calibration, plans: Mapping[str, Plan], measure: Callable[[Network], Any], jobs: int = 1
) -> Iterator[tuple[str, Point]]:
    """Measure the integer network of each plan; gives name and point as they end. Values do not depend on `jobs`.

    Parameters
    ----------
    calibration
        Of `sim.network.convert.calibrate`. The plans may differ from its own in weights, tables and, with a scale for
        each token, in the bits of activations.
    plans
        By name.
    measure
        Takes the network in the mode "integer", which is the next point's object too: keep no reference to it.
    jobs
        Processes. With more than one, each has one thread and its own copy of the calibration; `measure` and what it
        gives can then be pickled: a function of a module, or `functools.partial` of one with its data.

    Raises
    ------
    InputError
        If a plan does not fit the network or the calibration.
    """
    return in_processes(_Shared.point, _Shared(calibration, measure), plans, jobs)
