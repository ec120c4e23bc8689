"""Synthesis to a netlist of cells, its area, timing and breakdown by component."""
