"""The operators of an integer network: the same in floating point, in integers and in training."""
