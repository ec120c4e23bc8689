"""Each lint check finds its own fault in a table that is otherwise clean."""

import dataclasses

import numpy as np
import pytest

from sim.reference import PwlTable
from sim.reference.lint import lint_structure, lint_values

RELU = PwlTable(
    function="relu", domain=(-4, 4), scales=(0, 3, 6), slope_frac_bits=6, intercept_frac_bits=6, bp_frac_bits=6,
    slopes=(0, 64), intercepts=(0, 0), breakpoints=(0,),
)  # fmt: skip


def findings(table: PwlTable, monotone: int = 1) -> set[str]:
    found = lint_structure(table)
    found += lint_values(table, lambda x: np.where(x > 0, x, 1e-12), 4, lambda x: np.ones_like(x, dtype=bool), monotone)
    assert all("\n" not in str(f) for f in found)
    return {f.check for f in found}


def test_an_exact_table_has_no_findings():
    assert findings(RELU) == set()


FAULTS = [
    ({"intercepts": (0, 8), "breakpoints": (0,)}, "f(0)"),
    ({"slopes": (3, 64)}, "lower tail"),
    ({"slopes": (0, 63)}, "upper tail"),
    ({"slopes": (3, 64)}, "sign"),
    ({"slopes": (-3, 64)}, "monotonicity"),
    ({"slopes": (0, 0, 64), "intercepts": (0, 0, 0), "breakpoints": (0, 0)}, "duplicate breakpoints"),
    ({"slopes": (0, 5, 64), "intercepts": (0, 0, 0), "breakpoints": (0, 0)}, "wasted entry"),
    ({"slopes": (0, 0, 64), "intercepts": (0, 0, 0), "breakpoints": (-64, 0)}, "wasted entry"),
    ({"slopes": (0, 64, 0), "intercepts": (0, 0, 0), "breakpoints": (0, 8192)}, "wasted entry"),
]


@pytest.mark.parametrize("changes, check", FAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_each_fault_is_found(changes, check):
    assert check in findings(dataclasses.replace(RELU, **changes))


def test_monotonicity_is_only_asked_of_monotone_functions():
    assert "monotonicity" not in findings(dataclasses.replace(RELU, slopes=(-3, 64)), monotone=0)


def test_codes_where_the_function_is_not_defined_do_not_count():
    broken = dataclasses.replace(RELU, slopes=(9, 64))
    found = lint_values(broken, lambda x: np.maximum(x, 0.0), 4, lambda x: x >= 0, 1)
    assert found == []
