"""The parts of a network: steps, which only move values, and operators, which compute in one of three modes.

"real" computes in floating point like the original model; calibration observes it. "integer" maps codes to codes and
equals `sim.reference`. "fake" maps real numbers to real numbers, computes in integers in between, and passes the
gradients of the real operation; its values are exactly those of the integer network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from quant import Settings
from sim.network.operators.arithmetic import code_type
from sim.network.operators.observations import Observations
from sim.network.operators.recording import Seen
from sim.network.operators.snapshot import Snapshot, parameters_of
from sim.network.operators.storage import Reader, Writer
from sim.network.operators.tables import require_table
from sim.reference import InputError, PwlTable
from sim.reference.arithmetic import code_range
from sim.reference.residual import STREAM_BITS
from sim.vectors.vector_set import VectorSet

MODES = ("real", "integer", "fake")
HEADROOM = 1.25  # 16-bit grids cover this much more than calibration saw
Shape = tuple[int | str, ...]  # a named axis ("batch", "tokens") has the length of the data


@dataclass(frozen=True, eq=False)
class Grid:
    """Signed codes of `bits` that represent code * scale; `scale` is float64 and broadcasts to the values."""

    bits: int
    scale: Tensor

    @classmethod
    def power(cls, bits: int, exponent: int) -> "Grid":
        """Codes at 2**-exponent."""
        return cls(bits, torch.tensor(2.0**-exponent, dtype=torch.float64))

    @classmethod
    def covering(cls, bits: int, largest: float) -> "Grid":
        """Codes for magnitudes of up to `largest`."""
        room = HEADROOM if bits == STREAM_BITS else 1.0
        return cls(bits, torch.tensor(largest * room / code_range(bits, True)[1], dtype=torch.float64))

    @property
    def exponent(self) -> int:
        """The exponent of a scale that is a power of two: scale = 2**-exponent."""
        return 1 - int(torch.frexp(self.scale).exponent)

    def same(self, other: "Grid") -> bool:
        """Whether the codes represent the same numbers."""
        return self.bits == other.bits and torch.equal(self.scale, other.scale)

    def codes(self, x: Tensor) -> Tensor:
        """saturate(round half up(x / scale)) in the smallest integer type; used at a network's boundary."""
        low, high = code_range(self.bits, True)
        value = x.detach().double() / self.scale.to(x.device)
        return torch.floor(value + 0.5).clamp(low, high).to(code_type(self.bits))

    def real(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real values of the codes; `codes` recovers the codes from them, even in float32."""
        return (codes.double() * self.scale.to(codes.device)).to(dtype)

    def clipped(self, x: Tensor) -> float:
        """The share of the values that saturate."""
        low, high = code_range(self.bits, True)
        value = torch.floor(x.detach().double() / self.scale.to(x.device) + 0.5)
        return float(((value < low) | (value > high)).double().mean())


@contextmanager
def ordinary_arithmetic() -> Iterator[None]:
    """PyTorch's defaults within the context: no autocast, float32, the CPU for new tensors, no inference mode.

    Other settings of the caller would change codes, or leave tensors that cannot be trained or used.
    """
    default, device = torch.get_default_dtype(), torch.get_default_device()
    changed = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda") or torch.is_inference_mode_enabled()
    if default == torch.float32 and device.type == "cpu" and not changed:
        yield  # the usual case costs little
        return
    torch.set_default_dtype(torch.float32)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.device("cpu"))
            for kind in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
                stack.enter_context(torch.autocast(kind, enabled=False))
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
            yield
    finally:
        torch.set_default_dtype(default)


class _Through(torch.autograd.Function):
    """The second argument's value with the first one's gradient."""

    @staticmethod
    def forward(ctx: Any, _smooth: Tensor, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None


def straight_through(value: Tensor, smooth: Tensor) -> Tensor:
    """`value`, with the gradient of `smooth`; smooth + (value - smooth).detach() would round twice."""
    return _Through.apply(smooth, value)


class Step(nn.Module):
    """A computation that is the same in every mode: indices, masks and the order of axes.

    It has no number format: codes keep the scale of its first input. A subclass defines `kind`, `forward`, `shapes`,
    and `to_row` and `from_row` for the packed folder.
    """

    kind = "step"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.inputs: Sequence[Grid] = ()
        self.outputs: Sequence[Grid] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device. Raises InputError for another data type, which would change the codes."""
        for dtype in {tensor.dtype for tensor in (*self.parameters(), *self.buffers())}:
            made = fn(torch.zeros(1, dtype=dtype)).dtype
            if made != dtype:
                raise InputError(f"{self.name} cannot be changed from {dtype} to {made}; convert the model in float32")
        return super()._apply(fn, recurse)

    def finish(self, inputs: Sequence[Grid], outputs: Sequence[Grid]) -> None:
        """Take the grids; a step has none."""

    def compute(self, *arguments: Any) -> Any:
        """`forward` for a caller that has set `ordinary_arithmetic` for all of its steps."""
        return self.forward(*arguments)

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        """The shapes of the outputs; those of the first input unless a subclass says otherwise."""
        return (inputs[0],)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        """The JSON values that `from_row` needs besides kind, name and formats; tensors are stored by `writer`."""
        return {}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        """The step that `to_row` described."""
        return cls(row["name"])


class Operator(Step):
    """An operation with the `name` of its module. `inputs` and `outputs` are its grids after quantisation.

    A subclass defines `real`, the operation in floating point, and `integer`, that on codes, with the same arguments:
    one tensor for each input grid, then indices or a mask. The other methods define what the operator needs for
    conversion, storage and reports; each has a default.
    """

    kind = "operator"
    functions: Sequence[str] = ()  # of which it needs tables
    real: Callable[..., Any]
    integer: Callable[..., Any]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.mode = "real"
        self._made_from = Snapshot(())

    # ---- conversion

    @property
    def plan_names(self) -> list[str]:
        """The names by which a plan's rules choose the operator's settings."""
        return []

    @property
    def trainable(self) -> bool:
        """Whether the floating-point weights are present; a loaded network has none."""
        return True

    def claims(self) -> Mapping[str, nn.Module]:
        """The model's modules that the operator replaces, by name. Raises InputError for an unsupported module."""
        return {}

    def input_bits(self, index: int, site: "Site") -> int:
        """The width in which the operator wants its input number `index`."""
        return STREAM_BITS

    def input_grid(self, index: int, site: "Site") -> Grid | None:
        """The grid in which the operator wants its input; None leaves the scale to the operator that gives it."""
        return None

    def watch(self, site: "Site", arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Record what quantisation needs from a call on calibration data in the mode "real": ranges of the outputs."""
        for k, values in enumerate(results):
            site.seen.observe((site.key, k), values, self.name)

    def quantise_at(self, site: "Site") -> None:
        """Quantise, for the grids of `site.input` and the settings of the plan."""
        raise NotImplementedError

    # ---- state

    def finish(self, inputs: Sequence[Grid], outputs: Sequence[Grid]) -> None:
        """Set the grids, and remember the real parameters that the integers were made from."""
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._settle()

    def _settle(self) -> None:
        with ordinary_arithmetic():
            self._made_from = Snapshot(parameters_of(self))

    def refresh(self) -> None:
        """Update the integers from real parameters that have changed; grids and scales stay."""
        if self.outputs and not self._is_settled():
            with torch.no_grad():
                self.recode()
            self._settle()

    def _is_settled(self) -> bool:
        """Whether the integers were made from the present parameters."""
        return self._made_from.holds(parameters_of(self))

    def recode(self) -> None:
        """Compute the integers again from the real parameters, on the same grids."""

    # ---- computation

    def forward(self, *arguments: Any) -> Any:
        with ordinary_arithmetic():
            return self.compute(*arguments)

    def compute(self, *arguments: Any) -> Any:
        if self.mode == "real":
            return self.real(*arguments)
        if self.mode == "integer":
            return self.integer(*arguments)
        return self._fake(arguments)

    def _fake(self, arguments: tuple[Any, ...]) -> Any:
        self.refresh()
        smooth = self.real(*arguments)
        with torch.no_grad():
            count = len(self.inputs)
            codes = [grid.codes(x) for grid, x in zip(self.inputs, arguments, strict=False)]
            values = self.integer(*codes, *arguments[count:])
        if isinstance(smooth, tuple):
            return tuple(map(self._through, self.outputs, values, smooth))
        return self._through(self.outputs[0], values, smooth)

    @staticmethod
    def _through(grid: Grid, codes: Tensor, smooth: Tensor) -> Tensor:
        return straight_through(grid.real(codes, smooth.dtype), smooth)

    # ---- what is written, reported and recorded

    def formats(self) -> dict[str, Any]:
        """The number formats as a report shows them: bits, scales, tables and the proved bound of the accumulators."""
        output = self.outputs[-1]
        return {
            "input_bits": [grid.bits for grid in self.inputs],
            "output_bits": output.bits,
            "output_scale": float(output.scale.max()),
            "scale_exponents": None,
            "tables": {},
            "bound_bits": None,
        }

    def clipped(self, arguments: tuple[Any, ...], results: tuple[Tensor, ...], mask: Tensor | None) -> float:
        """The share of the real values that saturate in the output grids; `mask` is true where a token counts."""
        keep = None if mask is None or results[0].shape[:2] != mask.shape else mask
        values = [x if keep is None else x[keep] for x in results]
        return sum(g.clipped(x) for g, x in zip(self.outputs, values, strict=True)) / len(results)

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        """The vectors of all operators of this kind, from the calls that `seen` holds; none if no unit computes it."""
        return []


class Site:
    """The place of an operator in a graph, as calibration and quantisation see it.

    `sources` are the operators that compute its inputs, with the number of the output; `readers` are those that read
    each of its outputs, with the number of the input and their site. `settings` are the plan's, by name.
    """

    def __init__(self, key: str, settings: Mapping[str, Settings], seen: Observations) -> None:
        self.key, self.settings, self.seen = key, settings, seen
        self.sources: list[tuple[Operator, int]] = []
        self.readers: list[list[tuple[Operator, int, Site]]] = []

    def input(self, index: int = 0) -> Grid:
        """The grid of an input, from the operator that computes it."""
        operator, output = self.sources[index]
        return operator.outputs[output]

    def source_settings(self, index: int) -> Settings | None:
        """The plan's settings for the operator that gives an input; None if no rule can name it."""
        operator, output = self.sources[index]
        found = operator.plan_names
        return self.settings[found[output]] if output < len(found) else None

    def output_bits(self, index: int = 0) -> int:
        """The width that the readers of an output want, the widest of them; 16 if nothing reads it."""
        return max((reader.input_bits(k, site) for reader, k, site in self.readers[index]), default=STREAM_BITS)

    def output(self, index: int = 0) -> Grid:
        """The grid for an output: the one that its only reader wants, else one that covers what calibration saw."""
        if len(self.readers[index]) == 1:
            [(reader, k, site)] = self.readers[index]
            wanted = reader.input_grid(k, site)
            if wanted is not None:
                return wanted
        return self.covering(self.output_bits(index), index)

    def covering(self, bits: int = STREAM_BITS, index: int = 0) -> Grid:
        """The grid of `bits` that covers what calibration saw of an output."""
        return Grid.covering(bits, self.seen.largest((self.key, index)))

    def table(self, name: str, function: str) -> PwlTable | str:
        """The plan's table. Raises InputError if it has none, or one of another function or format."""
        tables = self.settings[name].tables
        if function not in tables:
            raise InputError(f'{name}: the plan must give a table of {function}, or "exact"')
        try:
            require_table(function, tables[function])
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        return tables[function]


def set_mode(network: nn.Module, mode: str, chosen: Callable[[Operator], bool] = lambda _: True) -> None:
    """Put every operator of `network` that is `chosen` into `mode`, and update the integers from trained parameters.

    Raises InputError if the network was loaded from a packed folder and `mode` needs floating point.
    """
    assert mode in MODES
    operators = [module for module in network.modules() if isinstance(module, Operator)]
    if mode != "integer" and not all(operator.trainable for operator in operators):
        raise InputError("a packed network has no floating-point weights; only the one that was converted has")
    for operator in operators:
        if chosen(operator):
            if mode != "real":
                operator.refresh()
            operator.mode = mode
