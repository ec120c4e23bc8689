"""Placement and routing of a netlist by graywolf and qrouter, and the wires that they give."""
