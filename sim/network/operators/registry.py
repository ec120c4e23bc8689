"""Every kind of operator and step by the name that packed folders give it. A new one is added here."""

from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.base import Step
from sim.network.operators.boundary import KeyMask, Positions, TorchMask, Transpose, Zeros
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Add, Embedding, Input

OPERATORS: dict[str, type[Step]] = {
    step.kind: step
    for step in (
        Positions, Zeros, KeyMask, TorchMask, Transpose, Embedding, Input, Linear, Scores, Softmax, Context, Norm, Add,
        Activation,
    )
}  # fmt: skip
