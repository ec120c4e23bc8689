"""A layer and its activations as the array's operands: memory images, and the order in which they are read.

The images, one word a beat, lane 0 in the lowest bits (addresses count words; T_k and T_n are the input and the output
tiles, M the tokens, G the groups):

    w   T_n * T_k * R words of C weights: ((n * T_k + k) * R + j), row R-1-j of input tile k of output tile n
    a   T_k * M words of R activations:   k * M + m, the inputs of tile k of token m
    g   T_n * G words of C (m_g, z_g):    n * G + group
    c   T_n words of C (bias, m_c, k_c):  n

Weights in a tile's rows without an input are the zero point; all other values beyond K or N are 0.

Results come in the order n * M + m. They are the image `a` of a following layer, if that layer's array has as many rows
as this one has columns, its activations are as wide as these codes, and its groups, if any, are multiples of R.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rtl.array.config import ArrayConfig
from sim.common.errors import require_range
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.gemm import GroupedLinear, group_borders


class Job(NamedTuple):
    """A job's values; `two_pass` is in the payload only if the array has it."""

    tokens: int
    input_tiles: int
    output_tiles: int
    two_pass: int

    def payload(self, config: ArrayConfig) -> dict[str, int]:
        """The fields of `config.job_layout`."""
        return {name: getattr(self, name) for name, _ in config.job_layout}


def job(config: ArrayConfig, layer: GroupedLinear, tokens: int) -> Job:
    """The job that puts `tokens` tokens through `layer`. Raises `InputError` if the array cannot do it exactly."""
    check_fit(config, layer)
    made = Job(
        tokens,
        len(config.schedule.input_tiles(layer.inputs)),
        config.schedule.output_tiles(layer.outputs),
        int(config.two_pass and layer.activation_bits > config.pass_bits),
    )
    for name in Job._fields[:3]:
        require_range(name, getattr(made, name), 1, (1 << config.count_bits) - 1)
    return made


def check_fit(config: ArrayConfig, layer: GroupedLinear) -> None:
    """Raise `InputError` if the array would not compute `layer` exactly."""
    for name in ("weight_bits", "weight_signed", "group", "out_bits", "out_signed"):
        if getattr(layer, name) != getattr(config, name):
            raise InputError(
                f"{name} of the layer must be the array's {getattr(config, name)}, not {getattr(layer, name)}"
            )
    if layer.activation_bits > config.activation_bits:
        raise InputError(
            f"activation_bits of the layer must be at most {config.activation_bits}, not {layer.activation_bits}"
        )
    require_range("inputs of the layer", layer.inputs, 1, config.max_inputs)
    require_range("bias of the layer", int(min(layer.bias)), *code_range(config.bias_width, True))
    require_range("bias of the layer", int(max(layer.bias)), *code_range(config.bias_width, True))
    if layer.group_multipliers is not None:
        top = (1 << config.group_multiplier_bits) - 1 if config.group_multiplier_bits else 1
        low = 0 if config.group_multiplier_bits else 1
        require_range("group_multipliers of the layer", int(layer.group_multipliers.min()), low, top)
        require_range("group_multipliers of the layer", int(layer.group_multipliers.max()), low, top)


class Operands(NamedTuple):
    """The images as packed words, (words, bytes) uint8, lowest byte first; `g` is None if the array has no stream g."""

    w: np.ndarray
    a: np.ndarray
    g: np.ndarray | None
    c: np.ndarray


