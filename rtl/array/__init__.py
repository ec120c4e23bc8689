"""The low-bit MAC array: a weight-stationary grid, group accumulators and requantisers behind one stream."""
