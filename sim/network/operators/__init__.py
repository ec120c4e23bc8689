"""The operators of an integer network, in floating point, in integers and for training."""
