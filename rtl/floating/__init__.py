"""The floating-point baseline in gates; `sim.reference.floating` is the specification.

The units have a single path and are designed for small area at a given clock: one rounding per operation, sticky bits
instead of long operands, one shifter for both directions of normalisation, rounding and exponent in one addition.
"""
