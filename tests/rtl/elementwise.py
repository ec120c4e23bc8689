"""A unit that brings its specification, on its own random loads and inputs in Amaranth's simulator."""

from typing import Any

import numpy as np

from tests.rtl.bench import simulate


def mismatches(config: Any, unit: Any, count: int = 100, load: dict[str, int] | None = None, **how: Any) -> list:
    """(beat, expected, got) wherever the unit differs from the specification; `load` instead of a random one."""
    rng = np.random.default_rng(count)
    load = config.random_load(rng) if load is None else load
    return on(config.random_inputs(rng, count), config, unit, load, **how)


def on(inputs: dict[str, np.ndarray], config: Any, unit: Any, load: dict[str, int], **how: Any) -> list:
    """The same for given inputs."""
    expected = config.expected(inputs, load)
    got, _, _ = simulate(unit(config), beats(inputs), settings=load, **how)
    if "payload" in expected:
        want = expected["payload"].tolist()
    else:
        want, got = beats(expected), [{name: beat[name] for name in expected} for beat in got]
    return [row for row in zip(beats(inputs), want, got, strict=True) if row[1] != row[2]]


def beats(columns: dict[str, np.ndarray]) -> list[dict[str, int]]:
    """A dictionary for each beat."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*(v.tolist() for v in columns.values()), strict=True)]
