"""From a PyTorch model to a network of operators."""
