"""Counters over the tiles of a job: output tiles, in each the blocks of tokens, in each the input tiles.

The controller and each fetcher have their own counters, so that a fetcher may run ahead.
"""

from typing import Any, NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value

from rtl.array.config import ArrayConfig


class Tile(NamedTuple):
    """The current tile: `size`, the tokens of its block, and bits for the first and the last input tile, the first tile
    of a group, the output tile's final block, and the last tile of the job.
    """

    size: Value
    first: Value
    last: Value
    begins_group: Value
    final_block: Value
    last_of_job: Value


def walk(m: Module, config: ArrayConfig, job: Any, idle: Value, offered: Any, advance: Value) -> Tile:
    """Add the counters to `m`. While `idle` they are at the first tile of the job `offered`; `advance` moves them to
    the next tile of `job`.
    """
    tokens = Signal(config.count_bits)  # of this output tile, from this block on
    input_tile, output_tile = Signal(config.count_bits), Signal(config.count_bits)
    tiles_per_group = config.tiles_per_group or 1
    tile_of_group = Signal(range(tiles_per_group))

    first, last = input_tile == 0, input_tile == job.input_tiles - 1
    final_block = tokens <= config.depth
    with m.If(idle):
        m.d.sync += [tokens.eq(offered.tokens), input_tile.eq(0), output_tile.eq(0), tile_of_group.eq(0)]
    with m.Elif(advance):
        last_of_group = last | (tile_of_group == tiles_per_group - 1)
        m.d.sync += [
            input_tile.eq(Mux(last, 0, input_tile + 1)),
            tile_of_group.eq(Mux(last_of_group, 0, tile_of_group + 1)),
        ]
        with m.If(last):
            m.d.sync += [tokens.eq(Mux(final_block, job.tokens, tokens - config.depth))]
            m.d.sync += output_tile.eq(output_tile + final_block)
    return Tile(
        size=Mux(final_block, tokens, config.depth),
        first=first,
        last=last,
        begins_group=first if config.tiles_per_group is None else tile_of_group == 0,
        final_block=final_block,
        last_of_job=last & final_block & (output_tile == job.output_tiles - 1),
    )
