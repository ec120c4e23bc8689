"""One file for each unit: its options, and the component that they ask for. `COMMANDS` is the order of `--help`."""

from rtl.commands import any_unit, array, floating, layer, normaliser, pwl, requant, truth_table
from rtl.commands import rowwise as rows

COMMANDS = (pwl, truth_table, normaliser, requant, rows, floating, array, layer, any_unit)
