"""The linear-attention network in integers, trained here on scenes of digits."""

from collections.abc import Callable

from torch import nn

from quant.zoo.linear_attention import scene_segmenter
from sim.workloads.scene_training import Training, trained


def lightweight_model(progress: Callable[[], object], training: Training | None = None) -> nn.Module:
    """The network, trained once and then read from the cache; `progress` is called after each step."""
    return trained("linear-attention", scene_segmenter, training or Training(), progress)
