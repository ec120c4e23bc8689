"""Places in the engine's memory: the lowest free range that is large enough."""

from collections.abc import Sequence

from sim.reference import InputError


class Allocator:
    """Ranges of `words`; `most` is how many words were needed so far."""

    def __init__(self, words: int) -> None:
        self.words, self.most = words, 0
        self._taken: dict[int, int] = {}  # base to length

    def allocate(self, length: int) -> int:
        """The base of a new range. Raises InputError if the memory has no room for it."""
        base = 0
        for other, size in sorted(self._taken.items()):
            if other - base >= length:
                break
            base = other + size
        if base + length > self.words:
            raise InputError(f"words of the engine must be at least {base + length} for this program, not {self.words}")
        self._taken[base] = length
        self.most = max(self.most, base + length)
        return base

    def free(self, base: int) -> None:
        """Give a range back."""
        del self._taken[base]

    def split(self, base: int, lengths: Sequence[int]) -> list[int]:
        """Make ranges of a range; returns their bases."""
        assert sum(lengths) == self._taken.pop(base)
        made = [base + sum(lengths[:k]) for k in range(len(lengths))]
        self._taken |= zip(made, lengths, strict=True)
        return made
