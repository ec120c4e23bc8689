"""`python -m quant efficientqat`: a packed folder of both phases; mistakes are one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import quant
from quant.cli import main
from quant.methods.efficientqat.block_ap import PRESETS, BlockAp
from quant.methods.efficientqat.e2e_qp import PRESETS as STEPS
from quant.methods.efficientqat.e2e_qp import E2eQp
from quant.methods.efficientqat.quantise import Options
from tests.quant.models import llama_folder

pytest.importorskip("transformers", reason="the checkpoints are those of transformers")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    llama_folder(folder, torch.float32)
    np.savez(folder / "data.npz", input_ids=np.random.default_rng(0).integers(32, size=(16, 8)))
    return folder


def test_the_command_writes_what_the_function_makes(llama: Path, tmp_path: Path, capsys: Any) -> None:
    data = llama / "data.npz"
    given = [str(llama), "--bits", "3", "--group", "16", "--data", str(data), "--batch-size", "4", "--distill"]
    assert main(["efficientqat", *given, "--preset", "small", "--json", "-o", str(tmp_path / "packed")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["weight_bits"], row["group_size"], row["symmetric"]) for row in rows} == {(3, 16, False)}
    model, _ = quant.formats.checkpoint.load_model(llama)
    loaded = quant.calibration.load(data, quant.Sampling(1024, 128, 4))
    options = Options(3, 16, BlockAp(PRESETS["small"][3]), E2eQp(STEPS["small"][3], distill=True))
    made = quant.efficientqat(model, loaded, options)
    packed = quant.from_pretrained(tmp_path / "packed")
    assert all(torch.equal(tensor, packed.state_dict()[name]) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--data must be given"),
        (["--data", "DATA", "--bits", "5"], "--bits must be one of 2, 3, 4, not 5"),
        (["--data", "DATA", "--searched", "--e2e-qp"], "--searched needs --block-ap"),
        (["--data", "DATA", "--distill", "--block-ap"], "--distill needs --e2e-qp"),
        (["--data", "DATA", "--group", "0"], "group_size must be in"),
        (["--data", "DATA", "--samples", "4"], "two batches or more"),
        (["--data", "DATA", "--skip", ".*"], "every layer is skipped"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    llama: Path, tmp_path: Path, capsys: Any, options: list[str], message: str
) -> None:
    given = [str(llama / "data.npz") if option == "DATA" else option for option in options]
    assert main(["efficientqat", str(llama), *given, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
