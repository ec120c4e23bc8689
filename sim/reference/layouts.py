"""Export formats of a lowered table: hex for `$readmemh`, npz, a C header. All have the same keys."""

import io
import re
from typing import Any

import numpy as np

from sim.common.errors import InputError
from sim.reference.arithmetic import holding
from sim.reference.lowered_table import LoweredTable


def to_hex(lowered: LoweredTable) -> str:
    """One hex word a line in load order: thresholds, slopes, intercepts.

    Words are two's complement, as wide as the widest of a threshold, a slope and an intercept.
    """
    lowered.code_format.require_unfolded("an export")
    width = max(bits for bits, _ in lowered.code_format.lists.values())
    lines = [f"// {key} {value}" for key, value in lowered.stored().items() if not isinstance(value, tuple)]
    for key in ("thresholds", "slopes", "intercepts"):
        lines.append(f"// {key}")
        lines += [f"{word & ((1 << width) - 1):0{-(-width // 4)}x}" for word in getattr(lowered, key)]
    return "\n".join(lines) + "\n"


def to_npz(lowered: LoweredTable) -> bytes:
    """An .npz with the stored keys as int64 arrays; the same table gives the same bytes.

    Raises `InputError` if the table was lowered without an output scale.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key: np.asarray(value, dtype=np.int64) for key, value in _complete(lowered).items()}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def identifier(name: str) -> str:
    """`name` as an identifier of C and Verilog: every other character becomes `_`, a leading digit gets `table_`."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return text if text[:1].isalpha() else f"table_{text}"


def to_c(lowered: LoweredTable, name: str) -> str:
    """A C99 header with the stored keys, each prefixed by `name` as an identifier.

    Raises `InputError` if the table was lowered without an output scale.
    """
    prefix = identifier(name)
    guard = f"{prefix.upper()}_H"
    lists = lowered.code_format.lists
    lines = [f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>"]
    for key, value in _complete(lowered).items():
        if isinstance(value, tuple):
            bits, signed = holding(*lists[key][1])
            kind = f"{'' if signed else 'u'}int{next(w for w in (8, 16, 32, 64) if w >= bits)}_t"
            # -2^31 has no literal of its own type in C
            items = ", ".join("(-2147483647 - 1)" if v == -(1 << 31) else str(v) for v in value)
            lines.append(f"static const {kind} {prefix}_{key}[{len(value)}] = {{{items}}};")
        else:
            lines.append(f"static const int {prefix}_{key} = {value};")
    return "\n".join([*lines, f"#endif  /* {guard} */"]) + "\n"


def _complete(lowered: LoweredTable) -> dict[str, Any]:
    if lowered.output_shift is None:
        raise InputError("output_scale must be given: the layout carries output_shift")
    lowered.code_format.require_unfolded("an export")
    return lowered.stored()
