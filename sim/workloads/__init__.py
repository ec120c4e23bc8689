"""A model, its data and its evaluation."""
