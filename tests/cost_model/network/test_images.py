"""The cost of a network over images: its sizes follow from the image, strides round as in the network."""

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the model is that of transformers")

import sim
from cost_model.cli import main
from cost_model.network.sites import Gemm, sites
from quant.formats.packed_index import PackedIndex
from tests.sim.network.models import EXACT, image_batches, plan, segformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = sim.convert(segformer(), plan(EXACT), image_batches(1, side=32))
    return sim.save(network, tmp_path_factory.mktemp("network")).parent


@pytest.mark.parametrize("side", [23, 33])  # 33 is odd after the first stride, before one without padding
def test_products_have_the_rows_that_the_network_computes(folder: Path, side: int) -> None:
    seen = {}
    network = sim.load(folder)
    for operator in network.operators():
        if operator.kind == "linear":
            operator.register_forward_hook(lambda m, given, _: seen.update({m.name: given[0][..., 0].numel()}))
    batch = image_batches(1, rows=1, side=side)[0]
    network.codes(**batch)
    listed = sites(PackedIndex.load(folder), folder, 1, 1, batch["pixel_values"].shape[-2:])
    counted = {site.name: site.jobs * site.tokens for site in listed if isinstance(site, Gemm) and site.name in seen}
    assert counted == seen


def test_a_network_of_images_needs_the_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "give --image HEIGHT WIDTH" in error
    assert error.count("\n") == 1
    assert main(["model", str(folder), "--image", "32", "32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"]
