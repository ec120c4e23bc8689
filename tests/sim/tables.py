"""Tables made by hand for the tests."""

from sim.chords import FUNCTIONS, chord_table

__all__ = ["FUNCTIONS", "chord_table"]
