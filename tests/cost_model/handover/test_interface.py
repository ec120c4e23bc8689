"""The SystemVerilog wrapper elaborates in an independent reader, with every port of the unit connected."""

from typing import Any

import pytest

from cost_model.handover.interface import STREAM, wrapper
from cost_model.handover.project_files import SDC, core, page
from rtl.array.config import ArrayConfig
from rtl.emit import render
from rtl.pwl import PwlConfig
from rtl.units import UNITS


@pytest.mark.parametrize(("unit", "config"), [("pwl", PwlConfig(2)), ("array", ArrayConfig(2, 2, max_inputs=8))])
def test_the_wrapper_elaborates_with_every_port_connected(unit: str, config: Any) -> None:
    pyslang = pytest.importorskip("pyslang", reason="a reader of SystemVerilog of its own")
    text, description = render(UNITS[unit].component_class(config), "unit", unit)
    widths = {port["name"]: port["width"] for port in description["ports"]}
    streams = {name.removesuffix("__payload"): bits for name, bits in widths.items() if name.endswith("__payload")}
    others = [name for name in widths if name.rpartition("__")[0] not in streams and name not in ("clk", "rst")]
    declared = "".join(f"  bitwright_stream #({bits}) {name}(clk);\n" for name, bits in streams.items())
    declared += "".join(f"  logic [{widths[name] - 1}:0] {name};\n" for name in others)
    ports = ", ".join(f".{name}({name})" for name in ("clk", "rst", *streams, *others))
    top = f"module top(input logic clk, rst);\n{declared}  unit_if unit({ports});\nendmodule\n"
    compilation = pyslang.ast.Compilation()
    for source in (text, STREAM, wrapper(description), top):
        compilation.addSyntaxTree(pyslang.syntax.SyntaxTree.fromText(source))
    found = compilation.getAllDiagnostics()
    errors = [str(each.code) for each in found if each.isError()]
    unconnected = [str(each.code) for each in found if "Unconnected" in str(each.code)]
    assert errors == [] and unconnected == []
    assert all(f".{name}(" in wrapper(description) for name, bits in widths.items() if bits)


def test_the_core_file_names_the_files_and_is_yaml() -> None:
    yaml = pytest.importorskip("yaml", reason="a reader of YAML")
    text = core("minilm_ab12", ["gelu", "array"], "array")
    content = yaml.safe_load(text.removeprefix("CAPI=2:"))
    assert text.startswith("CAPI=2:\n") and content["name"] == "::minilm_ab12:0"
    assert content["filesets"]["rtl"]["files"] == ["rtl/gelu.v", "rtl/array.v"]
    assert set(content["targets"]["default"]["filesets"]) == set(content["filesets"])
    assert content["targets"]["default"]["toplevel"] == "array"


def test_the_first_page_and_the_constraints_say_what_was_chosen() -> None:
    point = {"point": "ab12", "attention": "w8a8", "fc1": "w4a8", "fc2": "w4a8", "rows": 8, "columns": 4}
    text = page("minilm", point, {"minilm-gelu": "rtl/minilm_gelu.v"})
    assert "minilm, point ab12" in text and "fc1 w4a8" in text and "bench/minilm-gelu/run.sh" in text
    assert "-period 8 " in SDC.format(period=8.0)
