"""Proofs of the truth-table unit."""

import numpy as np

from rtl.formal import beats
from rtl.formal.opened import Opened, opened
from rtl.formal.prove import Proof, handshake_proof
from rtl.formal.scaling import listed
from rtl.truth_table import TruthTableConfig, TruthTableUnit
from sim.reference.arithmetic import code_range
from sim.reference.truth_table import TruthTable

# a parabola of 4-bit codes at two scales, saturated
_SCALES = (1, 2)
_CODES = tuple(tuple(min(q * q >> 2 * s - 1, 7) for q in range(-8, 8)) for s in _SCALES)
EXAMPLE = TruthTable("square", _SCALES, 1, _CODES, in_bits=4, out_bits=4)


def truth_table_proofs(table: TruthTable = EXAMPLE) -> list[Proof]:
    """Every code at every scale gives the table's output, and the handshake, for a unit of this table."""
    config = TruthTableConfig(table)
    component = TruthTableUnit(config)
    unit = opened(component)
    shape = f"{table.in_bits}-bit codes, {len(table.scales)} scales, {table.out_bits}-bit results"
    return [
        Proof("truth table", unit.text, tabled(unit, config), shape),
        handshake_proof("truth table's handshake", component, config.stages, shape),
    ]


def tabled(unit: Opened, config: TruthTableConfig) -> str:
    """Every result is the table's for the code and the scale at which it was taken."""
    table, n = config.table, config.stages
    several = len(table.scales) > 1
    scale_bits = unit["scale"].width if several else 0
    low, high = code_range(table.in_bits, table.in_signed)
    codes = np.arange(low, high + 1)
    inputs, outputs = [], []
    for row in range(len(table.scales)):
        inputs += [row << table.in_bits | int(code) & ((1 << table.in_bits) - 1) for code in codes]
        outputs += table.output(codes, row).tolist()
    static = f"{beats.quasi_static(['scale'])}\n  always @* assume(scale < {len(table.scales)});" if several else ""
    read = f"{{scale, q_at_{n}}}" if several else f"q_at_{n}"
    body = f"""{static}
{listed(inputs, outputs, table.in_bits + scale_bits, table.out_bits, read)}
  always @* if (v[{n}]) assert($unsigned(o__payload) == want);
  assign reached = v[{n}] && o__ready && stalled && {read} == {inputs[-1]};"""
    return beats.module(unit, n, {"q": (0, "i__payload")}, body)
