"""A fault is equivalent only where no state of a running unit shows it; what vectors kill is never proved."""

import re
from pathlib import Path

import pytest

from rtl.formal import mutate as module
from rtl.formal.equivalence import equivalence
from rtl.formal.opened import opened
from rtl.formal.prove import yosys
from rtl.pwl import Pwl, PwlConfig

SMALL = PwlConfig(entries=4, in_bits=4, coef_bits=4, out_bits=4)
NONE = "mutate -mode none -module unit"


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small unit's netlist and a list of its faults."""
    return synthesised(tmp_path_factory.mktemp("netlist"), SMALL)


def synthesised(folder: Path, config: PwlConfig, seed: int = 1) -> Path:
    (folder / "unit.v").write_text(opened(Pwl(config)).text)
    (folder / "list.ys").write_text(module.SYNTHESISE.format(candidates=200, seed=seed))
    yosys(folder, "list.ys")
    return folder


def commands(folder: Path, pattern: str) -> list[str]:
    """The faults whose commands have a pattern."""
    return [line for line in (folder / "faults.txt").read_text().splitlines() if re.search(pattern, line)]


def test_no_fault_is_proved_and_an_inverted_gate_is_refuted(netlist) -> None:
    assert equivalence(netlist, SMALL, NONE, 60) == "proved"
    inverted = commands(netlist, " -mode inv .* -port Y ")
    assert [equivalence(netlist, SMALL, command, 60) for command in inverted[:2]] == ["refuted"] * 2


def test_there_is_no_proof_of_a_fault_at_a_flip_flops_output_and_none_in_no_time(netlist) -> None:
    assert equivalence(netlist, SMALL, "mutate -mode inv -module unit -cell x -port Q ", 60) == "unknown"
    assert equivalence(netlist, SMALL, NONE, 0) == "undecided"


@pytest.mark.slow
def test_what_vectors_kill_is_never_proved_equivalent(netlist) -> None:
    killed = [fault for fault in module.mutate(SMALL, 100, 1, 20) if fault.outcome == "killed"]
    assert len(killed) > 90
    verdicts = {equivalence(netlist, SMALL, fault.command, 60) for fault in killed}
    assert verdicts <= {"refuted", "unknown"} and "refuted" in verdicts
