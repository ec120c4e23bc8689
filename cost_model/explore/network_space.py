"""The design space of a network and its machine: what a point chooses, and the choices of a search.

A point is a set of number formats, one for each class of layers, with the entries of each function's table, and a
machine. `NetworkSpace` lists the choices of each property.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from cost_model.network.machine import Machine
from cost_model.network.memory import PLACES
from sim.common.errors import require_range
from sim.common.files import read_json
from sim.reference import InputError
from sim.reference.gemm import WEIGHT_BITS

LIBRARY = "sg13g2_stdcell_typ_1p20V_25C"  # it gives joules, and its macros are the memories
MULTIPLIER_BITS = 6  # of a group: with 8, a token's accumulators would not fit the 62 bits there are
_FORMAT = re.compile(r"w([0-9]{1,6})(?:g([0-9]{1,6}))?a([0-9]{1,6})")


@dataclass(frozen=True)
class LayerFormat:
    """The number formats of a class of linear layers, written "w4g64a8": weights, group size, inputs.

    Parameters
    ----------
    weight_bits : int
        2, 3, 4 or 8. Weights of 2 bits have a zero point for each group, others are symmetric.
    activation_bits : int
        4 or 8; each token has a scale.
    group : int, optional
        Inputs that share a scale; None is the whole row of the matrix.

    Raises
    ------
    InputError
        If a width is not one of these.
    """

    weight_bits: int
    activation_bits: int
    group: int | None = None

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_BITS:
            raise InputError(f"weights must be of 2, 3, 4 or 8 bits, not {self.weight_bits}")
        if self.activation_bits not in (4, 8):
            raise InputError(f"inputs must be of 4 or 8 bits, not {self.activation_bits}")
        if self.group is not None:
            require_range("group", self.group, 1, 1 << 16)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its name, such as "w8a8" or "w4g64a4". Raises `InputError` for another text."""
        found = _FORMAT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise InputError(f"a format must look like w8a8 or w4g64a8, not {text!r}")
        weights, group, inputs = found.groups()
        return cls(int(weights), int(inputs), None if group is None else int(group))

    def __str__(self) -> str:
        return f"w{self.weight_bits}{'' if self.group is None else f'g{self.group}'}a{self.activation_bits}"

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of `quant.Settings`."""
        grouped: dict[str, Any] = {"weight_granularity": "channel"}
        if self.group is not None:
            grouped = {"weight_granularity": "group", "group_size": self.group, "multiplier_bits": MULTIPLIER_BITS}
        return {
            "weight_bits": self.weight_bits,
            "weight_symmetric": self.weight_bits > 2,
            "activation_bits": self.activation_bits,
            "activation_granularity": "token",
            **grouped,
        }


LAYERS = ("attention", "fc1", "fc2")  # classes of linear layers
ENTRIES = ("activation_entries", "exp_entries", "div_entries", "rsqrt_entries")


@dataclass(frozen=True)
class NetworkPoint:
    """One network on one machine.

    Parameters
    ----------
    attention, fc1, fc2 : str
        Formats (`LayerFormat`) of the projections of the attention, of the layers that widen and those that narrow.
    activation_entries, exp_entries, div_entries, rsqrt_entries : int
        Segments of the tables: of the activation between fc1 and fc2, of softmax (exp, div), of the norms (rsqrt).
    rows, columns, depth, lanes : int
        Of `Machine`.
    two_pass : bool
        Multipliers of 5-bit operands; activations of more than 4 bits take two passes.
    acc_bits : int, optional
        Width of the accumulators; None is the least that is proved for each product.
    weights_in : str
        Where weights are between inferences: "dram" or "sram".
    tokens : int
        Of the sequence that is priced.

    Raises
    ------
    InputError
        If a field is out of its range.
    """

    attention: str = "w8a8"
    fc1: str = "w8a8"
    fc2: str = "w8a8"
    activation_entries: int = 8
    exp_entries: int = 8
    div_entries: int = 8
    rsqrt_entries: int = 8
    rows: int = 16
    columns: int = 16
    depth: int = 128
    lanes: int = 1
    two_pass: bool = False
    acc_bits: int | None = None
    weights_in: str = "dram"
    tokens: int = 128

    def __post_init__(self) -> None:
        for name in LAYERS:
            LayerFormat.parse(getattr(self, name))
        for name in ENTRIES:
            require_range(name, getattr(self, name), 2, 64)
        require_range("tokens", self.tokens, 1, 1 << 20)
        if self.weights_in not in PLACES:
            raise InputError(f"weights_in must be one of {', '.join(PLACES)}, not {self.weights_in!r}")
        if not isinstance(self.two_pass, bool):
            raise InputError(f"two_pass must be true or false, not {self.two_pass!r}")
        _ = self.machine

    @property
    def machine(self) -> Machine:
        """The machine, in the library that gives joules."""
        return Machine(self.rows, self.columns, self.depth, self.two_pass, self.lanes, LIBRARY, acc_bits=self.acc_bits)

    @property
    def network(self) -> "NetworkPoint":
        """The same network on the default machine; points with equal ones are equally accurate."""
        formats = {name: getattr(self, name) for name in (*LAYERS, *ENTRIES)}
        return NetworkPoint(**formats)

    @property
    def digest(self) -> str:
        """The first 12 digits of the SHA-256 of the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The point of a row of results. Raises `InputError` if a field is missing."""
        for field in fields(cls):
            if field.name not in row:
                raise InputError(f"a point must have {field.name}")
        return cls(**{field.name: row[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class NetworkSpace:
    """The choices of a search: for each field of `NetworkPoint` a tuple. The first ones together are its usual point.

    Raises
    ------
    InputError
        If a field has no choice or one that no point can have.
    """

    attention: tuple[str, ...] = ("w8a8", "w4g64a8", "w4a8", "w3g64a8", "w2g64a8", "w8a4", "w4g64a4")
    fc1: tuple[str, ...] = ("w8a8", "w4g64a8", "w4a8", "w3g64a8", "w2g64a8", "w8a4", "w4g64a4")
    fc2: tuple[str, ...] = ("w8a8", "w4g64a8", "w4a8", "w3g64a8", "w2g64a8", "w8a4", "w4g64a4")
    activation_entries: tuple[int, ...] = (8, 4, 16)
    exp_entries: tuple[int, ...] = (8, 4, 16)
    div_entries: tuple[int, ...] = (8, 4)
    rsqrt_entries: tuple[int, ...] = (8, 4)
    rows: tuple[int, ...] = (16, 8, 32)
    columns: tuple[int, ...] = (16, 8, 32)
    depth: tuple[int, ...] = (128, 32)
    lanes: tuple[int, ...] = (1, 4)
    two_pass: tuple[bool, ...] = (False, True)
    acc_bits: tuple[int | None, ...] = (None, 32)
    weights_in: tuple[str, ...] = ("dram", "sram")
    tokens: tuple[int, ...] = (128,)

    def __post_init__(self) -> None:
        for name, choices in self.axes.items():
            if not isinstance(choices, tuple) or not choices:
                raise InputError(f"{name} must have at least one choice")
        for name, choices in self.axes.items():
            for choice in choices:
                replace(self.usual, **{name: choice})

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The choices by field, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def usual(self) -> NetworkPoint:
        """The first choice of each field."""
        return NetworkPoint(**{name: choices[0] for name, choices in self.axes.items()})

    def holds(self, point: NetworkPoint) -> bool:
        """Whether every field of the point is one of its choices."""
        return all(value in self.axes[name] for name, value in asdict(point).items())

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(map(len, self.axes.values()))

    def points(self) -> Iterator[NetworkPoint]:
        """Every point, in a fixed order."""
        for choices in itertools.product(*self.axes.values()):
            yield NetworkPoint(**dict(zip(self.axes, choices, strict=True)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """From JSON: lists by field; what is left out keeps its usual choices. Raises `InputError` for another key."""
        known = [field.name for field in fields(cls)]
        if not isinstance(content, Mapping):
            raise InputError(f"a space must be an object of lists, not {content!r}")
        for name, choices in content.items():
            if name not in known:
                raise InputError(f"unknown key {name!r}; a space has {', '.join(known)}")
            if not isinstance(choices, list):
                raise InputError(f"{name} must be a list of choices, not {choices!r}")
        return cls(**{name: tuple(choices) for name, choices in content.items()})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """From a JSON file. Raises `InputError` with the file if it is missing or no space."""
        content = read_json(path)
        try:
            return cls.from_dict(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


_FORMATS = ("w8a8", "w4g64a8", "w4g64a4", "w2g64a8")
SPACES = {  # by name; "small" has few networks, each on several machines, and can be searched exhaustively
    "full": NetworkSpace(),
    "small": NetworkSpace(
        _FORMATS, _FORMATS, _FORMATS, (8,), (8,), (8,), (8,), rows=(16, 32), columns=(16,), depth=(128,), lanes=(1,),
        acc_bits=(None,), weights_in=("dram",),
    ),
}  # fmt: skip

# The papers' points, on the usual machine: 8 bits throughout; 4-bit weights in the feed-forward part alone, as
# ZeroQuant's W4/8 (2206.01861); 4 bits throughout but for FC2's inputs (2505.14302); EfficientQAT's 2-bit weights
# (2407.11062), here by rounding to nearest and with 8-bit inputs
PAPERS = {
    "W8A8": ("w8a8", "w8a8", "w8a8"),
    "W4/8A8": ("w8a8", "w4g64a8", "w4g64a8"),
    "W4A4, FC2 input 8": ("w4g64a4", "w4g64a4", "w4g64a8"),
    "w2g64": ("w2g64a8", "w2g64a8", "w2g64a8"),
}


def papers(space: NetworkSpace) -> dict[str, NetworkPoint]:
    """The papers' points by name, the rest as usual in a space; with weights in each of its places."""
    found = {}
    for name, formats in PAPERS.items():
        for place in space.weights_in:
            chosen = replace(space.usual, **dict(zip(LAYERS, formats, strict=True)), weights_in=place)
            found[f"{name}, weights in {place.upper()}" if len(space.weights_in) > 1 else name] = chosen
    return found
