"""`python -m sim run DIR --on SIMULATOR`, on a tiny network."""

import json
import shutil

import numpy as np
import pytest

from sim.cli import main
from sim.common.results import read_results
from sim.network import packed
from sim.network.convert import convert
from tests.sim.network.models import TABLES, bert, plan, token_batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("network")
    packed.save(convert(bert(), plan(TABLES), token_batches()), place / "tiny")
    [batch] = token_batches(1, rows=2, length=6, seed=2)
    np.savez(place / "data.npz", input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return place


def _run(folder, *options):
    return main(["run", str(folder / "tiny"), "--data", str(folder / "data.npz"), *options])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--layers", "0"], "--layers must be given with --on"),
        (["--on", "icarus", "--from", "sentence"], "--from must not be given with DIR or --data"),
        (["--on", "icarus", "--check"], "--check must not be given with --on"),
        (["--on", "icarus", "-o", "codes.npz"], "-o must end in .json with --on, not 'codes.npz'"),
        (["--on", "icarus", "--layers", "0-1"], "--layers must be a number or N..M, not '0-1'"),
        (["--on", "icarus", "--layers", "²"], "--layers must be a number or N..M, not '²'"),
        (["--on", "icarus", "--lanes", "8", "--layers", "1..2"], "layers must be in 0..1, not 1..2"),
        (["--on", "icarus", "--lanes", "12"], "lanes must be a power of two, not 12"),
    ],
)
def test_a_mistake_is_one_line(folder, options, message, capsys):
    assert _run(folder, *options) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is missing")
def test_a_layer_runs_in_icarus_and_its_row_is_stored(folder, tmp_path, capsys):
    size = ["--on", "icarus", "--layers", "1", "--lanes", "4", "--row-units", "2", "--samples", "2"]
    result = tmp_path / "layer.json"
    assert _run(folder, *size, "--build", str(tmp_path / "builds"), "-o", str(result), "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    stored = read_results(result)
    assert len(rows) == len(stored["rows"]) == 2 and stored["data"] == "data.npz"
    assert stored["command"] == (
        "python -m sim run NETWORK --data DATA --samples 2 --sequence-length 128 --seed 0 --on icarus --layers 1 "
        "--lanes 4 --row-units 2"
    )
    assert all(row["mismatches"] == 0 and row["operators"] == 12 and row["writes"] > 500 for row in rows)
    assert all(sum(kind["cycles"] for kind in row["kinds"]) == row["cycles"] for row in rows)
