"""The floating-point baseline in gates; `sim.reference.floating` is the specification.

Single-path, sized for area as a synthesised unit at a given clock would be: one rounding per operation, sticky bits in
place of long operands, one shifter for both directions of normalisation, rounding and exponent in one addition.
"""
