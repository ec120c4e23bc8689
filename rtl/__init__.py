"""Amaranth components and the Verilog they become. Imports nothing: ask for `rtl.pwl` and so on."""
