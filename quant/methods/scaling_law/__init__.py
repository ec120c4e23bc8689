"""The scaling law of quantisation-aware training (2505.14302): its formula and fits of it."""
