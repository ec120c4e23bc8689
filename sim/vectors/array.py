"""A layer as vectors: weights and constants, activations, and the codes that the specification gives for them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rtl.array.config import ArrayConfig
from rtl.array.operands import job, results
from rtl.units import UNITS
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable
from sim.reference.gemm import GroupedLinear, group_borders
from sim.vectors.vector_set import TABLE_LISTS, VectorSet

OPERANDS = ("stream", "memory")
LAYER_ARRAYS = ("weights", "bias", "multiplier", "shift", "zero_points", "group_multipliers")
SHIFTS = ("intercept_shift", "output_shift")
_PER_TABLE = (*TABLE_LISTS, *SHIFTS)


@dataclass(frozen=True)
class ArraySet(VectorSet):
    """One layer on one array.

    `arrays`, all int64: those of `sim.reference.gemm.GroupedLinear` under their names, `zero_point` (1,), `inputs`
    (M, K) and `expected` (M, N), `zero_points` exactly where weights are unsigned and `group_multipliers` exactly where
    the array has them; and where it ends in a piecewise-linear unit, with codes, the table's lists and shifts.
    `configuration` holds the fields of `rtl.array.config.ArrayConfig`, `pwl` those of its unit or None, and `operands`
    whether they come over streams or from memories.
    """

    def _check_rows(self) -> None:
        """The arrays are exactly those that the array and the layer have, in their shapes; the job fits the array."""
        if self.configuration.get("operands") not in OPERANDS:
            raise InputError(f"operands must be one of stream, memory, not {self.configuration.get('operands')!r}")
        for key in ("inputs", "expected", "weights"):  # what the other shapes follow from
            if key not in self.arrays:
                raise InputError(f"missing array {key!r}")
            if key not in self.widths:
                raise InputError(f"{key} must have a width")
            if self.arrays[key].ndim != 2 or not self.arrays[key].size:
                raise InputError(f"{key} must be a matrix that is not empty, not {list(self.arrays[key].shape)}")
        shapes = self._shapes()
        for key in self.arrays:
            if key not in shapes:
                raise InputError(f"unknown array {key!r}")
        for key, shape in shapes.items():
            if key not in self.arrays:
                raise InputError(f"missing array {key!r}")
            if self.arrays[key].shape != shape:
                raise InputError(f"{key} must have shape {list(shape)}, not {list(self.arrays[key].shape)}")
        job(self.config, self.layer, len(self.arrays["inputs"]))
        self.layer.check_activations(self.arrays["inputs"])
        out = self.config.requant.out_shape
        if self.config.pwl is not None and self.table is not None:
            if self.config.pwl.output != "code":
                raise InputError(f"output of pwl must be code, not {self.config.pwl.output}")
            for name in SHIFTS:
                require_range(name, getattr(self.table, name), 0, self.config.pwl.largest(name))
            self.config.pwl.check_fit(self.table)
            out = self.config.pwl.out_shape
        if self.widths["expected"] != (out.width, out.signed):
            raise InputError(f"expected must have the width {(out.width, out.signed)}, not {self.widths['expected']}")

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array that the set must have."""
        n, k = self.arrays["weights"].shape
        tokens = len(self.arrays["inputs"])
        groups = (n, len(group_borders(k, self.config.group)))
        shapes: dict[str, tuple[int, ...]] = {
            "weights": (n, k),
            "inputs": (tokens, k),
            "expected": (tokens, n),
            **dict.fromkeys(("bias", "multiplier", "shift"), (n,)),
            "zero_point": (1,),
        }
        if not self.config.weight_signed:
            shapes["zero_points"] = groups
        if self.config.group_multiplier_bits:
            shapes["group_multipliers"] = groups
        if self.config.pwl is not None:
            entries = self.config.pwl.entries
            shapes |= {"thresholds": (entries - 1,), **dict.fromkeys(("slopes", "intercepts"), (entries,))}
            shapes |= dict.fromkeys(SHIFTS, (1,))
        return shapes

    @cached_property
    def config(self) -> ArrayConfig:
        """The array."""
        content = {key: value for key, value in self.configuration.items() if key != "operands"}
        try:
            return UNITS["array"].configuration(content)
        except InputError as error:
            raise InputError(f"{self.name}: configuration: {error}") from None

    @cached_property
    def layer(self) -> GroupedLinear:
        """The layer as the specification's object."""
        names = ("weight_bits", "weight_signed", "group", "out_bits", "out_signed")
        return GroupedLinear(
            **{key: self.arrays[key] for key in LAYER_ARRAYS if key in self.arrays},
            **{name: getattr(self.config, name) for name in names},
            activation_bits=self.widths["inputs"][0],
            zero_point=int(self.arrays["zero_point"][0]),
        )

    @cached_property
    def table(self) -> LoweredTable | None:
        """The table of the unit at the array's end."""
        pwl = self.config.pwl
        if pwl is None:
            return None
        return LoweredTable(
            **{key: tuple(self.arrays[key].tolist()) for key in TABLE_LISTS},
            intercept_shift=int(self.arrays["intercept_shift"][0]),
            output_shift=int(self.arrays["output_shift"][0]),
            s=0,
            **pwl.code_format.to_dict(),
        )

    @property
    def size(self) -> int:
        """The codes that are compared."""
        return self.arrays["expected"].size

    @property
    def counts(self) -> np.ndarray:
        return np.array([self.size])

    @property
    def passes(self) -> int:
        """Two where the activations go through the array in two parts."""
        return 2 if self.config.two_pass and self.layer.activation_bits > 4 else 1

    @property
    def cycles(self) -> int:
        """The closed formula of the job, operands over streams."""
        tokens = len(self.arrays["inputs"])
        return self.config.schedule.cycles(tokens, self.layer.inputs, self.layer.outputs, self.passes)

    @property
    def interval(self) -> int:
        """Cycles from the job's being taken to the next one's, operands over streams."""
        tokens = len(self.arrays["inputs"])
        return self.config.schedule.interval(tokens, self.layer.inputs, self.layer.outputs, self.passes)

    @property
    def beats(self) -> np.ndarray:
        """The results as the array gives them, (beats, C)."""
        beyond = self.layer.zero_point
        if self.table is not None:
            beyond = int(self.table.output(np.array([beyond]))[0])
        return results(self.config, self.arrays["expected"], beyond)

    def describe(self, vector: int, got: int) -> dict[str, Any]:
        """The beat `vector` in full: its output tile, its token, the codes of all columns as expected and as seen."""
        tile, token = divmod(vector, len(self.arrays["inputs"]))
        bits, signed = self.widths["expected"]
        lanes = [got >> bits * c & ((1 << bits) - 1) for c in range(self.config.columns)]
        seen = [lane - (1 << bits) if signed and lane >> (bits - 1) else lane for lane in lanes]
        return {"output_tile": tile, "token": token, "expected": self.beats[vector].tolist(), "got": seen}

    def head(self, limit: int) -> "ArraySet":
        """The first tokens, about `limit` multiplications' worth of them and at least one."""
        tokens = max(1, limit // self.layer.weights.size)
        arrays = {key: array[:tokens] if key in ("inputs", "expected") else array for key, array in self.arrays.items()}
        return replace(self, arrays=arrays)


def array_set(
    name: str,
    config: ArrayConfig,
    layer: GroupedLinear,
    inputs: np.ndarray,
    source: Mapping[str, Any],
    table: LoweredTable | None = None,
    operands: str = "stream",
) -> ArraySet:
    """The set of `layer` on the array, with the outputs that the specification gives.

    Raises `InputError` if the array would not compute the layer exactly.
    """
    job(config, layer, len(inputs))
    expected = layer.output(inputs)
    arrays = {key: getattr(layer, key) for key in LAYER_ARRAYS if getattr(layer, key) is not None}
    groups = (layer.outputs, len(group_borders(layer.inputs, layer.group)))
    if not config.weight_signed:
        arrays.setdefault("zero_points", np.zeros(groups))
    if config.group_multiplier_bits:
        arrays.setdefault("group_multipliers", np.ones(groups))
    else:
        arrays.pop("group_multipliers", None)  # an array without m_g takes only such that are all 1
    arrays |= {"zero_point": np.array([layer.zero_point]), "inputs": inputs}
    if table is not None:
        expected = table.output(expected)
        arrays |= {key: np.atleast_1d(np.array(getattr(table, key))) for key in _PER_TABLE}
    arrays["expected"] = expected
    out = config.requant.out_shape if config.pwl is None else config.pwl.out_shape
    widths = {
        "inputs": (layer.activation_bits, True),
        "weights": (layer.weight_bits, layer.weight_signed),
        "expected": (out.width, out.signed),
    }
    arrays = {key: array.astype(np.int64) for key, array in arrays.items()}
    return ArraySet(name, "array", {**config.to_dict(), "operands": operands}, arrays, widths, dict(source))
