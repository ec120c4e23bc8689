"""Toggles on a netlist that has given every expected result, and the power they cost."""
