"""EfficientQAT (Chen et al., 2407.11062): quantisation-aware training block by block, then of the step sizes alone."""
