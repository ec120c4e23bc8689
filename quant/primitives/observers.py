"""Observers watch activations over batches and give the quantiser that serves them."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from quant.plan import Settings
from quant.primitives.quantisers import ActivationQuantiser, quantise
from sim.reference import InputError

BINS = 4096


class Observer:
    """Smallest and largest value, and how many were seen; `name` is the module that errors name."""

    def __init__(self, name: str, bits: int = 8, symmetric: bool = True) -> None:
        self.name, self.bits, self.symmetric = name, bits, symmetric
        self.low, self.high, self.seen = torch.inf, -torch.inf, 0

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Take a batch in. `mask` is true where a token counts; it is used where it fits the leading axes of `values`.

        Raises `InputError` if a value is NaN or infinite.
        """
        values = values.detach()
        if mask is not None and values.shape[: mask.ndim] == mask.shape:
            values = values[mask.to(device=values.device, dtype=torch.bool)]
        if not values.numel():
            return
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputError(f"{self.name}: {bad} of {values.numel()} calibration values are NaN or infinite")
        values = values.flatten().double()
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.seen += values.numel()
        self._take(values)

    def quantiser(self) -> ActivationQuantiser:
        """The quantiser for what was seen. Raises `InputError` if nothing was."""
        self.require_seen()
        return ActivationQuantiser.covering(*self.range(), self.bits, self.symmetric, self.name)

    def range(self) -> tuple[float, float]:
        """The values to cover, low and high."""
        return self.low, self.high

    def require_seen(self) -> None:
        """Raise `InputError` if no value was seen."""
        if not self.seen:
            raise InputError(
                f"{self.name}: calibration never reached it; more data may, and a scale for each token needs none"
            )

    def _take(self, values: Tensor) -> None:
        """What a subclass keeps of a batch: finite values, flat, float64."""


class Sees(Protocol):
    """What `observe` can show values to: an observer, or what stands before one."""

    def update(self, values: Tensor, mask: Tensor | None = None) -> None: ...


class MinMaxObserver(Observer):
    """Covers every value."""


