"""The activation functions of transformers' configurations, by their names there."""

from sim.reference import InputError

ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh",
    "gelu_python": "gelu", "silu": "silu", "swish": "silu", "relu": "relu", "hardswish": "hswish",
}  # fmt: skip


def function_of(name: object) -> str:
    """The table's function. Raises InputError if there is none."""
    if name not in ACTIVATIONS:
        raise InputError(f"config: hidden_act must be one of {', '.join(ACTIVATIONS)}, not {name!r}")
    return ACTIVATIONS[str(name)]
