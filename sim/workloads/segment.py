"""SegFormer in integers: one trained here on scenes of digits, or a checkpoint on a Cityscapes folder."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from quant.zoo.scenes import CLASSES, Composer
from quant.zoo.segformer import scene_segformer
from sim.workloads.scene_training import Training, trained
from sim.workloads.segmentation import BATCH
from sim.workloads.variants import Options

CALIBRATION = 1 << 31  # where the seeds of calibration scenes begin, apart from those of training


class SceneData:
    """Scenes of digits that are held out, and for calibration scenes of the digits for training."""

    classes = CLASSES

    def __init__(self, options: Options) -> None:
        self.options = options
        self.scenes = Composer(held_out=True).scenes(options.images, 0)

    def measured(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Batches of images and classes."""
        return list(zip(self.scenes.images.split(BATCH), self.scenes.labels.split(BATCH), strict=True))

    def calibration(self, seed: int) -> Sequence[Mapping[str, Tensor]]:
        """Batches of images that are not measured."""
        images = Composer(held_out=False).scenes(self.options.calibration, CALIBRATION + seed).images
        return [{"pixel_values": part} for part in images.split(BATCH)]


def scene_model(progress: Callable[[], object], training: Training | None = None) -> nn.Module:
    """The small SegFormer, trained once and then read from the cache; `progress` is called after each step."""
    return trained("segformer", scene_segformer, training or Training(), progress)
