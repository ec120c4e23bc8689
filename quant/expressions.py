"""Regular expressions that Python's matcher is sure to end on soon: refused if it could try exponentially many ways.

Python's `re` goes back over its choices. A repeat inside a repeat, `(a+)+`, doubles them with each character; repeats
in a row, `.*a.*b`, multiply by the length of the name once each.
"""

import re
from collections.abc import Iterable
from typing import Any

from sim.reference import InputError

MAX_REPEATS = 5  # of varying length in a row
MAX_CHARACTERS = 1 << 20  # import writes one alternative a layer
_parser: Any = re._parser  # pyright: ignore[reportAttributeAccessIssue]


def require_quick(expression: str) -> None:
    """Refuse an expression whose matching could run on.

    Raises
    ------
    InputError
        If a repeat holds a repeat of varying length or alternatives, if more than `MAX_REPEATS` repeats follow each
        other, or if the expression is longer than `MAX_CHARACTERS`.
    """
    if len(expression) > MAX_CHARACTERS:
        raise InputError(f"modules must be at most {MAX_CHARACTERS} characters, not {len(expression)}")
    repeats = _repeats(_parser.parse(expression), expression, False)
    if repeats > MAX_REPEATS:
        raise InputError(f"modules must have at most {MAX_REPEATS} repeats in a row, not {repeats}: {expression!r}")


def _repeats(items: Iterable[Any], expression: str, repeated: bool) -> int:
    """How many repeats of varying length may follow each other in a parsed sequence."""
    total = 0
    for operation, argument in items:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, body = argument
            varying = low != high
            if varying and repeated:
                raise InputError(f"modules must not repeat what has a repeat inside: {expression!r}")
            total += _repeats(body, expression, repeated or high > 1) + varying
        elif name == "BRANCH":
            if repeated:
                raise InputError(f"modules must not repeat alternatives: {expression!r}")
            total += max(_repeats(branch, expression, repeated) for branch in argument[1])
        elif name == "GROUPREF_EXISTS":
            raise InputError(f"modules must not be conditional on a group: {expression!r}")
        else:
            parts = argument if isinstance(argument, tuple) else (argument,)
            total += sum(_repeats(p, expression, repeated) for p in parts if isinstance(p, _parser.SubPattern))
    return total
