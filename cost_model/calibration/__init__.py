"""The analytical model's coefficients, from measured points of a declared design space."""
