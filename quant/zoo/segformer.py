"""A small SegFormer (arXiv 2105.15203) of transformers for the scenes of `quant.zoo.scenes`, with random weights."""

import torch
from torch import nn

from quant.zoo.scenes import CLASSES


def scene_segformer(seed: int = 0) -> nn.Module:
    """A `SegformerForSemanticSegmentation` of 244,000 parameters: three stages of two layers, attention on keys reduced
    by 4, 2 and 1. Its logits have half the scene's resolution.
    """
    import transformers

    config = transformers.SegformerConfig(
        num_channels=1, num_encoder_blocks=3, depths=[2, 2, 2], sr_ratios=[4, 2, 1], hidden_sizes=[32, 48, 64],
        patch_sizes=[3, 3, 3], strides=[2, 2, 2], num_attention_heads=[1, 2, 4], mlp_ratios=[2, 2, 2],
        decoder_hidden_size=64, drop_path_rate=0.0, classifier_dropout_prob=0.0,
        num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
    )  # fmt: skip
    torch.manual_seed(seed)
    return transformers.SegformerForSemanticSegmentation(config)
