"""Square crops of the two photographs that scikit-learn ships, for networks that take images of one size."""

import hashlib

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SMALLEST = 224  # pixels of a crop's side


def crops(count: int, seed: int, side: int) -> Tensor:
    """`count` crops (count, 3, side, side), float32, normalised as for ImageNet; the photographs take turns.

    A crop is a random square of 224 pixels or more, at random mirrored, scaled to `side`. The same seed gives the same.
    """
    photographs = [
        torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in load_sample_images().images
    ]
    rng, made = np.random.default_rng(seed), []
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for k in range(count):
        photograph = photographs[k % len(photographs)]
        height, width = photograph.shape[1:]
        size = int(rng.integers(SMALLEST, min(height, width) + 1))
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        square = photograph[:, top : top + size, left : left + size]
        square = square.flip(2) if rng.integers(2) else square
        scaled = functional.interpolate(square[None], (side, side), mode="bilinear", antialias=True)[0]
        made.append((scaled - mean) / std)
    return torch.stack(made)


def digest(images: Tensor) -> str:
    """SHA-256 of the crops."""
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()
