"""A Cityscapes folder: images and the 19 classes that are evaluated, as its own layout has them.

`leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png` and beside it `gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`. The split
"val" is measured, "train" calibrates.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.common.files import read_json
from sim.reference import InputError
from sim.workloads.variants import Options

# label id -> evaluated class, in the order of the benchmark; all others are ignored
LABELS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
          28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
IGNORED = -1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, if the checkpoint does not say


class Cityscapes:
    """The first `options.images` of the measured split, one at a time, normalised as the checkpoint says."""

    classes = 19

    def __init__(self, folder: Path, checkpoint: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.images = _images(folder, "val")[: options.images]
        self.mean, self.std = normalisation(checkpoint)

    def measured(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (1, 3, H, W) and classes (1, H, W)."""
        for path in self.images:
            image, labels = self._image(path), self._labels(path)
            if image.shape[-2:] != labels.shape[-2:]:
                shapes = " x ".join(map(str, image.shape[-2:])), " x ".join(map(str, labels.shape[-2:]))
                raise InputError(f"{path}: has {shapes[0]} pixels, but its labels have {shapes[1]}")
            yield image, labels

    def calibration(self, seed: int) -> list[Mapping[str, Tensor]]:
        """Images of the training split, one at a time."""
        found = _images(self.folder, "train")
        order = np.random.default_rng(seed).permutation(len(found))[: self.options.calibration]
        return [{"pixel_values": self._image(found[i])} for i in order]

    def _image(self, path: Path) -> Tensor:
        pixels = _read(path).convert("RGB")
        values = (np.asarray(pixels, dtype=np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]

    def _labels(self, path: Path) -> Tensor:
        name = path.name.removesuffix("_leftImg8bit.png") + "_gtFine_labelIds.png"
        labels = self.folder / "gtFine" / "val" / path.parent.name / name
        ids = np.asarray(_read(labels))
        if ids.ndim != 2:
            raise InputError(f"{labels}: must have one label for each pixel, not {list(ids.shape)}")
        classes = np.full(256, IGNORED, dtype=np.int64)
        classes[list(LABELS)] = list(LABELS.values())
        return torch.from_numpy(classes[ids])[None]


def normalisation(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a checkpoint's preprocessor_config.json, else those of ImageNet.

    Raises InputError if one is not three finite numbers, or a deviation not above 0.
    """
    path = checkpoint / "preprocessor_config.json"
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: must be an object")
    mean, std = found.get("image_mean", MEAN), found.get("image_std", STD)
    if not _are_three(mean):
        raise InputError(f"{path}: image_mean must be 3 finite numbers, not {mean!r}")
    if not _are_three(std) or min(std) <= 0:
        raise InputError(f"{path}: image_std must be 3 finite numbers above 0, not {std!r}")
    return np.asarray(mean, dtype=np.float32), np.asarray(std, dtype=np.float32)


def _are_three(values: Any) -> bool:
    """Whether the values are a list of three finite numbers."""
    return (
        isinstance(values, (list, tuple))
        and len(values) == 3
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )


def _images(folder: Path, split: str) -> list[Path]:
    found = sorted((folder / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    if not found:
        raise InputError(f"{folder}: has no image leftImg8bit/{split}/CITY/NAME_leftImg8bit.png")
    return found


def _read(path: Path):
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(path)
        image.load()  # here, so that a truncated file is noticed
        return image
    except FileNotFoundError:
        raise InputError(f"{path}: cannot be read: there is no such file") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
