"""A transformer small enough to train while you wait: scikit-learn's 8x8 digits, GELU and softmax at named sites.

Trained in floating point, then quantised: weights to 8 bits per output channel, and every GELU and softmax site to
codes. A site takes integers, hands them to an integer table, and is where a forward hook sees the codes that the
hardware would see. Between the sites the network is still floating point: the inputs and sums of its linear layers and
its norms are no codes, so its activations are real ones at the tables, and it is no integer network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from sim.reference import InputError, LoweredTable, Normaliser, PwlTable
from sim.reference.arithmetic import code_range

PROBABILITY_SCALE = 7  # probabilities are codes 0..127 at 2**-7
TRAINING_IMAGES = 1437


class Site(nn.Module):
    """Integers in, integers out; an `nn.Module` so that a forward hook can see both."""

    def __init__(self, evaluate: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.evaluate = evaluate

    def forward(self, codes: Tensor) -> Tensor:
        return torch.from_numpy(self.evaluate(codes.numpy()))


class Gelu(nn.Module):
    """GELU; once `quantise` was called, through an 8-bit table."""

    def __init__(self) -> None:
        super().__init__()
        self.site: Site | None = None
        self.scale = self.output_scale = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.site is None:
            return functional.gelu(x)
        return self.site(to_codes(x, self.scale)) * 2.0**-self.output_scale

    def quantise(self, table: LoweredTable, output_scale: int) -> None:
        self.scale, self.output_scale = table.s, output_scale
        self.site = Site(table.output)


class Softmax(nn.Module):
    """Softmax over the last axis; once quantised, an EXP table, an integer row sum and the DIV normaliser."""

    def __init__(self) -> None:
        super().__init__()
        self.exp: Site | None = None
        self.div: Site | None = None
        self.scale = self.shift = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.exp is None or self.div is None:
            return functional.softmax(x, -1)
        q = torch.floor(x * 2.0**self.scale + 0.5).to(torch.int64)
        powers = self.exp(torch.clamp(q - q.amax(-1, keepdim=True), min=-128)).clamp(min=0)
        product = powers * self.div(powers.sum(-1, keepdim=True))
        return ((product + (1 << (self.shift - 1))) >> self.shift).clamp(max=127) * 2.0**-PROBABILITY_SCALE

    def quantise(self, exp: LoweredTable, exp_scale: int, div: Normaliser, div_scale: int) -> None:
        self.scale = exp.s
        self.shift = exp_scale + div_scale - PROBABILITY_SCALE
        self.exp = Site(exp.output)
        self.div = Site(lambda sums: div.output(sums, div_scale, 16))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.softmax, self.gelu = Softmax(), Gelu()
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
        self.position = nn.Parameter(torch.randn(16, width) * 0.1)
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


@dataclass(frozen=True)
class Tables:
    """The sites' fitted tables; `div` has a normaliser step. Raises `InputError` where one does not fit."""

    gelu: PwlTable
    exp: PwlTable
    div: PwlTable

    def __post_init__(self) -> None:
        for name in ("gelu", "exp", "div"):
            table = getattr(self, name)
            if table.function != name:
                raise InputError(f"{name} must be a table of {name}, not of {table.function!r}")
            if (table.in_bits, table.in_signed, table.out_bits) != (8, True, 8):
                raise InputError(f"{name} must take signed 8-bit codes and give 8 bits")


def to_codes(x: Tensor, scale: int) -> Tensor:
    """round half up of x * 2**scale, saturated to int8; int64."""
    low, high = code_range(8, True)
    return torch.floor(x.clamp(-1e6, 1e6) * 2.0**scale + 0.5).clamp(low, high).to(torch.int64)


@torch.no_grad()
def quantise_weights(model: Digits) -> None:
    """Every linear layer's weights to 8 bits per output channel, in place."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            step = module.weight.abs().amax(1, keepdim=True) / 127
            module.weight.copy_(torch.round(module.weight / step) * step)
