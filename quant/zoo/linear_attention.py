"""A small segmentation network of the EfficientViT kind (arXiv 2205.14756) for the scenes of `quant.zoo.scenes`.

Convolutions with batch norms and HSWISH, and attention that is linear in the pixels: the kernel is ReLU, so that
relu(q) (relu(k)^T v) is divided by relu(q) sum relu(k) instead of a softmax.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.zoo.scenes import CLASSES

SMALLEST = 1e-15  # added to the divisor


class ConvNorm(nn.Module):
    """A convolution without bias, and a batch norm; depthwise if it has as many groups as channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class MBConv(nn.Module):
    """Wider by a factor, a depthwise convolution, narrow again; around it a residual connection if the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, factor: int = 2) -> None:
        super().__init__()
        inner = factor * inputs
        self.expand, self.act1 = ConvNorm(inputs, inner), nn.Hardswish()
        self.depthwise, self.act2 = ConvNorm(inner, inner, 3, stride, depthwise=True), nn.Hardswish()
        self.project = ConvNorm(inner, outputs)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.act2(self.depthwise(self.act1(self.expand(x)))))
        return x + y if self.residual else y


class LinearAttention(nn.Module):
    """Attention with a ReLU kernel on queries, keys and values, and on those that a depthwise convolution gathered."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.gather = nn.Conv2d(3 * width, 3 * width, 5, padding=2, groups=3 * width, bias=False)
        self.project = ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        both = torch.cat([linear_attention(part, self.heads) for part in (qkv, self.gather(qkv))], 1)
        return x + self.project(both)


def linear_attention(qkv: Tensor, heads: int) -> Tensor:
    """From (B, 3 C, H, W) to (B, C, H, W)."""
    q, k, v = (part.unflatten(1, (heads, -1)).flatten(3) for part in qkv.chunk(3, 1))  # (B, heads, D, tokens)
    q, k = q.relu(), k.relu()
    attended = (v @ k.transpose(-1, -2)) @ q
    total = k.sum(-1, keepdim=True).transpose(-1, -2) @ q
    return (attended / (total + SMALLEST)).flatten(1, 2).unflatten(2, qkv.shape[2:])


class LinearAttentionSegmenter(nn.Module):
    """Images (B, 1, H, W) to logits (B, 11, H / 2, W / 2): a stem, three stages, a head that adds their features."""

    def __init__(self, widths: tuple[int, int, int] = (24, 32, 48), head: int = 48) -> None:
        super().__init__()
        first, second, third = widths
        self.stem, self.act = ConvNorm(1, first, 3, 2), nn.Hardswish()
        self.stages = nn.ModuleList(
            [
                nn.Sequential(MBConv(first, first)),
                nn.Sequential(MBConv(first, second, 2), LinearAttention(second, 2), MBConv(second, second)),
                nn.Sequential(MBConv(second, third, 2), LinearAttention(third, 3), MBConv(third, third)),
            ]
        )
        self.projections = nn.ModuleList(ConvNorm(width, head) for width in widths)
        self.fuse, self.classifier = MBConv(head, head), nn.Conv2d(head, CLASSES, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x, features = self.act(self.stem(pixel_values)), []
        for stage, projection in zip(self.stages, self.projections, strict=True):
            x = stage(x)
            features.append(projection(x))
        total = features[0]
        for small in features[1:]:
            total = total + functional.interpolate(small, total.shape[2:], mode="bilinear")
        return self.classifier(self.fuse(total))


def scene_segmenter(seed: int = 0) -> LinearAttentionSegmenter:
    """The network with random weights."""
    torch.manual_seed(seed)
    return LinearAttentionSegmenter()
