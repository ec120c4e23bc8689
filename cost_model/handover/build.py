"""`build`: a point of a network's design space as a folder that a hardware team can work with."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.explore.network import costs
from cost_model.explore.network_space import NetworkPoint
from cost_model.explore.network_subjects import Subject, plan, prepared
from cost_model.handover.interface import STREAM, wrapper
from cost_model.handover.project_files import RUN, SDC, core, page
from cost_model.network.cost import report
from cost_model.network.hardware import of_type
from cost_model.network.sites import Gemm, sites
from quant.formats.packed_index import PackedIndex
from rtl.array.config import ArrayConfig
from rtl.emit import emit
from sim.common.files import LOCK, locked, write_whole
from sim.cosim import handover, regress
from sim.cosim.dut import component_of, read_device
from sim.cosim.plain_bench import write_bench
from sim.cosim.run_array import array_component
from sim.network import packed
from sim.network.convert import quantise
from sim.network.recorded_vectors import network_sets
from sim.reference import InputError
from sim.vectors.array import ArraySet
from sim.vectors.array_suite import random_array_set
from sim.vectors.vector_set import VectorSet

LAYER = (4, 24, 12)  # tokens, inputs, outputs of an array's vectors: quick in Icarus on arrays of any size
PER_SET = 4096  # vectors of a unit at most


@dataclass(frozen=True)
class Order:
    """What is to be built: a subject's point, and the hash that its network must have, if it was measured before."""

    subject: Subject
    point: NetworkPoint
    packed_sha256: str | None = None


def build(order: Order, folder: Path, simulators: Sequence[str] = ("icarus",),
          progress: Callable[[str], object] = lambda _: None) -> list[dict[str, Any]]:  # fmt: skip
    """Write the folder, whole or not at all, and return the rows of its regression; a failed one leaves no folder.

    Parameters
    ----------
    order : Order
    folder : Path
        Missing or empty.
    simulators : sequence of str
        That run the regression.
    progress : callable
        Called with the name of each step.

    Raises
    ------
    InputError
        If the folder is not empty or cannot be written, another run makes it, or the network has other integers than
        when it was measured.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: must be missing or empty")
    staging = folder.with_name(f".{folder.name}.partial")
    with locked(staging):
        try:
            _clear(staging)  # of what a killed run left
            rows = _fill(order, staging, simulators, progress)
            if all(map(regress.passed, rows)):
                staging.replace(folder)
                (folder / LOCK).unlink()
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return rows


def _clear(folder: Path) -> None:
    """Remove all that is in a folder but its lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _fill(
    order: Order, folder: Path, simulators: Sequence[str], progress: Callable[[str], object]
) -> list[dict[str, Any]]:
    subject, point = order.subject, order.point
    progress("integers")
    chosen = plan(subject, point)
    calibration, _, examples = prepared(subject)
    network = quantise(calibration, chosen)
    packed.save(network, folder / "packed")
    index = PackedIndex.load(folder / "packed")
    if order.packed_sha256 not in (None, index.content["sha256"]):
        raise InputError(f"point {point.digest}: has other integers here than when it was measured")
    for function, table in chosen.rules[0].settings["tables"].items():
        table.save(folder / "tables" / f"{function}-{table.entries}.json")
    listed = sites(index, folder / "packed", point.tokens)
    cost = {"figures": costs(index, point), **report(listed, point.machine)}
    write_whole(folder / "cost.json", json.dumps(cost, indent=1) + "\n")
    progress("vectors")
    source = {"network": subject.name, "point": point.digest}
    sets = [vectors.spread(PER_SET) for vectors in network_sets(subject.name, network, examples, source)]
    sets += arrays(subject.name, of_type(listed, Gemm), point)
    paths = {}
    for vectors in sets:
        progress(vectors.name)
        paths[vectors.name] = _unit(vectors, folder)
    modules = [Path(path).stem for path in paths.values()]
    write_whole(folder / "rtl" / "bitwright_stream.sv", STREAM)
    write_whole(folder / "constraints.sdc", SDC.format(period=1e9 / point.machine.clock_hz))
    write_whole(folder / "bitwright.core", core(f"{subject.name}_{point.digest}", modules, modules[-1]))
    row = {"model": subject.name, "point": point.digest, **asdict(point)}
    write_whole(folder / "README.md", page(subject.name, row, paths))
    write_whole(folder / "run.sh", RUN)
    rows = _regression(sets, paths, folder, simulators, progress)
    write_whole(folder / "regress.json", json.dumps(rows, indent=1) + "\n")
    handover.write_manifest(folder, row, paths)
    return rows


def arrays(name: str, products: Sequence[Gemm], point: NetworkPoint) -> list[ArraySet]:
    """A layer of random codes for each array that the products need: they differ in widths and groups."""
    wanted: dict[str, ArrayConfig] = {}
    for site in products:
        config = point.machine.array_of(site)
        key = f"w{config.weight_bits}{'' if config.group is None else f'g{config.group}'}a{config.activation_bits}"
        key += "" if config.weight_signed else "u"
        key += f"m{config.group_multiplier_bits}" if config.group_multiplier_bits else ""
        widest = max(config.max_inputs, wanted[key].max_inputs) if key in wanted else config.max_inputs
        wanted[key] = replace(config, max_inputs=widest)
    rng = np.random.default_rng(0)
    return [random_array_set(f"{name}-array-{key}", rng, config, LAYER, 0) for key, config in wanted.items()]


def _unit(vectors: VectorSet, folder: Path) -> str:
    """A set's files: vectors, Verilog, interface and bench. Returns the Verilog's path."""
    vectors.save(folder / "vectors")
    module = vectors.name.replace("-", "_")
    path = folder / "rtl" / f"{module}.v"
    component = array_component(vectors) if isinstance(vectors, ArraySet) else component_of(vectors)
    description = emit(path, vectors.unit, component)
    write_whole(path.with_name(f"{module}_if.sv"), wrapper(description))
    bench = folder / "bench" / vectors.name
    bench.mkdir(parents=True)
    write_bench(bench, vectors, read_device(path)[0], f"../../rtl/{module}.v")
    return f"rtl/{module}.v"


def _regression(
    sets: Sequence[VectorSet], paths: Mapping[str, str], folder: Path, simulators: Sequence[str],
    progress: Callable[[str], object],
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of the regression of the folder's own Verilog, without what a second run would not give again."""
    rows = []
    work = [replace(job, unit=read_device(folder / paths[job.vectors.name])[0])
            for job in regress.jobs(sets, simulators, quick=True)]  # fmt: skip
    for job, found in zip(work, regress.run(work), strict=True):
        progress(f"{job.vectors.name} in {job.simulator}")
        rows += [{key: row[key] for key in row if key not in ("vectors_per_second", "waves")} for row in found]
    return rows
