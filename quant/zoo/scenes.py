"""Scenes composed of scikit-learn's 8x8 digits, with a class for each pixel: a segmentation task always at hand.

A scene has 32 x 32 pixels in 2 x 2 cells. A cell is empty or holds a digit of 12 to 16 pixels at a random place, not
always at full contrast; behind them lie a gradient, noise and a dark streak. A pixel belongs to class digit + 1 where
the digit has ink, else to class 0. Training scenes and held-out scenes are made of different digits.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

SIDE, CELL, CLASSES = 32, 16, 11  # pixels of a scene's and a cell's side; background and ten digits
SIZES = range(12, 17)  # pixels of a digit's side
TRAINING_DIGITS = 1297  # of 1797
INK = 0.4  # of full ink: more is the digit, less is background
EMPTY = 0.25  # the share of empty cells


class Scenes(NamedTuple):
    """Images (n, 1, 32, 32), float32 around 0, and classes (n, 32, 32), int64."""

    images: Tensor
    labels: Tensor

    @property
    def digest(self) -> str:
        """SHA-256 of images and labels."""
        return hashlib.sha256(self.images.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()


class Composer:
    """Makes scenes of one part of the digits: those for training, or those that are held out."""

    def __init__(self, held_out: bool) -> None:
        pixels, targets = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(targets))
        part = order[TRAINING_DIGITS:] if held_out else order[:TRAINING_DIGITS]
        self.targets = targets[part].astype(np.int64)
        digits = torch.tensor(pixels[part].reshape(-1, 1, 8, 8) / 16.0, dtype=torch.float32)
        self.scaled = {
            size: functional.interpolate(digits, size=(size, size), mode="bilinear")[:, 0].numpy() for size in SIZES
        }
        self.held_out = held_out

    def scenes(self, count: int, *seed: int) -> Scenes:
        """`count` scenes; the same numbers as `seed` give the same scenes."""
        rng = np.random.default_rng([int(self.held_out), *seed])
        images = np.empty((count, 1, SIDE, SIDE), dtype=np.float32)
        labels = np.zeros((count, SIDE, SIDE), dtype=np.int64)
        for image, label in zip(images[:, 0], labels, strict=True):
            self._compose(rng, image, label)
        return Scenes(torch.from_numpy(images), torch.from_numpy(labels))

    def _compose(self, rng: np.random.Generator, image: np.ndarray, label: np.ndarray) -> None:
        ramp = np.linspace(-0.3, 0.3, SIDE, dtype=np.float32)
        image[:] = rng.uniform(-1, 1) * ramp + rng.uniform(-1, 1) * ramp[:, None]
        image += 0.1 * rng.standard_normal((SIDE, SIDE), dtype=np.float32)
        image[:, rng.integers(SIDE)] -= 0.5
        for row in range(0, SIDE, CELL):
            for column in range(0, SIDE, CELL):
                if rng.random() >= EMPTY:
                    self._place(rng, image, label, row, column)

    def _place(self, rng: np.random.Generator, image: np.ndarray, label: np.ndarray, row: int, column: int) -> None:
        size, chosen = int(rng.choice(SIZES)), int(rng.integers(len(self.targets)))
        row, column = (start + int(rng.integers(CELL - size + 1)) for start in (row, column))
        digit, place = self.scaled[size][chosen], (slice(row, row + size), slice(column, column + size))
        image[place] += np.float32(rng.uniform(0.8, 1.6)) * digit
        label[place][digit > INK] = self.targets[chosen] + 1


class Confusion(NamedTuple):
    """For each scene and class the pixels of prediction and truth in common, and of either: (n, classes) each."""

    intersection: np.ndarray
    union: np.ndarray

    @classmethod
    def of(cls, predicted: Tensor, labels: Tensor, classes: int = CLASSES, ignored: int = -1) -> "Confusion":
        """Of classes (n, H, W) each; pixels whose label is `ignored` do not count."""
        kept = labels != ignored
        hits = [((predicted == c) & (labels == c)).sum((1, 2)) for c in range(classes)]
        either = [(((predicted == c) | (labels == c)) & kept).sum((1, 2)) for c in range(classes)]
        return cls(torch.stack(hits, 1).numpy(), torch.stack(either, 1).numpy())

    def mean_iou(self, chosen: np.ndarray | slice = slice(None)) -> float:
        """The mean over classes that occur of intersection over union, over all chosen scenes together, in percent."""
        hits, either = self.intersection[chosen].sum(0), self.union[chosen].sum(0)
        return 100 * float((hits[either > 0] / either[either > 0]).mean())
