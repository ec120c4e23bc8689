"""Rowwise units, which take a whole row before its first result: softmax, LayerNorm and RMSNorm."""
