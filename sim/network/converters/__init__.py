"""Converters from PyTorch models to networks of operators, one file for each family; `describe` selects one."""
