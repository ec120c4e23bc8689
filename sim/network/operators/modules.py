"""Checks of the modules that operators replace."""

from torch import nn

from sim.reference import InputError


def require_type(name: str, module: nn.Module, *types: type[nn.Module]) -> None:
    """Raise InputError unless the module's type is one of `types` itself: a subclass may compute anything."""
    if type(module) not in types:
        raise InputError(f"{name}: {type(module).__name__} has no integer operator")
