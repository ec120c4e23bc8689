"""Small plain PyTorch models to train and measure on."""
