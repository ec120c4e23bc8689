"""`python -m sim convert, run, evaluate`: what they write, and one line for a user's mistake."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import torch as safetensors

from sim.cli import main
from sim.commands.network import _positions
from sim.common.files import locked
from sim.network import packed
from tests.sim.network.checkpoint import checkpoint
from tests.sim.network.models import image_batches, segformer, vision_transformer

TEXT = "the first sentence\nand another one\n\na third, which is longer than the others\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    checkpoint(path / "model")
    (path / "text.txt").write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def network(folder):
    arguments = ["convert", str(folder / "model"), "--entries", "8", "--data", str(folder / "text.txt")]
    assert main([*arguments, "-o", str(folder / "network")]) == 0
    return folder / "network"


def failure(capsys, *arguments: str) -> str:
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "it/s" not in line and "batch" not in line]
    assert out == "" and len(lines) == 1, err
    return lines[0]


def test_a_checkpoint_is_converted_and_runs_on_text(folder, network, capsys):
    capsys.readouterr()
    output = folder / "codes.npz"
    arguments = ["run", str(network), "--data", str(folder / "text.txt")]
    assert main([*arguments, "-o", str(output), "--check", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["samples"] == 3 and row["integer_only"]
    with np.load(output) as arrays:
        codes, scale = arrays["codes.0"], arrays["scale"]
    assert codes.dtype == np.int16 and codes.shape == (3, row["positions"] // 3, 32) and 0 < scale < 1
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["codes_sha256"] == row["codes_sha256"]
    sites = json.loads((network / "sites.json").read_text())
    assert len(sites) == 26 and sum(row["share"] for row in sites) == pytest.approx(1)


def test_the_command_gives_what_the_library_gives(folder, network):
    loaded = packed.load(network)
    batch = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    np.savez(folder / "ids.npz", input_ids=batch["input_ids"].numpy(), attention_mask=batch["attention_mask"].numpy())
    out = folder / "ids-codes.npz"
    assert main(["run", str(network), "--data", str(folder / "ids.npz"), "-o", str(out)]) == 0
    with np.load(out) as arrays:
        assert np.array_equal(arrays["codes.0"], loaded.codes(**batch).numpy())


def test_a_checkpoint_that_was_quantised_before_keeps_its_codes(folder, capsys, tmp_path):
    from quant.cli import main as quant_main

    text = str(folder / "text.txt")
    options = ["--data", text, "--weight-bits", "4", "--group-size", "16"]
    assert quant_main(["quantize", str(folder / "model"), *options, "-o", str(tmp_path / "packed")]) == 0
    refused = failure(capsys, "run", str(tmp_path / "packed"), "--data", text)
    assert "must be an integer network; python -m sim convert makes one of it" in refused
    arguments = ["convert", str(tmp_path / "packed"), "--entries", "8", "--data", text, "-o", str(tmp_path / "network")]
    assert main([*arguments, "--no-report"]) == 0
    weights = json.loads((tmp_path / "network" / "packed.json").read_text())["weights"]
    assert {(row["bits"], row["group_size"]) for row in weights.values()} == {(4, 16)}


def test_a_mistake_is_one_line_that_names_it_and_nothing_is_written(folder, network, capsys, tmp_path):
    model, text = str(folder / "model"), str(folder / "text.txt")
    new = tmp_path / "new"
    (tmp_path / "empty.txt").write_text("\n\n")
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"format": "bitwright-plan", "version": 1, "rules": [{"modules": "decoder.*"}]}))

    def convert(*more: str) -> str:
        return failure(capsys, "convert", model, "-o", str(new), *more)

    assert "empty.txt: the data set is empty" in convert("--data", str(tmp_path / "empty.txt"))
    assert "rules[0]: 'decoder.*' matches no module" in convert("--data", text, "--plan", str(plan))
    assert "--plan brings its tables" in convert("--data", text, "--plan", str(plan), "--entries", "8")
    assert "entries must be in 2..64, not 1" in convert("--data", text, "--entries", "1")
    assert "nowhere" in failure(capsys, "convert", str(tmp_path / "nowhere"), "-o", str(new), "--data", text)
    assert not list(new.glob("*.json")) and not list(new.glob("*.safetensors"))
    assert "-o must end in .npz" in failure(capsys, "run", str(network), "--data", text, "-o", str(tmp_path / "x.txt"))
    assert "packed.json: cannot be read" in failure(capsys, "run", str(tmp_path), "--data", text)


def test_a_checkpoint_with_missing_or_misshapen_tensors_is_one_line(folder, capsys, tmp_path):

    text = str(folder / "text.txt")
    for change, message in (
        (lambda t: t.pop("encoder.layer.1.output.dense.weight"), "encoder.layer.1.output.dense.weight is missing"),
        (
            lambda t: t.update({"encoder.layer.1.output.dense.weight": torch.zeros(3, 3)}),
            "encoder.layer.1.output.dense.weight must be of shape [32, 48], not [3, 3]",
        ),
    ):
        broken = tmp_path / "broken"
        shutil.copytree(folder / "model", broken, dirs_exist_ok=True)
        tensors = safetensors.load_file(folder / "model" / "model.safetensors")
        change(tensors)
        safetensors.save_file(tensors, broken / "model.safetensors", {"format": "pt"})
        assert message in failure(capsys, "convert", str(broken), "-o", str(tmp_path / "n"), "--data", text)
    assert not (tmp_path / "n" / "packed.json").exists()


def test_two_runs_in_one_directory_are_refused(folder, capsys, tmp_path):
    arguments = ["convert", str(folder / "model"), "--data", str(folder / "text.txt"), "-o", str(tmp_path)]
    with locked(tmp_path):
        assert "another run is writing here" in failure(capsys, *arguments)
        evaluate = ["evaluate", "sentence", "--model", str(folder / "model"), "--run", str(tmp_path)]
        assert "another run is writing here" in failure(capsys, *evaluate)


@pytest.mark.slow
def test_an_evaluation_writes_its_rows_and_prints_them(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sim.workloads.sentence.METHODS", (("uniform", 8),))
    capsys.readouterr()
    model = shutil.copytree(folder / "model", tmp_path / "model")
    arguments = ["evaluate", "sentence", "--model", str(model), "--sentences", "8", "--calibration", "4"]
    arguments += ["--seeds", "0", "--quick", "-o", str(tmp_path), "--run", str(tmp_path / "run")]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:5] == ["method", "entries", "operation", "seed", "cosine"] and len(lines) == 4
    result = json.loads((tmp_path / "sentence.json").read_text())
    assert len(result["rows"]) == 2 and result["options"]["count"] == 8 and result["versions"]["torch"]
    assert main([*arguments, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result["rows"]
    tensors = safetensors.load_file(model / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"] *= 2
    safetensors.save_file(tensors, model / "model.safetensors", {"format": "pt"})
    assert "cannot resume, weights_sha256 was" in failure(capsys, *arguments, "--resume")


@pytest.mark.parametrize(
    "make, side, shape",
    [(lambda: vision_transformer("Dinov2"), 16, (2, 17, 32)), (lambda: segformer(), 32, (2, 5, 8, 8))],
)
def test_a_folder_of_a_vision_model_is_converted_and_runs_on_images(tmp_path, capsys, make, side, shape):
    model, [batch] = make(), image_batches(1, side=side)
    model.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "images.npz", pixel_values=batch["pixel_values"].numpy())
    data = ["--data", str(tmp_path / "images.npz")]
    convert = ["convert", str(tmp_path / "model"), *data, "--no-report", "-o", str(tmp_path / "network")]
    assert main(convert) == 0
    capsys.readouterr()
    assert main(["run", str(tmp_path / "network"), *data, "--check", "--json", "-o", str(tmp_path / "c.npz")]) == 0
    assert json.loads(capsys.readouterr().out)["integer_only"]
    with np.load(tmp_path / "c.npz") as arrays:
        codes, scale = arrays["codes.0"], arrays["scale"]
    with torch.no_grad():
        found = model(**batch)
    expected = found.logits if "logits" in found else found.last_hidden_state
    assert codes.shape == shape
    assert float((expected - torch.from_numpy(codes * scale)).norm() / expected.norm()) < 0.15


def test_a_folder_of_a_model_with_a_head_converts_to_the_network_of_its_base(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    masked = transformers.BertForMaskedLM(config).eval()
    masked.save_pretrained(tmp_path / "masked")
    rows = [json.dumps({"input_ids": [5 + i, 6, 7]}) for i in range(4)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    given = ["--data", str(tmp_path / "data.jsonl"), "-o", str(tmp_path / "network")]
    assert main(["convert", str(tmp_path / "masked"), *given]) == 0
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        real = masked.bert(ids).last_hidden_state
    ours = packed.load(tmp_path / "network")(input_ids=ids).last_hidden_state
    assert torch.nn.functional.cosine_similarity(ours.flatten().double(), real.flatten().double(), 0) > 0.98


@pytest.mark.parametrize("shape, positions", [((3, 10), 3), ((2, 5, 32), 10), ((2, 19, 4, 8), 64)])
def test_positions_are_the_codes_of_one_channel(shape, positions):
    assert _positions(shape) == positions
