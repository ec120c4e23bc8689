"""The cycle formula of the units for rows: softmax, LayerNorm, RMSNorm.

A row goes through a memory once in each pass (softmax has two, the norms one), and leaves it when its last element has
come in. The unit holds parts of at most `rows` rows. Where no row has to wait for another to leave, rows follow one
another without a gap, and E elements in rows of at most M take

    E + passes * M + latency

cycles from the first element's being taken to the last result's, both included, where nothing stalls. That is so for
rows of one length, at least `RowSchedule.unlimited`; with shorter rows, or short ones behind long ones, it is a lower
bound, and `RowSchedule.cycles` counts exactly. A stalled cycle adds at most one.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RowSchedule:
    """How a unit works through rows.

    For each pass, `delays` are the cycles from a row's last element entering its memory to the first leaving it, and
    `ways` those from an element leaving it to its result; `rows` is how many rows may be inside: come in, and not begun
    to leave the last memory.
    """

    delays: tuple[int, ...]
    ways: tuple[int, ...]
    rows: int

    @property
    def passes(self) -> int:
        """How often a row goes through a memory."""
        return len(self.delays)

    @property
    def latency(self) -> int:
        """The cycles that do not depend on the rows: those from an element to its result are passes * M more."""
        return sum(self.delays) + sum(self.ways) - self.passes

    @property
    def unlimited(self) -> int | None:
        """The shortest row with which rows of one length follow without a gap; None where no length does."""
        spare = self.rows - self.passes  # a row is inside for passes * length + its latency, less the way out
        stay = self.latency - self.ways[-1] + 1
        return -(-stay // spare) if spare > 0 else None

    def cycles(self, lengths: Sequence[int]) -> int:
        """Cycles for rows of these lengths, exactly: from the first element's being taken to the last result's."""
        free = [0] * (self.passes + 1)  # the first cycle in which the input, then each memory, can begin a row
        begun: list[int] = []  # when each row began to leave the last memory
        for r, length in enumerate(lengths):
            enters = free[0] if r < self.rows else max(free[0], begun[r - self.rows] + 1)
            free[0] = enters + length
            for k, (delay, way) in enumerate(zip(self.delays, self.ways, strict=True)):
                leaves = max(free[k + 1], enters + length - 1 + delay)
                free[k + 1] = leaves + length
                enters = leaves + way
            begun.append(enters - self.ways[-1])
        return free[-1] + self.ways[-1]
