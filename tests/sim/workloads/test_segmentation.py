"""The evaluation of segmentation on small networks with random weights, and a Cityscapes folder of tiny images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from quant.run_directory import RunDirectory
from quant.zoo.linear_attention import LinearAttentionSegmenter
from quant.zoo.scenes import Confusion
from sim.cli import main
from sim.reference import InputError
from sim.workloads import segmentation, variants
from sim.workloads.cityscapes import IGNORED, Cityscapes, normalisation
from sim.workloads.segment import SceneData
from sim.workloads.segmentation import evaluate, falls
from sim.workloads.variants import Options
from tests.sim.network.models import segformer, spread

OPTIONS = Options(images=500, calibration=8)


@pytest.fixture
def few_methods(monkeypatch):
    monkeypatch.setattr(variants, "METHODS", (("genetic", 8), ("genetic", 2)))


@pytest.mark.slow
def test_an_evaluation_has_its_rows_resumes_and_tells_the_control_from_two_entries(tmp_path, monkeypatch, few_methods):
    torch.manual_seed(0)
    model = spread(LinearAttentionSegmenter((6, 6, 6), 8)).eval()
    options = Options(images=4, calibration=3, seeds=(0, 1))
    data = SceneData(options)
    with torch.no_grad():  # labels that the network itself gives, so that exact functions are nearly right
        data.scenes = data.scenes._replace(labels=segmentation.logits_of(model, data.scenes.images).argmax(1))
    with RunDirectory.open(tmp_path / "run", {"a": 1}) as run:
        result = evaluate(model, data, run, options)
    json.dumps(result, allow_nan=False)
    rows = {(row["method"], row["entries"], row["operation"], row["seed"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]) == 3 * 3 + 2  # exact, 8, 2 of both seeds and the mean; 8 one at a time
    assert result["fp32_miou"] == 100 and rows["exact", None, "all", 0]["fall"] == 0
    for seed in (0, 1, None):
        eight, two = (rows["genetic", entries, "all", seed] for entries in (8, 2))
        assert two["miou"] < eight["miou"] - 2 and two["fall_low"] <= two["fall"] <= two["fall_high"]
    seeds = [rows["genetic", 2, "all", seed]["fall"] for seed in (0, 1)]
    assert rows["genetic", 2, "all", None]["fall"] == pytest.approx(np.mean(seeds))
    with RunDirectory.open(tmp_path / "run", {"a": 1}, resume=True) as run:
        monkeypatch.setattr(segmentation, "confusion", None)  # nothing is left to do
        assert evaluate(model, data, run, options) == result


def test_the_interval_is_that_of_a_paired_bootstrap():
    rng = np.random.default_rng(0)
    union = rng.integers(50, 100, (400, 3))
    before = Confusion(union * 9 // 10, union)
    after = Confusion(before.intersection - rng.integers(0, 4, union.shape), union)
    found = falls([(before, after)])
    assert found["fall"] == pytest.approx(before.mean_iou() - after.mean_iou())
    assert found["fall_low"] < found["fall"] < found["fall_high"] < found["fall_low"] + 0.5
    assert falls([(before, before)]) == {"fall": 0, "fall_low": 0, "fall_high": 0}
    several = falls([(before, after), (before, before)])
    assert several["fall"] == pytest.approx(found["fall"] / 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"images": 1}, r"images must be in 2\.\.100000, not 1"),
        ({"calibration": 0}, r"calibration must be in 1\.\.10000, not 0"),
        ({"seeds": (1, 1)}, r"seeds must be different numbers, not \[1, 1\]"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Options(**{"images": 5, "calibration": 2, **options})


def test_calibration_scenes_are_of_other_digits_than_those_measured():
    data = SceneData(Options(images=3, calibration=4))
    [batch] = data.calibration(0)
    assert batch["pixel_values"].shape[0] == 4 and len(data.scenes.images) == 3
    assert not torch.equal(batch["pixel_values"], next(iter(data.calibration(1)))["pixel_values"])


@pytest.fixture
def cityscapes(tmp_path):
    """Two cities' images of 32 x 64 pixels in the layout of Cityscapes, and a SegFormer checkpoint of its classes."""
    rng = np.random.default_rng(0)
    for split, city in (("train", "aachen"), ("val", "ulm"), ("val", "bonn")):
        for kind in ("leftImg8bit", "gtFine"):
            (tmp_path / "data" / kind / split / city).mkdir(parents=True)
        image = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
        name = f"{city}_000000_000019"
        Image.fromarray(image).save(tmp_path / f"data/leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
        labels = rng.choice(np.array([0, 7, 11, 33], dtype=np.uint8), (32, 64))
        Image.fromarray(labels).save(tmp_path / f"data/gtFine/{split}/{city}/{name}_gtFine_labelIds.png")
    segformer(num_labels=19).save_pretrained(tmp_path / "model")  # pyright: ignore[reportCallIssue]
    return tmp_path


def test_a_cityscapes_folder_gives_images_and_the_classes_that_are_evaluated(cityscapes):
    data = Cityscapes(cityscapes / "data", cityscapes / "model", OPTIONS)
    [(image, labels), _] = list(data.measured())
    ids = np.asarray(Image.open(next((cityscapes / "data/gtFine/val/bonn").iterdir())))
    assert image.shape == (1, 3, 32, 64) and image.dtype == torch.float32 and float(image.std()) > 1
    expected = np.select([ids == 7, ids == 11, ids == 33], [0, 2, 18], IGNORED)
    assert np.array_equal(labels[0].numpy(), expected)
    assert [len(batch["pixel_values"]) for batch in data.calibration(0)] == [1]
    path = cityscapes / "model" / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    [(other, _), _] = list(Cityscapes(cityscapes / "data", cityscapes / "model", OPTIONS).measured())
    assert float(other.min()) >= 0 and float(other.max()) <= 1


def test_the_command_measures_a_checkpoint_on_a_cityscapes_folder(cityscapes, few_methods, capsys):
    command = ["evaluate", "segment", "--model", str(cityscapes / "model"), "--data", str(cityscapes / "data"),
               "--images", "2", "--seeds", "0", "--quick", "-o", str(cityscapes), "--run", str(cityscapes / "run"),
               "--json"]  # fmt: skip
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["entries"]) for row in rows] == [("exact", None), ("genetic", 8), ("genetic", 2)]
    stored = json.loads((cityscapes / "segment.json").read_text())
    assert stored["rows"] == rows and 0 <= stored["fp32_miou"] < 20
    assert main([*command, "--resume"]) == 0
    assert main(["evaluate", "segment", "--model", str(cityscapes / "model")]) == 2
    assert "--model and --data must be given together" in capsys.readouterr().err


