"""cocotb tests, run inside a simulator by `sim.cosim.run`; what they need to know comes as plusargs."""
