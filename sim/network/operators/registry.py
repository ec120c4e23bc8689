"""Every kind of operator and step by the name that packed folders give it. A new one is added here."""

from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.base import Step
from sim.network.operators.boundary import KeyMask, Patches, Positions, TorchMask, Transpose, Zeros
from sim.network.operators.causal import CachedPositions, CausalMask, TokenContext, TokenScores
from sim.network.operators.depthwise import Depthwise
from sim.network.operators.hadamard import Hadamard
from sim.network.operators.images import Image, Permute, Tokens, Unfold
from sim.network.operators.linear import Linear
from sim.network.operators.linear_attention import LinearAttention
from sim.network.operators.norm import Norm
from sim.network.operators.pooling import Mean
from sim.network.operators.position_bias import PositionBias
from sim.network.operators.product import Product
from sim.network.operators.requantise import Requantise
from sim.network.operators.residual import Add, Embedding, Input
from sim.network.operators.rope import Angles, Rope
from sim.network.operators.split import Split
from sim.network.operators.upsample import Concat, Upsample

OPERATORS: dict[str, type[Step]] = {
    step.kind: step
    for step in (
        Positions, Zeros, KeyMask, TorchMask, Transpose, Patches, Embedding, Input, Linear, Split, Scores, Softmax,
        CachedPositions, CausalMask, Angles, Rope, TokenScores, TokenContext, Product,
        Context, Norm, Add, Activation, Mean, Permute, Unfold, Tokens, Image, Depthwise, Upsample, Concat,
        Requantise, LinearAttention, PositionBias, Hadamard,
    )
}  # fmt: skip
