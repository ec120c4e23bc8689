"""Scales, quantisers, observers and the quantised linear layer."""
