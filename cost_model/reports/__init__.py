"""Tables and plots: the hardware table, sensitivities, the paper's figures."""
