"""Bytes, cycles and energy of a packed model, site by site."""
