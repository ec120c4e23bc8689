"""Names that would reach a command line, Verilog, make or a path are refused before anything is built."""

import dataclasses

import pytest

from sim.cosim import array_wrapper, simulators, wrapper
from sim.cosim.dut import device
from sim.cosim.names import require_file_name, require_identifier
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk, run_protocol
from sim.cosim.simulators import Build
from sim.reference import InputError
from sim.vectors.pwl import random_set

VECTORS = random_set("s", 0, 1, 4, in_bits=4, coef_bits=4)
UNIT = device(VECTORS)
BAD = [
    "../../evil", "/elsewhere/evil", "..", "", "a b", "a\nb", "a\r\nendmodule", 'a"b', "a'b", "a`b`", "$(touch x)",
    "a$b", "a;b", "a[0]", "{a}", "a*/b", "//a", "a\\b", "a#b", "-o", "9a", "é", "a" * 201, "module", "always_ff",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_module_or_a_port_of_another_name_than_an_identifier_is_one_line_and_builds_nothing(name, tmp_path):
    options = BenchOptions("icarus", tmp_path / "build", dut=dataclasses.replace(UNIT, module=name))
    port = dataclasses.replace(UNIT, ports=(*UNIT.ports, name))
    calls = (
        lambda: run_bulk(VECTORS, options),
        lambda: run_protocol(VECTORS, options),
        lambda: run_protocol(VECTORS, dataclasses.replace(options, dut=port)),
        lambda: wrapper.wrapper(port),
        lambda: require_identifier("module", name),
    )
    for call in calls:
        with pytest.raises(InputError, match="must be named by a Verilog identifier, not ") as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1 and len(str(raised.value)) < 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("a b", "é", "9a", "module", "always_ff")])
def test_a_source_file_whose_name_leaves_its_folder_or_is_no_plain_name_is_refused(name):
    with pytest.raises(InputError, match="a source file must be named by a plain file name, not "):
        Build("icarus", {name: ""}, "unit", ())


def test_the_names_of_emitted_units_and_of_vector_sets_are_taken():
    for name in (*UNIT.ports, *wrapper.VISIBLE, *array_wrapper.VISIBLE, array_wrapper.TOP):
        require_identifier("port", name)
    for name in ("fitted-gelu-8", "fitted-my table", "random-fp-pwl-fp16", "gelu_8.b", "été"):
        require_file_name("a set of vectors", name)


def test_options_out_of_range_are_one_line():
    for wrong, message in (
        ({"simulator": "vcs"}, "simulator must be one of icarus, verilator, not 'vcs'"),
        ({"repeats": 0}, "repeats must be in 1..2147483647, not 0"),
        ({"stall_seed": -1}, "stall_seed must be in 0..2147483647, not -1"),
        ({"resets": -1}, "resets must be in 0..2147483647, not -1"),
    ):
        with pytest.raises(InputError, match=message):
            BenchOptions(**{"simulator": "icarus", **wrong})
    assert simulators.SIMULATORS == ("icarus", "verilator")
