"""Vectors for any unit of the registry whose configuration brings its specification."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtl.emit import interface
from rtl.units import UNITS
from sim.vectors.vector_set import VectorSet, column


def random_unit_set(name: str, unit: str, config: Any, seed: int, count: int, loads: int = 3) -> VectorSet:
    """Random vectors for a unit.

    Parameters
    ----------
    name : str
        The set's name.
    unit : str
        The unit's name in `rtl.units.UNITS`.
    config : rtl.units.Reference
        Its configuration.
    seed : int
        Decides loads and inputs.
    count : int
        Vectors of all loads together.
    loads : int
        Loads; 1 if there is nothing to drive or load.
    """
    rng = np.random.default_rng(seed)
    chosen = [config.random_load(rng) for _ in range(loads)]
    if not chosen[0]:
        chosen = chosen[:1]
    return unit_set(
        name,
        unit,
        config,
        [(load, config.random_inputs(rng, -(-count // len(chosen)))) for load in chosen],
        {"seed": seed},
    )


def unit_set(
    name: str,
    unit: str,
    config: Any,
    given: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]],
    source: Mapping[str, Any],
) -> VectorSet:
    """The vectors of a unit for loads with their inputs, each as the configuration's `expected` takes them."""
    described = interface(UNITS[unit].component_class(config))
    chosen, parts = [load for load, _ in given], [inputs for _, inputs in given]
    results = [config.expected(part, load) for load, part in given]
    widths = _payload_widths(described, "i__payload", "inputs") | _payload_widths(described, "o__payload", "expected")
    arrays = {}
    for side, rows in (("inputs", parts), ("expected", results)):
        for field in rows[0]:
            key = side if field == "payload" else f"{side}.{field}"
            arrays[key] = column(np.concatenate([row[field] for row in rows]), widths[key][0])
    arrays = {key: arrays[key] for key in widths}  # lowest bit first
    arrays["counts"] = np.array([len(next(iter(part.values()))) for part in parts], dtype=np.int64)
    arrays |= {key: np.array([load[key] for load in chosen], dtype=np.int64) for key in chosen[0]}
    widths |= {key: width for key, width in _load_widths(described).items() if key in arrays}
    return VectorSet(name, unit, config.to_dict(), arrays, widths, dict(source))


def _payload_widths(described: dict[str, Any], port: str, side: str) -> dict[str, tuple[int, bool]]:
    row = next(row for row in described["ports"] if row["name"] == port)
    if "fields" not in row:
        return {side: (row["width"], row["signed"])}
    return {f"{side}.{field['name']}": (field["width"], field["signed"]) for field in row["fields"]}


def _load_widths(described: dict[str, Any]) -> dict[str, tuple[int, bool]]:
    """Of the quasi-static inputs, and of the words of the lists."""
    widths = {row["name"]: (row["width"], row["signed"]) for row in described["ports"] if "__" not in row["name"]}
    lists = described.get("table", {}).get("load_order", [])
    return widths | {row["list"]: (row["bits"], row["signed"]) for row in lists}
