"""Clock cycles of the weight-stationary array, in closed form: load, tiles, drain, partial tiles, two passes.

An R x C array holds R inputs of C output channels. The work is cut into tiles: channels by C, inputs by R within each
group (a tile never straddles a group border), tokens into blocks of `depth`, the accumulators' number. A tile of s
tokens takes

    period(s) = max(passes * s, R, HAZARD)

cycles, since the next tile's R rows of weights are shifted in meanwhile and an accumulator that was written cannot be
read in the cycle after. A job then takes, from the cycle in which it is accepted to that of its last result, both
included,

    1 + R + (sum of period over all tiles but the last) + passes * s_last + latency
    latency = R + C + two_pass + zero_points + group_multipliers + stages

One cycle accepts the job and R load the first weights; later weights cost nothing. The latency is the way of the last
beat through the grid and the units below it. A stalled cycle adds at most one cycle, since a result that waits in the
output's pipeline need not hold up the array. A job that follows another one is accepted

    1 + R + (sum of period over all tiles)

cycles after it. If operands come from memories, the first job takes one cycle more, since its first words must be
read. The words of the jobs behind it are read meanwhile, so their results are as far apart as over streams.

It has the shape of SCALE-Sim's weight-stationary formula, (2R + C + T - 2) * tiles (Samajdar et al., ISPASS 2020,
equation 4, with T the tokens): there loading R rows, streaming T tokens and draining R + C - 2 follow one another in
every tile; here they overlap, so that only the first tile loads and only the last one drains. For a single tile the
two differ by the registers that the analytical model does not have: 3 + two_pass + zero_points + group_multipliers +
stages.
"""

from dataclasses import dataclass

from sim.common.errors import require_range
from sim.reference.gemm import group_borders

LARGEST = 1 << 62  # of any number here
HAZARD = 2  # cycles between two uses of one accumulator


@dataclass(frozen=True)
class Schedule:
    """The cycles of an array's jobs.

    A job has `tokens` M, `inputs` K and `outputs` N, and takes 1 or 2 `passes`.

    Parameters
    ----------
    rows, columns : int
        The array's R inputs and C outputs.
    depth : int
        Accumulators of a column: the tokens of a block.
    group : int or None
        Inputs of a group; None for one group per channel.
    latency : int
        Cycles from the beat that completes a token's inputs to its result.

    Raises
    ------
    InputError
        A parameter is not positive.
    """

    rows: int
    columns: int
    depth: int
    group: int | None
    latency: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "depth", "latency"):
            require_range(name, getattr(self, name), 1, LARGEST)
        if self.group is not None:
            require_range("group", self.group, 1, LARGEST)

    def input_tiles(self, inputs: int) -> list[tuple[int, int]]:
        """(first, end) of the inputs of each tile, in order; none straddles a group border."""
        return [
            (first, min(first + self.rows, end))
            for start, end in group_borders(inputs, self.group)
            for first in range(start, end, self.rows)
        ]

    def output_tiles(self, outputs: int) -> int:
        """How many tiles the output channels take."""
        return -(-outputs // self.columns)

    def blocks(self, tokens: int) -> list[int]:
        """The tokens of each block."""
        return [min(self.depth, tokens - first) for first in range(0, tokens, self.depth)]

    def _cut(self, tokens: int) -> tuple[int, int]:
        """(number of blocks before the last one, tokens of the last one)."""
        return (tokens - 1) // self.depth, (tokens - 1) % self.depth + 1

    def tiles(self, tokens: int, inputs: int, outputs: int) -> int:
        """The number of tiles of weights that are loaded; each block of tokens loads all of them again."""
        return self.output_tiles(outputs) * len(self.input_tiles(inputs)) * -(-tokens // self.depth)

    def period(self, tokens: int, passes: int = 1) -> int:
        """Cycles from a tile's first beat to the next tile's."""
        return max(passes * tokens, self.rows, HAZARD)

    def interval(self, tokens: int, inputs: int, outputs: int, passes: int = 1) -> int:
        """Cycles between the acceptance of a job and of the next one, if that one is waiting and nothing stalls."""
        for name, value in (("tokens", tokens), ("inputs", inputs), ("outputs", outputs)):
            require_range(name, value, 1, LARGEST)
        require_range("passes", passes, 1, 2)
        whole, last = self._cut(tokens)
        tiles = self.output_tiles(outputs) * len(self.input_tiles(inputs))
        return 1 + self.rows + tiles * (whole * self.period(self.depth, passes) + self.period(last, passes))

    def cycles(self, tokens: int, inputs: int, outputs: int, passes: int = 1) -> int:
        """Cycles of a job from its acceptance to its last result, both included, if nothing stalls."""
        interval = self.interval(tokens, inputs, outputs, passes)
        block = self._cut(tokens)[1]
        last = passes * block - self.period(block, passes)  # the last tile need not wait for a next one
        return interval + last + self.latency

    def utilisation(self, tokens: int, inputs: int, outputs: int, passes: int = 1) -> float:
        """The share of the multipliers' cycles that do useful work: passes * M * K * N / (R * C * cycles).

        Both passes of an activation count as useful: with two passes, a share of 1 means one full product for each
        multiplier in two cycles.
        """
        work = passes * tokens * inputs * outputs
        return work / (self.rows * self.columns * self.cycles(tokens, inputs, outputs, passes))
