"""From a PyTorch model to a network of operators, a file for each family of models; `describe` finds the right one."""