def images(config: ArrayConfig, layer: GroupedLinear, activations: np.ndarray) -> Operands:
    """The memory images of a layer and its activations.

    Parameters
    ----------
    config : ArrayConfig
        The array.
    layer : GroupedLinear
        K inputs, N outputs.
    activations : ndarray, (M, K)
        Codes of the layer.

    Raises
    ------
    InputError
        If the array would not compute the layer exactly, or activations are not codes of the layer.
    """
    check_fit(config, layer)
    activations = layer.check_activations(activations)
    columns = config.schedule.output_tiles(layer.outputs) * config.columns
    tiles = config.schedule.input_tiles(layer.inputs)
    n = layer.outputs
    zero_points = np.zeros((n, len(group_borders(layer.inputs, layer.group))), dtype=np.int64)
    if layer.zero_points is not None:
        zero_points = layer.zero_points
    weights = np.zeros((columns, len(tiles), config.rows), dtype=np.int64)
    inputs = np.zeros((len(activations), len(tiles), config.rows), dtype=np.int64)
    for k, (first, end) in enumerate(tiles):
        group = 0 if layer.group is None else first // layer.group
        weights[:n, k] = zero_points[:, group, None]  # for rows of the tile without an input
        weights[:n, k, : end - first] = layer.weights[:, first:end]
        inputs[:, k, : end - first] = activations[:, first:end]
    order = weights.reshape(-1, config.columns, len(tiles), config.rows)[..., ::-1].transpose(0, 2, 3, 1)
    group_fields = []
    if config.group_multiplier_bits:
        ones = np.ones_like(zero_points)
        multipliers = ones if layer.group_multipliers is None else layer.group_multipliers
        group_fields.append((_by_column(config, multipliers), config.group_multiplier_bits))
    if not config.weight_signed:
        group_fields.append((_by_column(config, zero_points), config.weight_bits))
    requant = config.requant
    channel_fields = [
        (_by_column(config, layer.bias[:, None]), config.bias_width),
        (_by_column(config, layer.multiplier[:, None]), requant.multiplier_bits),
        (_by_column(config, layer.shift[:, None]), requant.max_shift.bit_length()),
    ]
    made = Operands(
        w=pack([(order.reshape(-1, config.columns), config.weight_bits)]),
        a=pack([(inputs.transpose(1, 0, 2).reshape(-1, config.rows), config.activation_bits)]),
        g=pack(group_fields) if group_fields else None,
        c=pack(channel_fields),
    )
    longest = max(len(words) for words in made if words is not None)
    if longest > 1 << config.address_bits:
        needed = (longest - 1).bit_length()
        raise InputError(f"address_bits must be at least {needed} for {longest} words, not {config.address_bits}")
    return made


def _by_column(config: ArrayConfig, values: np.ndarray) -> np.ndarray:
    """Values (N, G) as (T_n * G, C), zeros in the columns beyond N."""
    padded = np.zeros((config.schedule.output_tiles(len(values)) * config.columns, values.shape[1]), dtype=np.int64)
    padded[: len(values)] = values
    return padded.reshape(-1, config.columns, values.shape[1]).transpose(0, 2, 1).reshape(-1, config.columns)


def reading_order(config: ArrayConfig, layer: GroupedLinear, tokens: int) -> dict[str, np.ndarray]:
    """For each stream, the addresses of its image in the order in which the array takes the beats."""
    schedule = config.schedule
    input_tiles, output_tiles = len(schedule.input_tiles(layer.inputs)), schedule.output_tiles(layer.outputs)
    groups = len(group_borders(layer.inputs, layer.group))
    blocks = schedule.blocks(tokens)

    def replayed(words: int) -> np.ndarray:
        """`words` words for each output tile, all of them again for each block."""
        return np.tile(np.arange(output_tiles * words).reshape(output_tiles, 1, words), (1, len(blocks), 1)).ravel()

    starts = np.cumsum([0, *blocks])
    one_tile = [
        k * tokens + np.arange(s, s + b) for s, b in zip(starts, blocks, strict=False) for k in range(input_tiles)
    ]
    return {
        "w": replayed(input_tiles * config.rows),
        "a": np.tile(np.concatenate(one_tile), output_tiles),
        "g": replayed(groups),
        "c": replayed(1),
    }


def pack(fields: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Pack fields into words. A field is (values (words, columns), bits); a column's first field is lowest in it."""
    words = len(fields[0][0])
    bits = [(values[..., None] >> np.arange(width)) & 1 for values, width in fields]
    return np.packbits(np.concatenate(bits, axis=-1).astype(np.uint8).reshape(words, -1), axis=1, bitorder="little")


def unpack(words: np.ndarray, lanes: int, bits: int, signed: bool) -> np.ndarray:
    """The codes (words, `lanes`) in packed words; the inverse of `pack` for a single field."""
    spread = np.unpackbits(words, axis=1, bitorder="little")[:, : lanes * bits].reshape(len(words), lanes, bits)
    codes = (spread.astype(np.int64) << np.arange(bits)).sum(-1)
    return codes - (codes >> (bits - 1) << bits) if signed else codes


def results(config: ArrayConfig, outputs: np.ndarray, beyond: int) -> np.ndarray:
    """The outputs (M, N) as the array gives them, (T_n * M, C).

    The columns beyond N hold `beyond`, the code of A = 0: the zero point, or the table's output for it.
    """
    tokens, n = outputs.shape
    padded = np.full((tokens, config.schedule.output_tiles(n) * config.columns), beyond, dtype=np.int64)
    padded[:, :n] = outputs
    return padded.reshape(tokens, -1, config.columns).transpose(1, 0, 2).reshape(-1, config.columns)
