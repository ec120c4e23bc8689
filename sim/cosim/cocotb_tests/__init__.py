"""cocotb tests, run inside a simulator by `sim.cosim.run`, with plusargs as parameters."""
