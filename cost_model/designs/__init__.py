"""The units that are measured: their configuration, their real work and the vectors that check them."""
