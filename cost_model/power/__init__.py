"""Toggles of a netlist that gave every expected result, and its power."""
