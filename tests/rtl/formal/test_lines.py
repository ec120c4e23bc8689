"""Stuck lines: which of them the proofs refute, and that a line that is constant in a shape survives there."""

from dataclasses import replace

import pytest

from rtl.formal import lines
from rtl.formal.lines import HARMLESS, SHAPE, Breakable, Line, Stuck, faults, main, refuted
from rtl.formal.opened import opened
from rtl.formal.prove import proofs
from rtl.pwl import Pwl

CARRY = {Stuck(Line("low", 5), value) for value in (0, 1)}  # from the low to the high half of the sum
DEFAULT = replace(SHAPE, max_intercept_shift=None)


def claim(name: str, config=SHAPE):
    return next(proof for proof in proofs(config) if proof.name == name)


@pytest.mark.slow
def test_a_stuck_carry_is_refuted_in_the_shape_and_survives_where_it_is_constant():
    assert refuted(claim("arithmetic"), CARRY) == (CARRY, set())
    carry = {Stuck(Line("low", DEFAULT.acc_bits // 2), value) for value in (0, 1)}
    found, harmless = refuted(claim("arithmetic", DEFAULT), carry)
    assert {fault.value for fault in found} == {1} and {fault.value for fault in harmless} == {0}


def test_each_bit_of_the_trees_second_row_is_refuted_by_the_product_but_for_what_is_constant():
    nets = {Stuck(Line(rf"\${net}", 0), value) for net in (199, 262, 301) for value in (0, 1)}
    assert refuted(claim("product"), nets)[0] == nets


def test_a_line_is_each_bit_of_a_wire_or_register_that_something_reads():
    text = opened(Pwl(SHAPE)).text
    found = faults(text)
    assert len(found) == 992 and {Stuck(Line(*key[:2]), key[2]) for key in HARMLESS} <= found
    unit = Breakable.of(text)
    assert len(unit.lines) > len(found) / 2 and f"input [{len(unit.lines) - 1}:0] stuck;" in unit.text


@pytest.mark.slow
def test_the_proofs_refute_every_stuck_line_but_those_that_are_known_to_be_harmless():
    assert main([]) == 0


@pytest.mark.parametrize("extra, code", [(set(), 0), (CARRY, 1)])
def test_a_fault_that_survives_and_is_not_known_is_exit_code_1(extra, code, monkeypatch, capsys):
    left = {Stuck(Line(*key[:2]), key[2]) for key in HARMLESS}
    monkeypatch.setattr(lines, "survivors", lambda config: (left | CARRY, left | extra))
    assert main([]) == code
    assert ("UNKNOWN" in capsys.readouterr().out) == bool(extra)
