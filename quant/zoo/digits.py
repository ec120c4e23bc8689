"""A transformer small enough to train while you wait, for scikit-learn's 8x8 digits."""

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SIDE, PATCH = 8, 2  # pixels of an image's side and of a patch's
PATCHES = (SIDE // PATCH) ** 2
TRAINING_IMAGES = 1437


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax, self.gelu = nn.Softmax(-1), nn.GELU()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts
        attention = self.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]))
        x = x + self.project((attention @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Digits(nn.Module):
    """Images (batch, 8, 8) in 0..1 to ten logits: 16 patches of 2x2 pixels, two blocks, mean over the patches."""

    def __init__(self, width: int = 32, heads: int = 2, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.position = nn.Parameter(torch.randn(PATCHES, width) * 0.1)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.reshape(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        return self.head(self.norm(self.blocks(self.embed(patches) + self.position)).mean(1))


class Data(NamedTuple):
    """Images (n, 8, 8) float32 in 0..1 and labels (n,)."""

    images: Tensor
    labels: Tensor


def load_data(seed: int) -> tuple[Data, Data]:
    """The 1797 digits, shuffled and split into a training and a test part."""
    pixels, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(targets))
    images = torch.tensor(pixels[order].reshape(-1, 8, 8) / 16.0, dtype=torch.float32)
    labels = torch.tensor(targets[order], dtype=torch.int64)
    cut = TRAINING_IMAGES
    return Data(images[:cut], labels[:cut]), Data(images[cut:], labels[cut:])


def train(data: Data, seed: int, epochs: int = 25) -> Digits:
    """The trained network; the same seed gives the same network on the same machine and versions."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are so small that threads only wait for each other, seven times slower
    try:
        return _train(data, seed, epochs)
    finally:
        torch.set_num_threads(threads)


def _train(data: Data, seed: int, epochs: int) -> Digits:
    torch.manual_seed(seed)
    model = Digits()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    steps = epochs * (len(data.labels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels)).split(64)[: len(data.labels) // 64]:
            loss = functional.cross_entropy(model(data.images[batch]), data.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: Digits, data: Data) -> float:
    """The share of right answers."""
    return float((model(data.images).argmax(-1) == data.labels).float().mean())
