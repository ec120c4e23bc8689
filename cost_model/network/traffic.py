"""The bits that an integer network moves, site by site, and the bits that wait in memory at once.

The machine runs one site after the other. A site reads its inputs from the buffer and writes its outputs there.

- The array reads a product's activations once for each tile of output channels. 16-bit inputs with a scale for each
  token are read once, their codes written, and those read by the array.
- A weight is read from the weights' memory once for each block of tokens (`Machine.depth`), and so is all that is
  stored beside it. Keys and values, which wait in the array as weights, come from the buffer.
- An accumulator is read and written once for each tile of inputs.
- Other stored integers (tables, gains, biases) are read once, of an embedding the rows that are looked up.

Steps that only move values (`bits` null) are taken for other addresses of the same bits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cost_model.network.machine import Machine
from cost_model.network.shapes import size
from cost_model.network.sites import REST, Gemm, Site, Uncounted
from quant.formats.packed_index import PackedIndex
from sim.reference import InputError


@dataclass(frozen=True)
class Traffic:
    """Bits that a site moves: `read` and `written` in the buffer, `weights` from the weights' memory, and
    `accumulated`, read from the accumulators' memory and written to it."""

    site: str
    read: int = 0
    written: int = 0
    weights: int = 0
    accumulated: int = 0


def traffic(
    index: PackedIndex, sites: Sequence[Site], machine: Machine, lengths: Mapping[str, int]
) -> tuple[list[Traffic], int]:
    """What each operator of an integer network moves, and the largest number of bits that wait in the buffer at once.

    Parameters
    ----------
    index : PackedIndex
        A network from `python -m sim convert`.
    sites : sequence of Site
        Its sites, for the same lengths.
    machine : Machine
    lengths : mapping
        "tokens" and "batch", and what else the network's sizes name.

    Raises
    ------
    InputError
        The packed model is no integer network.
    """
    details = index.content["details"]
    if "operators" not in details:
        raise InputError("must be an integer network from python -m sim convert")
    rows, known = details["operators"], {site.name: site for site in sites}
    found = [_operator(index, row, known, machine, lengths) for row in rows]
    rest = known[REST].bytes.get("integers", 0) if REST in known else 0
    every = [*found, Traffic(REST, weights=8 * rest)]
    return [each for each in every if each != Traffic(each.site)], _peak(rows, lengths)


def _operator(
    index: PackedIndex, row: Mapping[str, Any], known: Mapping[str, Site], machine: Machine, lengths: Mapping[str, int]
) -> Traffic:
    reads, writes = _moved(row["inputs"], lengths), _moved(row["outputs"], lengths)
    named = (known.get(name) for name in row.get("names", (row["name"],)))
    products = [site for site in named if isinstance(site, Gemm)]
    if products:
        return _products(row, products, machine, reads, writes)
    site = known.get(row["name"])
    stored = 0 if site is None else 8 * sum(site.bytes.values())
    if isinstance(site, Uncounted) and row["kind"] == "embedding":
        tables = [index.tensors[f"{row['key']}.{k}"] for k in range(len(row["names"]))]
        stored = sum(8 * len(t.data) // math.prod(t.shape) for t in tables) * site.elements
    return Traffic(row["name"], reads, writes, stored)


def _products(row: Mapping[str, Any], sites: Sequence[Gemm], machine: Machine, reads: int, writes: int) -> Traffic:
    """The traffic of products of one input: linear layers, or the products of two activations."""
    first = sites[0]
    codes = first.jobs * first.tokens * first.inputs * (first.activation_bits or 8)
    held = row["kind"] != "linear"  # keys or values are the weights
    requantised = not held and row["inputs"][0]["bits"] not in (None, first.activation_bits)
    weights = read = accumulated = 0
    for site in sites:
        tiles = -(-site.outputs // machine.columns)
        blocks = -(-site.tokens // machine.depth)
        read += tiles * codes
        if held:
            read += site.jobs * blocks * site.inputs * site.outputs * site.weight_bits
        weights += 8 * sum(site.bytes.values()) * blocks
        if site.activation_bits is not None:
            config = machine.array_of(site)
            steps = len(config.schedule.input_tiles(site.inputs))
            accumulated += site.jobs * site.tokens * site.outputs * steps * config.accumulator_bits
    if requantised:
        read, writes = read + reads, writes + codes
    return Traffic(row["name"], read, writes, weights, accumulated)


def _moved(ports: Sequence[Mapping[str, Any]], lengths: Mapping[str, int]) -> int:
    """The bits of all tensors of known width."""
    return sum(_bits(port, lengths) for port in ports if port["bits"] is not None)


def _bits(port: Mapping[str, Any], lengths: Mapping[str, int]) -> int:
    return math.prod(size(text, lengths) for text in port["shape"]) * port["bits"]


def _peak(rows: Sequence[Mapping[str, Any]], lengths: Mapping[str, int]) -> int:
    """The largest sum over the tensors that an operator reads or writes, or that a later one reads.

    An output of a step that only moves values is its first input under another name.
    """
    owner: dict[str, str] = {}
    bits: dict[str, int] = {}
    born: dict[str, int] = {}
    last: dict[str, int] = {}
    for k, row in enumerate(rows):
        for port in row["inputs"]:
            name = owner.setdefault(port["tensor"], port["tensor"])
            last[name] = k
            if port["bits"] is not None and name not in bits:  # an input of the network
                bits[name], born[name] = _bits(port, lengths), 0
        for port in row["outputs"]:
            name = port["tensor"]
            if port["bits"] is None and row["inputs"]:
                owner[name] = owner[row["inputs"][0]["tensor"]]
            elif port["bits"] is not None:
                owner[name], bits[name], born[name], last[name] = name, _bits(port, lengths), k, k
    return max((sum(bits[name] for name in bits if born[name] <= k <= last[name]) for k in range(len(rows))), default=0)
