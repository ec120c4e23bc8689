"""Transformers in integers: PyTorch modules that equal `sim.reference` bit for bit, and the conversion of a model.

Nothing is imported eagerly, so that `import sim` stays free of torch.
"""
