"""Small weights and models that several tests use."""

import itertools

import torch

from quant.plan import Settings
from quant.quantisers import QuantisedWeight, quantise_weight

SETTINGS = [
    Settings(weight_bits=bits, weight_symmetric=symmetric, weight_granularity=granularity, group_size=size)
    for bits, symmetric, (granularity, size) in itertools.product(
        (2, 3, 4, 8), (True, False), (("channel", None), ("group", 16), ("tensor", None))
    )
]


def quantised(settings: Settings, seed: int = 0, shape: tuple[int, int] = (32, 64)) -> QuantisedWeight:
    """A quantised matrix of normal weights whose channels differ in size."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-2, 0, shape[0])[:, None]
    return quantise_weight(weight, settings)


def same(a: QuantisedWeight, b: QuantisedWeight) -> bool:
    """Whether two weights are the same in every field."""
    tensors = ((w.codes, w.zero_point, w.group_multiplier, w.scale.multiplier, w.scale.shift) for w in (a, b))
    scalars = [(w.bits, w.signed, w.group_size) for w in (a, b)]
    return scalars[0] == scalars[1] and all(
        x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(*tensors, strict=True)
    )
