"""A truth table: the output code of every input code at each of some scales, and nothing to compute."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sim.common.errors import InputError, require_range
from sim.common.files import read_json, write_whole
from sim.reference.arithmetic import code_range

FORMAT, VERSION = "bitwright-truth-table", 1
MOST_BITS = 12  # of an input code: a row has 2**in_bits codes


@dataclass(frozen=True)
class TruthTable:
    """The output codes of a function, a row for each scale.

    Parameters
    ----------
    function : str
        The name of the function.
    scales : tuple of int
        The scale exponents of the input codes, ascending.
    output_scale : int
        That of the output codes.
    codes : tuple of tuple of int
        For each scale the outputs of every input code, ascending.
    in_bits, in_signed, out_bits, out_signed
        Widths in bits and signs of the codes; at most 12 bits of input.

    Raises
    ------
    InputError
        If a field is out of its range; the line names it.
    """

    function: str
    scales: tuple[int, ...]
    output_scale: int
    codes: tuple[tuple[int, ...], ...]
    in_bits: int = 8
    in_signed: bool = True
    out_bits: int = 8
    out_signed: bool = True

    def __post_init__(self) -> None:
        require_range("in_bits", self.in_bits, 2, MOST_BITS)
        require_range("out_bits", self.out_bits, 2, 32)
        if not self.scales or list(self.scales) != sorted(set(self.scales)):
            raise InputError(f"scales must be distinct and ascending, not {list(self.scales)}")
        if len(self.codes) != len(self.scales):
            raise InputError(f"codes must have {len(self.scales)} rows, one for each scale, not {len(self.codes)}")
        low, high = code_range(self.out_bits, self.out_signed)
        for row, values in enumerate(self.codes):
            if len(values) != 1 << self.in_bits:
                raise InputError(f"codes[{row}] must have {1 << self.in_bits} integers, not {len(values)}")
            for k in (values.index(min(values)), values.index(max(values))):
                require_range(f"codes[{row}][{k}]", values[k], low, high)

    def output(self, q: np.ndarray, row: int) -> np.ndarray:
        """The output codes of input codes at the scale `scales[row]`; int64, same shape as `q`."""
        return np.array(self.codes[row], dtype=np.int64)[np.asarray(q) - code_range(self.in_bits, self.in_signed)[0]]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the file."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, content: object, source: str = "truth table") -> "TruthTable":
        """The inverse of `to_dict`. Raises `InputError` with `source` and the key at fault."""
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise InputError(f'{source}: format must be "{FORMAT}" and version {VERSION}')
        names = {field.name for field in fields(cls)}
        given = {key: value for key, value in content.items() if key not in ("format", "version")}
        if wrong := sorted(names ^ set(given)):
            raise InputError(f"{source}: {'missing' if wrong[0] in names else 'unknown'} key {wrong[0]!r}")
        try:
            scales, codes = tuple(given.pop("scales")), tuple(map(tuple, given.pop("codes")))
            return cls(scales=scales, codes=codes, **given)
        except TypeError:
            raise InputError(f"{source}: scales and codes must be lists of integers") from None
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write the file beside `path`, then rename it."""
        return write_whole(path, json.dumps(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "TruthTable":
        """Read a file. Raises `InputError` with the file and the key if it is not valid."""
        return cls.from_dict(read_json(Path(path)), str(path))