def test_a_folder_that_is_not_cityscapes_is_refused_in_one_line(tmp_path, cityscapes):
    with pytest.raises(InputError, match=r"has no image leftImg8bit/val/CITY/NAME_leftImg8bit.png"):
        Cityscapes(tmp_path / "nothing", tmp_path, OPTIONS)
    label = next((cityscapes / "data/gtFine/val/bonn").iterdir())
    label.unlink()
    with pytest.raises(InputError, match=r"bonn_000000_000019_gtFine_labelIds.png: cannot be read"):
        list(Cityscapes(cityscapes / "data", cityscapes, OPTIONS).measured())
    label.write_text("no image")
    with pytest.raises(InputError, match=r"gtFine_labelIds.png: not an image"):
        list(Cityscapes(cityscapes / "data", cityscapes, OPTIONS).measured())


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "must be an object"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean must be 3 finite numbers, not \[0.5, 0.5\]"),
        ({"image_std": ["a", 1, 1]}, "image_std must be 3 finite numbers above 0"),
        ({"image_std": [1, 0, 1]}, "image_std must be 3 finite numbers above 0"),
    ],
)
def test_a_normalisation_of_another_form_is_refused(content, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"preprocessor_config.json: {message}"):
        normalisation(tmp_path)


def test_images_that_do_not_fit_their_labels_or_the_model_are_refused_in_one_line(cityscapes, capsys):
    label = next((cityscapes / "data/gtFine/val/bonn").iterdir())
    whole = label.read_bytes()
    Image.fromarray(np.zeros((16, 64), dtype=np.uint8)).save(label)
    data = Cityscapes(cityscapes / "data", cityscapes / "model", OPTIONS)
    with pytest.raises(InputError, match=r"leftImg8bit.png: has 32 x 64 pixels, but its labels have 16 x 64"):
        list(data.measured())
    label.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"gtFine_labelIds.png: cannot be read: "):
        list(data.measured())
    command = ["evaluate", "segment", "--model", str(cityscapes / "model"), "--data", str(cityscapes / "data"),
               "--images", "2", "--quick", "-o", str(cityscapes), "--run", str(cityscapes / "run")]  # fmt: skip
    for path in (cityscapes / "data/gtFine/val").glob("*/*"):
        Image.fromarray(np.zeros((32, 64), dtype=np.uint8)).save(path)
    assert main(command) == 2 and "no pixel of the measured images has a class" in capsys.readouterr().err
    segformer().save_pretrained(cityscapes / "model")  # pyright: ignore[reportCallIssue]
    assert main(command) == 2 and "must have 19 classes, not 5" in capsys.readouterr().err
