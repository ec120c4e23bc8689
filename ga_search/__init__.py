"""Fits integer piecewise-linear tables (`sim.reference.PwlTable`) to non-linear functions."""
