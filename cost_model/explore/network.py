"""One point of a network's design space, measured: its error as integers, and what it costs on its machine.

Costs are those of `python -m cost_model model` with the memories beside: SRAM for activations, accumulators, rows and,
where a point says so, weights; else DRAM for weights. Cycles are exact and do not wait for memory; the bandwidth that
DRAM then needs is a column.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from cost_model.analytical.estimate import coefficients
from cost_model.explore.network_space import NetworkPoint
from cost_model.explore.network_subjects import Subject, plan, prepared
from cost_model.network.cost import report
from cost_model.network.hardware import of_type
from cost_model.network.memory import Memories
from cost_model.network.row_units import row_units
from cost_model.network.sites import Gemm, InRows, sites
from cost_model.network.traffic import traffic
from quant.formats.packed_index import PackedIndex
from sim.network import packed
from sim.network.graph import Network
from sim.reference import InputError
from sim.workloads.points import measure_points

Row = dict[str, Any]
FIGURES = (
    "model_bytes", "bits_per_weight", "area_units_mm2", "area_memories_mm2", "area_mm2", "cycles", "latency_ms",
    "energy_units_uj", "energy_sram_uj", "energy_dram_uj", "energy_leakage_uj", "energy_uj", "fp32_products_uj",
    "dram_gbit_s", "on_chip_bytes", "accumulator_bits",
)  # fmt: skip
HASHES = ("packed_sha256", "plan_sha256", "data_sha256")


@dataclass(frozen=True)
class Task:
    """Points that differ in their machines alone, of one subject."""

    subject: Subject
    points: tuple[NetworkPoint, ...]


def evaluate(task: Task) -> list[Row]:
    """A row for each point of a task: its fields, its digest `point`, error, costs and hashes.

    `refused` is why a point cannot be built, its figures are then None. The rows do not depend on the process.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _rows(task)
    finally:
        torch.set_num_threads(threads)


def columns(unit: str) -> Row:
    """The measured columns, empty, for an error in that unit."""
    return dict.fromkeys((f"error_{unit}", f"error_se_{unit}", *FIGURES, *HASHES))


def _rows(task: Task) -> list[Row]:
    subject, [first, *_] = task.subject, task.points
    calibration, measure, _ = prepared(subject)
    chosen = plan(subject, first)
    try:
        [(_, found)] = measure_points(calibration, {"": chosen}, partial(_measured, measure))
    except InputError as error:
        return [_refused(subject, point, error) for point in task.points]
    errors, index = found.value
    hashes = {"packed_sha256": index.content["sha256"], "plan_sha256": index.content["plan_sha256"],
              "data_sha256": index.content["data_sha256"]}  # fmt: skip
    error = {f"error_{subject.unit}": float(errors.mean()),
             f"error_se_{subject.unit}": float(errors.std(ddof=1)) / len(errors) ** 0.5}  # fmt: skip
    rows = []
    for point in task.points:
        try:
            rows.append(_row(subject, point, error | costs(index, point) | hashes, None))
        except InputError as refusal:
            rows.append(_refused(subject, point, refusal))
    return rows


def _measured(measure: Any, network: Network) -> tuple[np.ndarray, PackedIndex]:
    """The errors of a network, and the network as it is packed."""
    with TemporaryDirectory() as folder:
        packed.save(network, folder)
        return measure(network), PackedIndex.load(folder)


def _row(subject: Subject, point: NetworkPoint, figures: Mapping[str, Any], refused: str | None) -> Row:
    own = {**columns(subject.unit), **figures}
    return {"model": subject.name, "point": point.digest, **asdict(point), **own, "refused": refused}


def _refused(subject: Subject, point: NetworkPoint, error: InputError) -> Row:
    return _row(subject, point, {}, str(error))


def costs(index: PackedIndex, point: NetworkPoint) -> Row:
    """What a packed network costs on a point's machine: `FIGURES`.

    Raises
    ------
    InputError
        If the array cannot take one of its products: the accumulators are too narrow, or would be too wide.
    """
    machine, lengths = point.machine, {"tokens": point.tokens, "batch": 1}
    listed = sites(index, "", point.tokens)
    products = [site for site in of_type(listed, Gemm) if site.activation_bits is not None]
    width = max(machine.array_of(site).accumulator_bits for site in products)
    found = report(listed, machine)
    totals = found["totals"]
    moved, waiting = traffic(index, listed, machine, lengths)
    kinds = {site.kind for site in of_type(listed, InRows)}
    stored = 8 * totals["bytes"]
    rows = sum(bits for kind, bits in _row_bits(machine.library).items() if kind in kinds)
    memories = Memories(point.weights_in, stored, waiting, rows, machine.depth * machine.columns * width)
    nand2 = coefficients()["libraries"][machine.library]["nand2_area"]
    units, beside = totals["area_ge"] * nand2 * 1e-6, memories.area_um2 * 1e-6
    energy, spent = totals["energy"], memories.energy(moved)
    leakage = totals["leakage_energy"] or 0.0
    linear = [row for row in found["rows"] if row["weights"]]
    total = energy + sum(spent.values()) + leakage
    return {
        "model_bytes": totals["bytes"],
        "bits_per_weight": 8 * sum(row["bytes"] for row in linear) / totals["weights"],
        "area_units_mm2": units,
        "area_memories_mm2": beside,
        "area_mm2": units + beside,
        "cycles": totals["cycles"],
        "latency_ms": totals["seconds"] * 1e3,
        "energy_units_uj": energy * 1e6,
        "energy_sram_uj": spent["sram"] * 1e6,
        "energy_dram_uj": spent["dram"] * 1e6,
        "energy_leakage_uj": leakage * 1e6,
        "energy_uj": total * 1e6,
        "fp32_products_uj": totals["floating_energy"]["FP32"] * 1e6,
        "dram_gbit_s": sum(t.weights for t in moved) / totals["seconds"] * 1e-9 if spent["dram"] else 0.0,
        "on_chip_bytes": math.ceil(memories.on_chip_bits / 8),
        "accumulator_bits": width,
    }


def _row_bits(library: str) -> dict[str, int]:
    """The bits of the memories in each unit for rows, which are beside its measured area."""
    return {kind: unit["memory_bits"] for kind, unit in row_units(library).items()}


def grouped(points: Sequence[NetworkPoint]) -> list[tuple[NetworkPoint, ...]]:
    """Points by their networks, each once, in the order of their first."""
    groups: dict[str, dict[str, NetworkPoint]] = {}
    for point in points:
        groups.setdefault(point.network.digest, {})[point.digest] = point
    return [tuple(group.values()) for group in groups.values()]
