"""Vectors of networks on images, with small ones in the place of those that packages or training bring."""

from typing import Any

import pytest

pytest.importorskip("transformers", reason="the encoder is that of transformers")
pytest.importorskip("sklearn", reason="photographs and digits are scikit-learn's")

from quant.zoo.linear_attention import scene_segmenter
from sim.workloads import image_vectors
from tests.sim.network.models import vision_transformer


def test_every_unit_of_the_vision_transformer_s_first_layer_has_vectors(monkeypatch):
    class Small:
        encoder: Any = vision_transformer("Dinov2")

    monkeypatch.setattr(image_vectors, "SIDE", 16)
    monkeypatch.setattr(image_vectors, "focus_segmenter", Small)
    sets = image_vectors.vision_vectors(quick=True)
    assert {v.unit for v in sets} == {"softmax", "layernorm", "pwl", "normaliser"}
    assert all(v.size and v.source["network"] == "vision" for v in sets)


def test_the_linear_attention_network_has_vectors_for_its_tables(monkeypatch):
    monkeypatch.setattr(image_vectors, "lightweight_model", lambda progress: scene_segmenter(0).eval())
    sets = image_vectors.lightweight_vectors()
    assert {v.unit for v in sets} == {"pwl"} and sets[0].size > 1000
