"""Vectors for the normaliser: every input of its width, or the row sums and variances of a network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from amaranth.lib.data import StructLayout

from rtl.normaliser import GEOMETRY, NormaliserConfig
from sim.reference import Normaliser, PwlTable
from sim.reference.arithmetic import code_range
from sim.vectors.vector_set import TABLE_LISTS, VectorSet, column


def normaliser_set(
    name: str,
    reference: Normaliser,
    inputs: np.ndarray,
    source: Mapping[str, Any],
    output_scale: int | None = None,
    **changes: Any,
) -> VectorSet:
    """A set for the unit of `reference`. Without an `output_scale` the output is the pair (acc, exponent).

    `changes` are further fields of `rtl.normaliser.NormaliserConfig`.
    """
    output = "acc" if output_scale is None else "code"
    fields: dict[str, Any] = {"output": output, "output_scale": output_scale, **changes}
    config = NormaliserConfig(reference, **fields)
    inputs = np.asarray(inputs, dtype=np.int64)
    lowered = reference.lowered
    widths = {
        "inputs": (reference.input_bits, reference.input_signed),
        "thresholds": (lowered.in_bits, lowered.in_signed),
        **dict.fromkeys(("slopes", "intercepts"), (lowered.coef_bits, True)),
    }
    if output_scale is None:
        acc, exponent = reference.evaluate(inputs)
        expected = {"expected.acc": column(acc, config.pwl.acc_bits), "expected.exponent": exponent}
        assert isinstance(config.out_shape, StructLayout)
        widths |= {f"expected.{key}": (config.out_shape[key].width, True) for key in ("acc", "exponent")}
    else:
        expected = {"expected": reference.output(inputs, output_scale, config.out_bits, config.out_signed)}
        widths["expected"] = (config.out_bits, config.out_signed)
    arrays = {
        "inputs": inputs,
        **{key: np.asarray(value, dtype=np.int64) for key, value in expected.items()},
        "counts": np.array([len(inputs)], dtype=np.int64),
        **{key: np.array([getattr(lowered, key)], dtype=np.int64) for key in TABLE_LISTS},
        "s": np.array([reference.scale], dtype=np.int64),
    }
    content = config.to_dict()
    configuration = {key: content[key] for key in (*GEOMETRY, *fields, "table")}
    return VectorSet(name, "normaliser", configuration, arrays, widths, dict(source))


def top_scale(table: PwlTable) -> int:
    """The largest scale exponent whose codes hold the table's domain."""
    top = table.code_format.in_range[1]
    return max(s for s in range(table.in_bits) if table.domain[1] * 2**s - 1 <= top)


def every_input(name: str, table: PwlTable, frac_bits: int = 8, bits: int = 16, **changes: Any) -> VectorSet:
    """Every input of `bits`, signed, negative ones and zero too."""
    low, high = code_range(bits, True)
    reference = Normaliser(table, top_scale(table), bits, frac_bits)
    return normaliser_set(
        name, reference, np.arange(low, high + 1), {"table": table.digest, "function": table.function}, **changes
    )
