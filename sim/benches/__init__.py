"""cocotb tests, run inside a simulator by `sim.runner`; what they need to know comes as plusargs."""
