"""The one exception for a user's mistake, and the check that raises it most often."""

from numbers import Integral


class InputError(ValueError):
    """Invalid input. The message is one line: the argument, or the file and key, what it must be and what it was.

    Commands print the line and exit with code 2. Any other exception is our own bug and keeps its traceback.
    """


def require_range(name: str, value: int, low: int, high: int) -> None:
    """Raise `InputError` unless value is an integer, and low <= value <= high."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be an integer in {low}..{high}, not {value!r}")
    if not low <= value <= high:
        raise InputError(f"{name} must be in {low}..{high}, not {value}")
