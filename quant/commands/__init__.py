"""One file for each command of `python -m quant` that has options of its own."""
