"""Checks of names that reach a simulator's command line, Verilog, make or a path."""

import re
from collections.abc import Iterable

from rtl.verilog_keywords import KEYWORDS
from sim.reference import InputError

LONGEST = 200  # characters; a file system takes 255 with what is added


def require_identifier(what: str, name: str) -> None:
    """Raise `InputError` unless `name` is a plain Verilog identifier: letters, digits and _, and no keyword."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or len(name) > LONGEST or name in KEYWORDS:
        raise InputError(f"{what} must be named by a Verilog identifier, not {_shown(name)}")


def require_module(module: str, ports: Iterable[str]) -> None:
    """Raise `InputError` unless a module and its ports have the names of plain Verilog identifiers."""
    require_identifier("module", module)
    for port in ports:
        require_identifier("port", port)


def require_file_name(what: str, name: str) -> None:
    """Raise `InputError` unless `name` is a plain file name: letters, digits, _ and, not first, .+,=@- and space."""
    if not re.fullmatch(r"\w[\w .+,=@-]*", name) or len(name) > LONGEST or name.endswith(" "):
        raise InputError(f"{what} must be named by a plain file name, not {_shown(name)}")


def _shown(name: str) -> str:
    """The name in one line."""
    text = ascii(name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
