"""One file for each unit: its options, and the component that they ask for. `UNITS` is the order of `--help`."""

from rtl.commands import array, floating, normaliser, pwl, requant
from rtl.commands import rowwise as rows

UNITS = (pwl, normaliser, requant, rows, floating, array)
