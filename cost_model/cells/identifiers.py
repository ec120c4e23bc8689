"""Checks of names from a user's files before they reach a Yosys script, Tcl or Verilog."""

import re

from sim.reference import InputError

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
LONGEST = 1024


def require_identifier(name: object, what: str) -> str:
    """`name`, which is safe unquoted in a Yosys script, in Tcl and in Verilog.

    Raises `InputError` with `what` unless it is a letter or _, and then letters, digits and _.
    """
    return _require(name, what, _IDENTIFIER, "a letter or _, then letters, digits and _")


def require_path(name: object, what: str) -> str:
    """The same for identifiers joined by dots: a place in a hierarchy."""
    return _require(name, what, rf"{_IDENTIFIER}(\.{_IDENTIFIER})*", "identifiers joined by dots")


def require_pin(name: object, what: str) -> str:
    """The same for a pin, which may be a bit or a range of a bus: A, A[3] or A[7:0]."""
    return _require(name, what, rf"{_IDENTIFIER}(\[\d+(:\d+)?\])?", "an identifier, or one with [bit]")


def _require(name: object, what: str, pattern: str, said: str) -> str:
    if not isinstance(name, str) or len(name) > LONGEST or not re.fullmatch(pattern, name, re.ASCII):
        raise InputError(f"{what} must be {said}, not {str(name)[:60]!r}")
    return name
