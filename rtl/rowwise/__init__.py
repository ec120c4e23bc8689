"""Units that see a whole row before they give its first result: softmax, LayerNorm and RMSNorm."""
