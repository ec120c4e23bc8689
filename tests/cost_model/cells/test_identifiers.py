"""No name from a user's file becomes a command: of Yosys, of OpenSTA's Tcl, or of a shell."""

import pytest

from cost_model.cells import library
from cost_model.cells.identifiers import require_identifier, require_path, require_pin
from cost_model.cells.library import GATE_EQUIVALENTS
from cost_model.netlist import timing
from cost_model.netlist.memories import Memory
from cost_model.netlist.netlist import Netlist
from cost_model.netlist.synthesis import Flow, synthesise
from sim.reference import InputError

HOSTILE = [
    "unit\nwrite_file owned", "unit; exec touch owned", "unit;!touch owned", 'a"b', "a'b", "[exec touch owned]",
    r"[{*}exec\x20touch\x20owned]", "$(touch owned)", "`touch owned`", "a b", "a*/b", "..", "../owned", "/tmp/owned",
    "a$b", "{a}", "a\\b", "", "1a", "a\u0661", "a\n", "a\r", "a\0b", "x" * 2000,
]  # fmt: skip
INVERTER = {"type": "INV", "connections": {"A": [2], "Y": [3]}}


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("*owned*"))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("require", [require_identifier, require_path, require_pin])
def test_a_hostile_name_is_one_line(require, name):
    with pytest.raises(InputError, match=r"^the name must be ") as raised:
        require(name, "the name")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_names_that_tools_take_are_kept():
    assert require_identifier("sky130_fd_sc_hd__buf_1", "") and require_path("pass_0.ring", "")
    assert require_pin("A", "") and require_pin("A[3]", "") and require_pin("A_DIN[31:0]", "")


@pytest.mark.parametrize("name", [n for n in HOSTILE if not set(n) & set('"\\\n\r\0') and n.strip() and " " not in n])
@pytest.mark.parametrize("place", ["cell (BUF)", "pin (A)", "ff (IQ, IQN)"])
def test_a_liberty_with_a_hostile_name_is_refused(place, name, tmp_path):
    kind = place.split()[0]
    text = GATE_EQUIVALENTS.read_text()
    assert place in text
    (tmp_path / "bad.lib").write_text(text.replace(place, f'{kind} ("{name}")', 1))
    with pytest.raises(InputError, match=r"bad\.lib: .*must be"):
        library.load(tmp_path / "bad.lib")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_module_a_port_a_wire_and_a_memory_with_a_hostile_name_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="the name of a module must be"):
        synthesise("module unit(); endmodule", name, Flow(), tmp_path / "cache")
    ports = {"y": {"direction": "output", "bits": [3]}, name: {"direction": "input", "bits": [2]}}
    module = {"ports": ports, "cells": {"g": INVERTER}, "netnames": {}}
    with pytest.raises(InputError, match="the name of a port of unit must be"):
        Netlist.from_dict({"modules": {"unit": module}}, "unit", library.load())
    with pytest.raises(InputError, match="the name of a wire must be"):
        Flow(keep=(name,))
    with pytest.raises(InputError, match="the name of a memory must be"):
        Flow(memories=(Memory(name, 2, 2),))
    with pytest.raises(InputError, match="a module's name must be"):
        timing._script(name, Flow(period_s=8e-9))


def test_files_beside_a_library_are_not_read_by_the_tools(tmp_path):
    (tmp_path / "bad.lib").write_text(
        GATE_EQUIVALENTS.read_text().replace("  cell (INV)", '  include_file ("/etc/x");\n  cell (INV)')
    )
    with pytest.raises(InputError, match="include_file is not supported"):
        library.load(tmp_path / "bad.lib")
