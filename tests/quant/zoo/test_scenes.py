"""Scenes of digits: the same seed gives the same, training and held-out digits are apart, and mean IoU is exact."""

import numpy as np
import torch

from quant.zoo.scenes import CLASSES, SIDE, Composer, Confusion


def test_the_same_seed_gives_the_same_scenes_and_another_one_others():
    composer = Composer(held_out=True)
    first = composer.scenes(5, 1, 2)
    assert first.images.shape == (5, 1, SIDE, SIDE) and first.labels.shape == (5, SIDE, SIDE)
    assert first.digest == Composer(held_out=True).scenes(5, 1, 2).digest
    others = [composer.scenes(5, 1, 3), composer.scenes(5, 2), Composer(held_out=False).scenes(5, 1, 2)]
    assert len({first.digest, *(scenes.digest for scenes in others)}) == 4


def test_training_digits_and_held_out_digits_are_apart():
    sides = [Composer(held_out).scaled[16].reshape(-1, 256) for held_out in (False, True)]
    known = {digit.tobytes() for digit in sides[0]}
    assert len(sides[0]) + len(sides[1]) == 1797 and not any(digit.tobytes() in known for digit in sides[1])


def test_every_class_occurs_and_ink_is_brighter_than_its_surroundings():
    images, labels = Composer(held_out=False).scenes(200, 0)
    counts = np.bincount(labels.flatten().numpy(), minlength=CLASSES)
    assert (counts > 1000).all() and 0.7 < counts[0] / counts.sum() < 0.95
    assert float(images[:, 0][labels > 0].mean()) > float(images[:, 0][labels == 0].mean()) + 0.5


def test_mean_iou_is_over_all_scenes_together_and_ignores_what_it_must():
    labels = torch.tensor([[[0, 0], [1, 1]], [[0, -1], [2, 2]]])
    predicted = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [2, 0]]])
    found = Confusion.of(predicted, labels, 4)
    assert found.intersection.tolist() == [[1, 2, 0, 0], [1, 0, 1, 0]]
    assert found.union.tolist() == [[2, 3, 0, 0], [2, 0, 2, 0]]
    assert found.mean_iou() == 100 * (2 / 4 + 2 / 3 + 1 / 2) / 3  # the fourth class does not occur
    assert found.mean_iou(np.array([0])) == 100 * (1 / 2 + 2 / 3) / 2
