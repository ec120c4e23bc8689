"""Packed models: the same integers come back, the same bytes are written, and nothing damaged is accepted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from quant.formats import packed
from quant.formats.packed import PackedModel
from quant.formats.packed_index import DESCRIPTION, content_sha256, read_description
from quant.plan import Plan
from sim.reference import InputError, PwlTable
from tests.quant.models import SETTINGS, quantised, same

TABLE = PwlTable(
    function="gelu", domain=(-4.0, 4.0), scales=(5,), slope_frac_bits=6, intercept_frac_bits=6, bp_frac_bits=5,
    slopes=(0, 32), intercepts=(0, 1), breakpoints=(0,),
).lower(5, 4)  # fmt: skip


def model(weights: int = len(SETTINGS)) -> PackedModel:
    return PackedModel(
        plan=Plan.uniform(weight_bits=4, tables={"gelu": "exact"}),
        weights={f"layer.{i}.weight": quantised(s, i, (8, 40)) for i, s in enumerate(SETTINGS[:weights])},
        tables={"layer.0.act": TABLE},
        tensors={
            "embedding": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
            "layer.0.input.multiplier": torch.tensor(40000, dtype=torch.int64),
        },
        boundary={"embedding": "floating point"},
        bounds={"layer.0": 12345678901234},
        details={"maker": "test", "list": [1, 2.5, None]},
        data_sha256="0" * 64,
    )


def assert_same(a: PackedModel, b: PackedModel) -> None:
    assert a.plan == b.plan and dict(a.tables) == dict(b.tables) and a.bounds == b.bounds
    assert a.boundary == b.boundary and a.details == b.details and a.data_sha256 == b.data_sha256
    assert list(a.weights) == list(b.weights) and all(same(a.weights[k], b.weights[k]) for k in a.weights)
    assert list(a.tensors) == list(b.tensors)
    assert all(a.tensors[k].dtype == b.tensors[k].dtype and torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_integers_come_back_and_the_same_model_gives_the_same_bytes(tmp_path):
    model().save(tmp_path / "a")
    again = PackedModel.load(tmp_path / "a")
    assert_same(again, model())
    again.save(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_shards_hold_the_same_model_and_an_earlier_models_files_go(tmp_path):
    model().save(tmp_path)
    (single,) = tmp_path.glob("*.safetensors")
    model().save(tmp_path, shard_bytes=2000)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) == 3 and single not in shards
    assert_same(PackedModel.load(tmp_path), model())


def test_codes_take_their_bits_on_disk(tmp_path):
    for bits, settings in ((2, SETTINGS[0]), (8, SETTINGS[-6])):
        assert settings.weight_bits == bits
        PackedModel(Plan.uniform(), {"w": quantised(settings, 0, (256, 256))}).save(tmp_path / str(bits))
        size = sum(path.stat().st_size for path in (tmp_path / str(bits)).glob("*.safetensors"))
        codes = 256 * 256 * bits // 8
        assert codes <= size < codes + 256 * 3 + 500  # 16 bits of m and 8 of k a channel, and the header


def test_every_flipped_byte_and_every_truncation_is_refused(tmp_path):
    model(2).save(tmp_path)
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        damaged = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(0, len(data) - 1, len(data) // 40)]
        for bad in [*damaged, data[:-2], data[: len(data) // 2], b""]:
            path.write_bytes(bad)
            with pytest.raises(InputError) as error:
                PackedModel.load(tmp_path)
            assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")
        path.unlink()
        with pytest.raises(InputError, match="cannot be read"):
            PackedModel.load(tmp_path)
        path.write_bytes(data)
    assert_same(PackedModel.load(tmp_path), model(2))


def resealed(folder: Path, change) -> None:
    """Change the description and give it the hash that it then has: a foreign or faulty writer."""
    path = folder / DESCRIPTION
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    path.write_text(json.dumps(content | {"sha256": content_sha256(content)}))


@pytest.mark.parametrize("change, message", [
    (lambda c: c.update(format="other"), 'format must be "bitwright-packed"'),
    (lambda c: c.update(version=2), "version must be 1, not 2"),
    (lambda c: c.update(extra=1), "unknown or missing: extra"),
    (lambda c: c.pop("bounds"), "unknown or missing: bounds"),
    (lambda c: c.update(bit_order="most significant first"), "bit_order must be"),
    (lambda c: c["plan"]["rules"][0].update(weight_bits=9), "weight_bits must be in 2..8, not 9"),
    (lambda c: c["plan"]["rules"][0].update(weight_bits=5), "plan_sha256 is not the plan's"),
    (lambda c: c["weights"]["layer.0.weight"].update(shape=[8, 200]), "layer.0.weight.codes must be uint8 [8, 50]"),
    (lambda c: c["weights"]["layer.0.weight"].pop("bits"), "weights['layer.0.weight']: keys must be"),
    (lambda c: c["tables"]["layer.0.act"].update(other=1), "unknown or missing: other"),
    (lambda c: c["weights"]["layer.0.weight"].update(shape=[8]), "shape must be a pair of integers, not [8]"),
    (lambda c: c["weights"]["layer.0.weight"].update(shape=[8, 1 << 50]), "shape[1] must be an integer in 1.."),
    (lambda c: c["weights"]["layer.0.weight"].update(bits=True), "bits must be an integer in 2..8, not True"),
    (lambda c: c["weights"].update({"layer.0.weight": None}), "weights['layer.0.weight'] must be an object, not null"),
    (lambda c: c["tables"]["layer.0.act"].update(s=None), "tables['layer.0.act'].s must be an integer"),
    (lambda c: c["bounds"].update(a=-1), "bounds['a'] must be an integer in 0.."),
    (lambda c: c["details"].update(a=[float("nan")]), "details.a[0] must be finite, not nan"),
    (lambda c: c.update(tables=[]), "tables must be an object, not []"),
    (lambda c: c["tensors"].update(embedding="../x"), "must be one of the files, not '../x'"),
    (lambda c: c["tensors"].pop("embedding"), "unknown or missing: embedding"),
])  # fmt: skip
def test_a_description_at_fault_is_one_line_with_the_key(change, message, tmp_path):
    model(1).save(tmp_path)
    resealed(tmp_path, change)
    with pytest.raises(InputError) as error:
        PackedModel.load(tmp_path)
    assert message in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_an_interrupted_save_leaves_the_old_model(tmp_path, monkeypatch):
    model(2).save(tmp_path)
    old = contents(tmp_path)

    def interrupted(path, data):
        if Path(path).name == DESCRIPTION:
            raise KeyboardInterrupt
        return write(path, data)

    write = packed.write_whole
    monkeypatch.setattr(packed, "write_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(3).save(tmp_path)
    assert old.items() <= contents(tmp_path).items()
    assert_same(PackedModel.load(tmp_path), model(2))


def test_the_description_alone_tells_shapes_and_bits_without_the_files(tmp_path):
    model(3).save(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    rows = read_description(tmp_path)["weights"]
    assert rows["layer.1.weight"] == {
        "shape": [8, 40], "bits": 2, "signed": True, "group_size": 16, "multiplier_bits": 8,
    }  # fmt: skip


def test_numpy_alone_reads_the_integers(tmp_path):
    """The layout is open: safetensors' numpy reader and `numpy.unpackbits` suffice."""
    from safetensors.numpy import load_file

    made = PackedModel(Plan.uniform(), {"w": quantised(SETTINGS[7], 3)})
    made.save(tmp_path)
    row = read_description(tmp_path)["weights"]["w"]
    stored = load_file(next(tmp_path.glob("*.safetensors")))
    bits = np.unpackbits(stored["w.codes"], axis=1, bitorder="little")[:, : row["shape"][1] * row["bits"]]
    codes = bits.reshape(*row["shape"], row["bits"]) @ (1 << np.arange(row["bits"]))
    if row["signed"]:
        codes = np.where(codes >= 1 << (row["bits"] - 1), codes - (1 << row["bits"]), codes)
    assert np.array_equal(codes, made.weights["w"].codes.numpy())
    assert np.array_equal(stored["w.multiplier"].view("<u2")[:, 0], made.weights["w"].scale.multiplier.numpy())
