"""Real activations of networks on images as vectors: the ViT segmenter, SegFormer, the linear-attention network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quant import Plan
from quant.zoo.focus import SIDE, focus_segmenter
from sim.network.convert import convert, functions
from sim.network.converters.describe import describe
from sim.network.recorded_vectors import network_sets
from sim.network.table_sets import fitted_tables, folder_tables
from sim.vectors.vector_set import VectorSet
from sim.workloads.lightweight import lightweight_model
from sim.workloads.photographs import crops
from sim.workloads.segment import SceneData, scene_model
from sim.workloads.variants import Options
from sim.workloads.vision import CALIBRATION

LAYERS = 2  # of the ViT
SCENES, CROPS = 4, 4  # for calibration
Batches = Sequence[Mapping[str, Tensor]]


def vision_vectors(tables: Path | None = None, seed: int = 0, quick: bool = False) -> list[VectorSet]:
    """Every site with a unit in the first layers of the ViT-S/14 segmenter's encoder, on a crop of a photograph.

    Activations are scaled per token. Tables are those of a folder, else fitted with 8 entries. `quick` takes one layer.
    """
    encoder: Any = focus_segmenter().encoder
    del encoder.encoder.layer[1 if quick else LAYERS :]
    data = [{"pixel_values": crops(CROPS, CALIBRATION + seed, SIDE)}]
    return _vectors("vision", encoder, data, [{"pixel_values": crops(1, seed, SIDE)}], tables)


def segment_vectors(tables: Path | None = None, seed: int = 0, quick: bool = False) -> list[VectorSet]:
    """The same of every site of the SegFormer that is trained here, on a scene."""
    return _on_scene("segment", scene_model, tables, seed)


def lightweight_vectors(tables: Path | None = None, seed: int = 0, quick: bool = False) -> list[VectorSet]:
    """The same of every site of the linear-attention network that is trained here, on a scene."""
    return _on_scene("lightweight", lightweight_model, tables, seed)


def _on_scene(
    name: str, make: Callable[[Callable[[], object]], nn.Module], tables: Path | None, seed: int
) -> list[VectorSet]:
    scenes = SceneData(Options(images=2, calibration=SCENES))
    batches = [{"pixel_values": scenes.scenes.images[:1]}]
    return _vectors(name, make(lambda: None), scenes.calibration(seed), batches, tables)


def _vectors(name: str, model: nn.Module, data: Batches, batches: Batches, tables: Path | None) -> list[VectorSet]:
    needed = functions(describe(model))
    chosen = fitted_tables("genetic", 8, needed) if tables is None else folder_tables(tables, needed)
    network = convert(model, Plan.uniform(activation_granularity="token", tables=chosen), data)
    return network_sets(name, network, batches, {"network": name})
