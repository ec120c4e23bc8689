"""Observations of calibration: ranges by observers, and samples for scales that are chosen by their error."""

from collections.abc import Callable

import torch
from torch import Tensor

from quant.primitives.observers import MinMaxObserver, Observer
from sim.reference import InputError

SAMPLE = 1 << 16  # values kept of each batch
SAMPLE_ROWS = 1 << 9  # rows kept of each batch, for channels with a scale each
Key = tuple[str | int, ...]


class Observations:
    """Observers and samples by key; `mask` is true for the tokens of the present batch that count."""

    def __init__(self) -> None:
        self.observers: dict[Key, Observer] = {}
        self.samples: dict[str, list[Tensor]] = {}
        self.widths: dict[Key, int] = {}
        self.mask: Tensor | None = None
        self._scales: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)

    def observe(self, key: Key, values: Tensor, name: str, make: Callable[[], Observer] | None = None) -> None:
        """Show values to the observer of `key`: the one that `make` makes, else smallest and largest value."""
        if key not in self.observers:
            self.observers[key] = MinMaxObserver(name) if make is None else make()
        self.observers[key].update(values, self.mask)

    def note_width(self, key: Key, width: int) -> None:
        """Note the channels of a tensor, or the length of its rows; the largest is kept."""
        self.widths[key] = max(width, self.widths.get(key, 0))

    def width(self, key: Key) -> int:
        """The largest number that was noted."""
        return self.widths[key]

    def largest(self, key: Key) -> float:
        """The largest magnitude to cover; 1 if every value was 0."""
        low, high = self.observers[key].range()
        return max(-low, high) or 1.0

    def keep(self, name: str, values: Tensor, most: int = SAMPLE) -> None:
        """Keep up to `most` of the values, along the first axis. Raises InputError if one is NaN or infinite."""
        if not torch.isfinite(values).all():
            raise InputError(f"{name}: calibration values are NaN or infinite")
        if len(values) > most:
            values = values[torch.randint(len(values), (most,), generator=self._generator)]
        if len(values):
            self.samples.setdefault(name, []).append(values)
            self._scales.pop(name, None)

    def scales(self, name: str, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """What `choose` makes of the sample, once: it is the same for every set of tables."""
        if name not in self._scales:
            self._scales[name] = choose(self.sample(name))
        return self._scales[name]

    def sample(self, name: str) -> Tensor:
        """The values that were kept of all batches. Raises InputError if there are none."""
        if name not in self.samples:
            raise InputError(f"{name}: calibration never reached it")
        return torch.cat(self.samples[name])
