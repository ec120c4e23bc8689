"""Which floating-point matrices multiply: by a module's class, and by the tensor's name if the class is not known."""

from types import SimpleNamespace
from typing import Any

import pytest

from cost_model.network.floating_point import floating_matrices

TOKENS, MATRIX, KERNEL = 3, (4, 5), (4, 3, 2, 2)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "macs"),
    [
        ("embeddings_project.weight", "Linear", MATRIX, 60),
        ("embed_out.weight", "Linear", MATRIX, 60),
        ("visual_embed.attn.in_proj_weight", "MultiheadAttention", MATRIX, 60),
        ("embeddings.patch_embeddings.projection.weight", "Conv2d", KERNEL, None),
        ("embeddings.word_embeddings.weight", "Embedding", MATRIX, 0),
        ("lookup.weight", "Embedding", MATRIX, 0),
        ("embeddings.position_embeddings", "ViTEmbeddings", (1, 4, 5), 0),
        ("encoder.pos_embed", "Encoder", MATRIX, 0),
        ("embeddings_project.weight", None, MATRIX, 60),
        ("embed_out.weight", "bfloat16", MATRIX, 60),
        ("embeddings.patch_embeddings.projection.weight", "float32", KERNEL, None),
        ("model.embed_tokens.weight", None, MATRIX, 0),
        ("model.embed_tokens.weight", "bfloat16", MATRIX, 0),
        ("layers.0.experts.gate_up", "Experts", (2, 4, 5), 120),
    ],
)
def test_a_matrix_multiplies_unless_it_is_an_embedding(
    name: str, kind: str | None, shape: tuple[int, ...], macs: int | None
) -> None:
    index: Any = SimpleNamespace(tensors={name: SimpleNamespace(kind="F32", shape=shape)}, content={"details": {}})
    kinds = {} if kind is None else {name.rpartition(".")[0]: kind}
    (found,) = floating_matrices(index, kinds, TOKENS)
    assert found.macs == macs
