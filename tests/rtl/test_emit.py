"""Emission: a description says what its Verilog holds."""

import re

import pytest

from rtl.emit import emit, render
from rtl.units import UNITS
from sim.vectors.rowwise_suite import NORMS, row_suite

ROWS = {
    f"{v.unit} {v.name}": v
    for v in row_suite(0, True, ("softmax", *NORMS), dict.fromkeys(("softmax", *NORMS), ("40", "17")))
}


@pytest.mark.parametrize("vectors", ROWS.values(), ids=ROWS)
def test_a_description_names_every_memory_of_the_verilog_that_is_written(vectors):
    unit = UNITS[vectors.unit]
    load = vectors.loaded(0) if vectors.configuration.get("storage") == "constants" else None
    component = unit.component_class(unit.configuration(vectors.configuration, load))
    verilog, description = render(component, "unit", vectors.unit)
    written = set()
    for module in re.finditer(r"^module \\?(\S+) ?\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL):
        for bits, name, words in re.findall(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];", module[0], re.MULTILINE):
            if name != "storage" and re.search(rf"^ *{name}\[[^\]]*\] <= ", module[0], re.MULTILINE):
                written.add((f"{module[1]}.{name}".removeprefix("unit."), int(words) + 1, int(bits) + 1))
    assert {tuple(row.values()) for row in description["memories"]} == written


def test_emit_writes_what_render_gives(tmp_path):
    requant = UNITS["requant"]
    component = requant.component_class(requant.default())
    verilog, description = render(component, "y", "requant")
    assert emit(tmp_path / "y.v", "requant", component) == description
    assert (tmp_path / "y.v").read_text() == verilog and sorted(p.name for p in tmp_path.iterdir()) == [
        ".lock",
        "y.rtl.json",
        "y.v",
    ]
