"""Faults that a proof must find: each is one change to the unit's Verilog, a typical design mistake."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtl.formal.prove import Proof


@dataclass(frozen=True)
class Fault:
    """Replace the regular expression `pattern`, which must match, by `put` in the unit of the proof `proof`."""

    name: str
    proof: str
    pattern: str
    put: str

    def into(self, proof: Proof) -> Proof:
        """The proof of the same claim for the faulty unit."""
        unit, count = re.subn(self.pattern, self.put, proof.unit, count=1, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{self.name}: {self.pattern!r} is not in the unit of {proof.name}")
        return replace(proof, name=f"{proof.name}, {self.name}", unit=unit)


DROPPED = r"assign i__ready = o__ready \|", "assign i__ready = 1'h1 |"
FAULTS = (
    Fault("> for >=", "selection", r"(\$signed\(i__payload\)) >= ", r"\1 > "),
    Fault("an entry that is never selected", "selection", r"\? slope_1 ", "? 1'h0 "),
    Fault("a digit that is 1 for 2", "product", r"(\[2\] )\^( \\slope_0\$\d+ \[1\])", r"\1|\2"),
    Fault("a sum bit that is not an exclusive or", "product", r"\^( addend\[3\])", r"|\1"),
    Fault("a lost round bit", "arithmetic", r"scaled\[0\]", "1'h0"),
    Fault("a logical shift", "arithmetic", r"\$signed\((\{[^}]*, 1'h0 \})\) >>>", r"\1 >>"),
    Fault("a top code that is one too low", "arithmetic", r"(\? \d+'h80* : \d+'h7?)[7f];", r"\g<1>6;"),
    Fault("a register that does not stall", "arithmetic", r"(= (?:row|high)_1_1;\n    if \()i__ready", r"\g<1>1'h1"),
    Fault("a lost bit of the low half", "product, wide shift", r"(row_1 = \{[^}]*, )\\\$\d+ (, 4'h0)", r"\1 1'h0 \2"),
    Fault(
        "a lost bit of the high half", "product, wide shift", r"(row_1 = \{ \\\$\d+ , 3'h0, )\\\$\d+ ", r"\g<1>1'h0 "
    ),
    Fault("a lost carry", "arithmetic, wide shift", r"\+ low\[5\]", "+ 1'h0"),
    Fault("a carry that is always there", "arithmetic, wide shift", r"\+ low\[5\]", "+ 1'h1"),
    Fault("a carry from the wrong bit", "arithmetic, wide shift", r"\+ low\[5\]", "+ low[4]"),
    Fault("a carry that is an or", "arithmetic, wide shift", r"\+ low\[5\]", "| low[5]"),
    Fault("a carry that is subtracted", "arithmetic, wide shift", r"\+ low\[5\]", "- low[5]"),
    Fault("a low half that is a bit short", "arithmetic, wide shift", r"(low = row_0_1)\[4:0\]", r"\1[3:0]"),
    Fault("a dropped beat", "handshake", *DROPPED),
    Fault("a beat that comes twice", "handshake", r"= i__valid;", "= i__valid | valid_0;"),
    Fault("a reset that leaves a beat", "handshake", r"(= valid_0;\n    end\n    if \()rst", r"\g<1>1'h0"),
    Fault("a result that changes while it waits", "handshake", r"(= o__payload;\n    if \()i__ready", r"\g<1>1'h1"),
    Fault("a write to the wrong word", "load", r"(table__address == )1'h1", r"\g<1>2'h2"),
    Fault("a reset that clears a word", "load", r"(threshold_0 <= )(\S+ );", r"\1rst ? 0 : \2;"),
    Fault("a flipped table bit", "stored", r"(slope_1 <= )(\S+ );", r"\1\2 ^ table__en;"),
    Fault("> for >=", "stored", r"(\$signed\(i__payload\)) >= ", r"\1 > "),
    Fault("a wrong rounding constant", "stored", r"scaled(_\d)?\[0\]", "1'h1"),
    Fault("a dropped beat", "stored", *DROPPED),
    Fault("a flipped table bit", "whole", r"(slope_1 <= )(\S+ );", r"\1\2 ^ table__en;"),
    Fault("> for >=", "whole", r"(\$signed\(i__payload\)) >= ", r"\1 > "),
    Fault("a wrong rounding constant", "whole", r"scaled(_\d)?\[0\]", "1'h1"),
    Fault("a dropped beat", "whole", *DROPPED),
    Fault("a gate that is open in both halves", "latches", r"(\\\$1  = )~ clk;", r"\g<1>1'h1;"),
    Fault("data that moves while the gate closes", "latches", "negedge clk", "posedge clk"),
    Fault("a write to the wrong word", "latches", r"( = ! )address;", r"\1en;"),
    Fault("a lost round bit", "requantiser", r"scaled(_\d)?\[0\]", "1'h0"),
    Fault("a signed multiplier", "requantiser", r"\{ 1'h0, (i__payload\[\d+:\d+\]) \}", r"\1"),
    Fault("a zero point that is ignored", "requantiser", r"\$signed\(zero_point\)", "$signed(1'h0)"),
    Fault("a dropped beat", "requantiser's handshake", *DROPPED),
    Fault("a flipped table bit", "normaliser", r"(slope_1 <= )(\S+ );", r"\1\2 ^ table__en;"),
    Fault("> for >=", "normaliser", r"(assign above = .*?) >= ", r"\1 > "),
    Fault("a lost round bit", "normaliser", r"scaled(_\d)?\[0\]", "1'h0"),
    Fault("a dropped beat", "normaliser's handshake", *DROPPED),
)


DEEP_FAULTS = (
    Fault("a lost carry", "arithmetic, deep shift", r"\+ low_1\[11\]", "+ 1'h0"),
    Fault("a carry that is always there", "arithmetic, deep shift", r"\+ low_1\[11\]", "+ 1'h1"),
    Fault("a carry from the wrong bit", "arithmetic, deep shift", r"\+ low_1\[11\]", "+ low_1[10]"),
    Fault("a lost bit of the high half", "product, deep shift", r"(row_1 = \{ )\\\$\d+ ", r"\g<1>1'h0 "),
)


TRUTH_TABLE_FAULTS = (
    Fault("a flipped table bit", "truth table", r"(5'h0f:\s+code = 4'h)0", r"\g<1>1"),
    Fault("a scale that is ignored", "truth table", r"\{ scale, i__payload \}", "{ 1'h0, i__payload }"),
    Fault("a dropped beat", "truth table's handshake", *DROPPED),
)
SHIFTED_FAULTS = (
    Fault("a flipped table bit", "stored, two powers", r"(slope_1 <= )(\S+ );", r"\1\2 ^ table__en;"),
    Fault("a sign that is ignored", "stored, two powers", r"(i__payload\[2\]) \^ slope\[7\]", r"\1"),
)


def faulty(proofs: list[Proof], faults: Sequence[Fault] = FAULTS) -> list[Proof]:
    """One proof for each fault, with the fault in its unit."""
    named = {proof.name: proof for proof in proofs}
    return [fault.into(named[fault.proof]) for fault in faults]
