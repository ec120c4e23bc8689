"""The estimate of a column beside synthesised ones: the difference of arrays of two and of six columns."""

import re
from dataclasses import replace
from typing import Any

import pytest
from amaranth.back import verilog

from cost_model.analytical.array_column import array_column, components
from cost_model.netlist.memories import Memory
from cost_model.netlist.synthesis import Flow, synthesise
from rtl.array.columns import Columns
from rtl.array.config import ArrayConfig

COLUMNS: list[dict[str, Any]] = [
    dict(weight_bits=8, group_multiplier_bits=0),
    dict(weight_bits=4, weight_signed=False, group=64),
    dict(weight_bits=4, weight_signed=True, group=64, two_pass=True),
]


def config(columns: int, **fields: Any) -> ArrayConfig:
    return ArrayConfig(16, columns, max_inputs=1024, **fields)


def area(own: ArrayConfig, cache) -> float:
    text = verilog.convert(Columns(own), name="unit", emit_src=False, strip_internal_attrs=True)
    found = re.search(r"^  reg \[(\d+):0\] accumulators \[(\d+):0\];", text, re.MULTILINE)
    assert found
    memory = Memory("accumulators", int(found[2]) + 1, int(found[1]) + 1)
    return synthesise(text, "unit", replace(Flow(), memories=(memory,)), cache).area


@pytest.mark.slow
@pytest.mark.parametrize("fields", COLUMNS)
def test_the_area_is_within_15_percent_of_a_synthesised_column(tmp_path, fields):
    each = (area(config(6, **fields), tmp_path) - area(config(2, **fields), tmp_path)) / 4
    estimated = float(array_column(config(4, **fields), "gate_equivalents").total.area_ge)
    assert estimated == pytest.approx(each, rel=0.15)


def test_a_column_has_the_steps_that_its_array_has():
    names = [set(components(config(4, **fields))) for fields in COLUMNS]
    assert names[0] == {"accumulation", "bias or sum", "registers", "held"}
    assert names[1] - names[0] == {"zero point", "group multiplier"}
    assert names[2] - names[0] == {"join", "group multiplier"}