class HistogramObserver(Observer):
    """Counts in `BINS` bins over -R..R, R a power of two that doubles when it must: merging bins is exact."""

    def __init__(self, name: str, bits: int = 8, symmetric: bool = True) -> None:
        super().__init__(name, bits, symmetric)
        self.exponent: int | None = None  # R = 2**exponent
        self.counts = torch.zeros(BINS, dtype=torch.int64)

    def _take(self, values: Tensor) -> None:
        largest = float(values.abs().max())
        if largest == 0 and self.exponent is None:
            self.counts[BINS // 2] += values.numel()
            return
        exponent = int(torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent) if largest else self.exponent
        assert exponent is not None
        if self.exponent is not None and exponent > self.exponent:
            self._widen(exponent - self.exponent)
        self.exponent = exponent if self.exponent is None else max(exponent, self.exponent)
        # largest < 2**exponent, so that no index leaves 0..BINS-1
        index = torch.floor(values * 2.0**-self.exponent * (BINS // 2)).long() + BINS // 2
        self.counts += torch.bincount(index.clamp(0, BINS - 1), minlength=BINS).cpu()

    def _widen(self, doublings: int) -> None:
        merge = min(1 << min(doublings, 32), BINS // 2)
        halves = self.counts.reshape(2, -1, merge).sum(-1)
        counts = torch.zeros_like(self.counts)
        width = halves.shape[1]
        counts[BINS // 2 - width : BINS // 2], counts[BINS // 2 : BINS // 2 + width] = halves[0], halves[1]
        self.counts = counts

    def centres(self) -> Tensor:
        """The middle of each bin, float64."""
        return (torch.arange(BINS, dtype=torch.float64) - BINS // 2 + 0.5) * self.width

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0 ** (self.exponent or 0) / (BINS // 2)


class PercentileObserver(HistogramObserver):
    """Covers the given share of the magnitudes, in percent, to the width of a bin; what lies beyond saturates."""

    def __init__(self, name: str, bits: int = 8, symmetric: bool = True, percentile: float = 99.99) -> None:
        super().__init__(name, bits, symmetric)
        self.percentile = percentile

    def range(self) -> tuple[float, float]:
        magnitudes = self.counts[BINS // 2 :] + self.counts[: BINS // 2].flip(0)
        needed = self.percentile / 100 * self.seen
        inside = int(torch.searchsorted(magnitudes.cumsum(0).double(), torch.tensor(needed, dtype=torch.float64)))
        limit = (min(inside, BINS // 2 - 1) + 1) * self.width
        return max(self.low, -limit), min(self.high, limit)


class MseObserver(HistogramObserver):
    """Of 100 shares of the range takes the one with the least squared quantisation error over the histogram."""

    def range(self) -> tuple[float, float]:
        centres, counts = self.centres(), self.counts.double()
        best, least = (self.low, self.high), torch.inf
        for percent in range(100, 0, -1):
            low, high = min(self.low, 0.0) * percent / 100, max(self.high, 0.0) * percent / 100
            trial = ActivationQuantiser.covering(low, high, self.bits, self.symmetric, self.name)
            scale, zero = trial.parameters(centres)
            error = ((quantise(centres, scale, zero, self.bits, self.symmetric) - zero) * scale - centres).square()
            inside = (centres >= low) & (centres <= high)
            if float(scale) < self.width:  # finer than the bins: rounding errors are uniform
                error = torch.where(inside, scale.square() / 12, error)
            total = float((error * counts).sum())
            if total < least:
                best, least = (low, high), total
        return best


class ExponentObserver(Observer):
    """Finds the scale exponent s, codes at 2**-s, with the least squared error over all values seen, exactly.

    `errors[s]` is the sum of the squared errors, float64. Of equals the smallest exponent wins.
    """

    def __init__(
        self, name: str, bits: int = 8, symmetric: bool = True, exponents: Iterable[int] | None = None
    ) -> None:
        super().__init__(name, bits, symmetric)
        self.errors = dict.fromkeys(range(bits) if exponents is None else exponents, 0.0)

    def _take(self, values: Tensor) -> None:
        for exponent in self.errors:
            scale = values.new_tensor(2.0**-exponent)
            error = quantise(values, scale, 0, self.bits, self.symmetric) * scale - values
            self.errors[exponent] += float(error.square().sum())

    def best(self) -> int:
        """The exponent. Raises `InputError` if nothing was seen."""
        self.require_seen()
        return min(self.errors, key=lambda exponent: (self.errors[exponent], exponent))


def observer_for(name: str, settings: Settings) -> Observer:
    """The observer that `settings` ask for, for the inputs of module `name`."""
    bits, symmetric = settings.activation_bits or 8, settings.activation_symmetric
    if settings.activation_observer == "percentile":
        return PercentileObserver(name, bits, symmetric, settings.percentile)
    return (MseObserver if settings.activation_observer == "mse" else MinMaxObserver)(name, bits, symmetric)


def observe(
    model: nn.Module,
    observers: Mapping[str, Sees],
    data: Iterable[Mapping[str, Any]],
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Run `data` through `model` and show each observer the first input of the module of its name.

    Padding, as the batch's own mask has it, is not shown. The model is in evaluation mode meanwhile; `progress` is
    called after each batch.

    Raises
    ------
    InputError
        If the model does not take the arguments, or every token is padding.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    mask: Tensor | None = None
    shown, hidden = 0, 0  # batches, and those that are nothing but padding

    def watch(observer: Sees) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> None:
            observer.update(arguments[0] if arguments else next(iter(keywords.values())), mask)

        return hook

    with contextlib.ExitStack() as stack, evaluating(model), torch.no_grad():
        for name, observer in observers.items():
            module = model.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(watch(observer), with_kwargs=True).remove)
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                stack.callback(module.register_forward_pre_hook(_ids_checked(name), with_kwargs=True).remove)
        for batch in data:
            batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            mask = token_mask(batch)
            _require_arguments(model, batch)
            if mask is not None and not bool(mask.any()):  # shows nothing, and attention over nothing is NaN
                hidden += 1
                progress()
                continue
            shown += 1
            try:
                model(**batch)
            except InputError:
                raise
            except ValueError as error:  # arguments that the model itself refuses
                line = " ".join(str(error).split())[:200]
                both = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
                hint = "; its decoder needs decoder_input_ids" if both and "decoder_input_ids" not in batch else ""
                raise InputError(f"data: {type(model).__name__}: {line}{hint}") from None
            progress()
    if hidden and not shown:
        raise InputError("data: every token is padding")


def _ids_checked(name: str) -> Callable[..., None]:
    """A hook for an embedding; raises `InputError` for integers that are not indices of its table."""

    def hook(module: nn.Embedding, arguments: tuple, keywords: dict[str, Any]) -> None:
        ids = arguments[0] if arguments else next(iter(keywords.values()))
        if ids.dtype not in (torch.int32, torch.int64):
            raise InputError(f"data: {name} takes integers, not {ids.dtype}")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < module.num_embeddings:
            raise InputError(
                f"data: {name} takes 0..{module.num_embeddings - 1}, not {int(ids.min())}..{int(ids.max())}"
            )

    return hook


def _require_arguments(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Raise `InputError` unless the batch's keys are arguments that the model takes."""
    signature = inspect.signature(model.forward)
    try:
        signature.bind(**batch)
    except TypeError as error:
        takes = ", ".join(signature.parameters)
        raise InputError(f"data: {error}; {type(model).__name__} takes {takes}") from None


def token_mask(batch: Mapping[str, Any]) -> Tensor | None:
    """True where a token counts: `attention_mask` (1 is kept) or PyTorch's key padding masks (True is padding).

    An `attention_mask` of shape (batch, heads, queries, keys), boolean or added to the scores, keeps a key that any
    query sees.
    """
    for key in ("attention_mask", "src_key_padding_mask", "key_padding_mask"):
        mask = batch.get(key)
        if isinstance(mask, Tensor) and mask.ndim == 2:
            return mask != 0 if key == "attention_mask" else ~mask.bool()
        if isinstance(mask, Tensor) and mask.ndim == 4 and key == "attention_mask":
            kept = mask > -1e3 if mask.is_floating_point() and bool((mask < 0).any()) else mask != 0
            if mask.is_floating_point() and not bool(mask.any()):
                kept = torch.ones_like(mask, dtype=torch.bool)  # nothing is taken off any score
            return kept.flatten(1, 2).any(1)
    return None


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without PyTorch's fused encoder, which calls no hooks; then each module's own mode again."""
    modes = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training
