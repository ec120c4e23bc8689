"""Every reader of files, with a good file for it: what the mutants are made from."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import quant
import sim
from cost_model.cells import library
from cost_model.commands.build import ordered
from cost_model.explore.network_report import network_report
from cost_model.explore.network_space import NetworkSpace
from cost_model.explore.points_file import read_points
from ga_search import cli as fits
from ga_search import fit_table
from quant import Plan, Rule, calibration
from quant.exchange import export_gptq, import_gptq
from quant.formats.checkpoint import Checkpoint
from quant.formats.gguf_file import read_origin
from quant.formats.packed_index import PackedIndex, content_sha256
from rtl.cli import main as rtl
from rtl.commands.rowwise import read_parameters
from sim.common.files import description_sha256
from sim.cosim import handover
from sim.cosim.dut import read_device
from sim.network.table_sets import fitted_tables
from sim.reference import PwlTable
from sim.vectors.files import load_folder
from sim.vectors.suites import random_suite

SMALL = Path(__file__).parents[2] / "cost_model" / "data" / "gate_equivalents.lib"
EXPLORED = Path(__file__).parents[2] / "results" / "explore_char_lm.json"


@dataclass(frozen=True)
class Reader:
    """`make` writes a good input into an empty folder; `read` reads it from there.

    `files` are those to be damaged, by pattern; `seal` makes the hash of a changed JSON right again.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    files: tuple[str, ...]
    seal: Callable[[dict[str, Any]], dict[str, Any]] | None = None


def _own_hash(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "sha256": description_sha256(content)}


def _packed_hash(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "sha256": content_sha256(content)}


def _plan(folder: Path) -> None:
    tables = fitted_tables("genetic", 8, ("gelu",))
    plan = Plan((Rule(".*", weight_bits=4, group_size=32), Rule(".*gelu", tables=tables)))
    (folder / "plan.json").write_text(json.dumps(plan.to_dict()))


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))


def _packed(folder: Path) -> None:
    plan = Plan((Rule(".*", weight_bits=4, group_size=32, activation_granularity="token"),))
    quant.save_pretrained(quant.quantize(_model(), plan, [{"input": torch.randn(4, 32)}]), folder / "packed")


def _network(folder: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    plan = Plan.uniform(activation_granularity="token", tables=fitted_tables("genetic", 8))
    sim.save(sim.convert(model, plan, [{"src": torch.randn(2, 6, 16)}]), folder / "network")


def _gptq(folder: Path) -> None:
    _packed(folder)
    (folder / "packed" / "config.json").write_text('{"model_type": "bert"}')
    export_gptq(folder / "packed", folder / "gptq")


def _vectors(folder: Path) -> None:
    random_suite(0, True, ("requant",))[0].save(folder)


def _verilog(folder: Path) -> None:
    assert rtl(["pwl", "-o", str(folder / "unit.v")]) == 0


def _parameters(folder: Path) -> None:
    content = {"gain": [1, 2], "bias": [3, 4], "epsilon": 5, "shift": 6}
    (folder / "norm.json").write_text(json.dumps(content))


def _table(folder: Path) -> None:
    fit_table("gelu", 8).save(folder / "gelu.json")


def _released(folder: Path) -> None:
    _table(folder)
    assert fits.main(["export", str(folder / "gelu.json"), "--format", "gqa-lut", "-o", str(folder / "out")]) == 0


def _data(folder: Path) -> None:
    rows = [
        {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 0]},
        {"input_ids": [4, 5, 6], "attention_mask": [1, 1, 1]},
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _arrays(folder: Path) -> None:
    np.savez(folder / "data.npz", input_ids=np.arange(12).reshape(3, 4), attention_mask=np.ones((3, 4), np.int64))


def _library(folder: Path) -> None:
    (folder / "cells.lib").write_text(SMALL.read_text())


def _pytorch(folder: Path) -> None:
    torch.save(_model().state_dict(), folder / "pytorch_model.bin")


def _gguf(folder: Path) -> None:
    from tests.quant.formats.test_gguf_file import write  # which skips without its packages

    write(folder / "model.gguf", "Q4_0")


def _points(folder: Path) -> None:
    content = json.loads(EXPLORED.read_text())
    (folder / "points.json").write_text(json.dumps(_own_hash({**content, "rows": content["rows"][:2]})))


def _read_points(folder: Path) -> None:
    content = read_points(folder / "points.json")
    ordered(f"{folder / 'points.json'}#{content['rows'][0]['point']}")
    network_report("a model", {**content, "file": "points.json"}).page(content["rows"])


def _space(folder: Path) -> None:
    (folder / "space.json").write_text(json.dumps({"fc1": ["w8a8", "w4g64a4"], "rows": [8], "acc_bits": [None, 32]}))


def _handover(folder: Path) -> None:
    (folder / "vectors").mkdir()
    for name in ("vectors/a.json", "a.v"):
        (folder / name).touch()
    handover.write_manifest(folder, {"point": "p"}, {"a": "a.v"})


READERS = {
    "table": Reader(_table, lambda f: PwlTable.load(f / "gelu.json").lower(5, 4), ("gelu.json",)),
    "gqa-lut": Reader(
        _released,
        lambda f: fits.main(["import", *map(str, (f / "out").glob("*.json")), "-o", str(f / "in")]),
        ("out/*.json",),
    ),
    "plan": Reader(_plan, lambda f: Plan.load(f / "plan.json").resolve(["a", "a.gelu"]), ("plan.json",)),
    "packed": Reader(
        _packed, lambda f: quant.from_pretrained(f / "packed", _model()),
        ("packed/packed.json", "packed/*.safetensors"), _packed_hash,
    ),
    "packed index": Reader(_packed, lambda f: PackedIndex.load(f / "packed"), ("packed/packed.json",), _packed_hash),
    "network": Reader(
        _network, lambda f: sim.load(f / "network"), ("network/packed.json", "network/*.safetensors"), _packed_hash
    ),
    "gptq": Reader(
        _gptq, lambda f: import_gptq(f / "gptq", f / "back"), ("gptq/*.json", "gptq/*.safetensors")
    ),
    "pytorch": Reader(
        _pytorch, lambda f: dict(Checkpoint.open(f).tensors()), ("pytorch_model.bin",)
    ),
    "gguf": Reader(_gguf, lambda f: read_origin(f / "model.gguf"), ("model.gguf",)),
    "vectors": Reader(_vectors, lambda f: load_folder(f), ("*.json", "*.npz"), _own_hash),
    "description": Reader(_verilog, lambda f: read_device(f / "unit.v"), ("unit.rtl.json", "unit.v"), _own_hash),
    "parameters": Reader(_parameters, lambda f: read_parameters(f / "norm.json"), ("norm.json",)),
    "jsonl": Reader(_data, lambda f: calibration.load(f / "data.jsonl"), ("data.jsonl",)),
    "npz": Reader(_arrays, lambda f: calibration.load(f / "data.npz"), ("data.npz",)),
    "points": Reader(_points, _read_points, ("points.json",), _own_hash),
    "space": Reader(_space, lambda f: NetworkSpace.load(f / "space.json"), ("space.json",)),
    "handover": Reader(_handover, handover.read_manifest, (handover.MANIFEST,), _own_hash),
    "liberty": Reader(_library, lambda f: library.load(f / "cells.lib"), ("cells.lib",)),
}  # fmt: skip
