"""Files: packed models, GPTQ's layout, checkpoints."""
