"""Vector files: what is written comes back, the same set gives the same bytes, and nothing damaged is accepted."""

import dataclasses
import json

import numpy as np
import pytest

from rtl.units import UNITS
from sim.common.files import description_sha256
from sim.cosim.dut import lowered
from sim.reference import InputError
from sim.vectors.files import load, load_folder
from sim.vectors.pwl import random_set
from sim.vectors.vector_set import VectorSet, integers
from tests.sim.tables import wide_set


@pytest.fixture
def vectors() -> VectorSet:
    return random_set("small", seed=1, tables=3, entries=8, per_table=5)


def test_a_set_comes_back_as_it_was_written_and_the_same_set_gives_the_same_bytes(vectors, tmp_path):
    path = vectors.save(tmp_path / "a")
    again = load(path)
    assert again.arrays.keys() == vectors.arrays.keys()
    assert all(np.array_equal(again.arrays[key], vectors.arrays[key]) for key in vectors.arrays)
    for name in ("name", "unit", "configuration", "widths", "source"):
        assert getattr(again, name) == getattr(vectors, name)
    again.save(tmp_path / "b")
    for suffix in ("npz", "json"):
        assert (tmp_path / f"a/small.{suffix}").read_bytes() == (tmp_path / f"b/small.{suffix}").read_bytes()


def test_every_flipped_byte_of_the_arrays_is_refused(vectors, tmp_path):
    path = vectors.save(tmp_path).with_suffix(".npz")
    data = path.read_bytes()
    for position in range(0, len(data), len(data) // 50):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(InputError, match=r"small\.npz: corrupted: its SHA-256"):
            load(path.with_suffix(".json"))
    path.unlink()
    with pytest.raises(InputError, match=r"small\.npz: cannot be read"):
        load(path.with_suffix(".json"))


DAMAGE = [
    (lambda d: d.update(format="other"), 'format must be "bitwright-vectors"'),
    (lambda d: d.update(version=2), "version must be 1, not 2"),
    (lambda d: d.pop("unit"), "unknown or missing: unit"),
    (lambda d: d.update(extra=1), "unknown or missing: extra"),
    (lambda d: d.update(unit="fpu"), f"unit must be one of {', '.join(UNITS)}, not 'fpu'"),
    (lambda d: d.update(arrays=[]), "arrays must be an object, not list"),
    (lambda d: d["arrays"]["inputs"].pop("sha256"), "arrays['inputs'] must have shape, dtype and sha256"),
    (lambda d: d["arrays"]["inputs"].update(sha256="0"), "inputs is corrupted"),
    (lambda d: d["arrays"]["inputs"].update(shape=[1]), "inputs must be <i8 [1]"),
    (lambda d: d["arrays"]["inputs"].update(bits=4), "inputs must be in -8..7"),
    (lambda d: d["arrays"]["inputs"].update(bits="8"), "arrays['inputs'] must have bits in 1..256"),
    (lambda d: d["arrays"].pop("s"), "must hold inputs"),
]


@pytest.mark.parametrize("damage, message", DAMAGE, ids=[message for _, message in DAMAGE])
def test_a_bad_description_is_one_line_with_the_file_and_key(damage, message, vectors, tmp_path):
    path = vectors.save(tmp_path)
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content | {"sha256": description_sha256(content)}))
    with pytest.raises(InputError) as error:
        load(path)
    assert message in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_flipped_bytes_of_the_description_are_refused(vectors, tmp_path):
    path = vectors.save(tmp_path)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(InputError) as error:
            load(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [
    lambda d: d["configuration"].update(entries=9), lambda d: d["arrays"]["expected"].update(bits=9),
    lambda d: d.update(name="other"), lambda d: d["source"].update(seed=7), lambda d: d.update(sha256="0" * 64),
], ids=["configuration", "width", "name", "source", "hash"])  # fmt: skip
def test_a_changed_description_is_corrupted(change, vectors, tmp_path):
    path = vectors.save(tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"small\.json: corrupted: its own SHA-256 is not the one it names"):
        load(path)


def test_a_field_of_more_than_64_bits_comes_back_and_goes_out_as_one_word(tmp_path):
    vectors = wide_set()
    bits = vectors.widths["expected"][0]
    again = load(vectors.save(tmp_path))
    values = integers(again.arrays["expected"]).tolist()
    want = lowered(again, 0).accumulate(again.arrays["inputs"]).tolist()
    assert values == want and max(map(abs, want)) >= 1 << 64
    assert again.payloads("expected") == [value & ((1 << bits) - 1) for value in values]
    assert again.numbers("expected", again.payloads("expected")[5]) == {"expected": values[5]}
    assert again.describe(5, 1)["expected"] == values[5]
    assert again.head(3).arrays["expected"].shape == (3, -(-bits // 32))
    with pytest.raises(InputError, match=r"expected must have \d words of 32 bits"):
        dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": vectors.arrays["inputs"]})
    with pytest.raises(InputError, match=r"expected must be in -"):
        dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": vectors.arrays["expected"] << 31})


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_text_that_describes_no_vectors_is_one_line(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError) as error:
        load(tmp_path / "x.json")
    assert "\n" not in str(error.value)


def test_arrays_that_disagree_are_refused(vectors):
    def changed(**arrays: np.ndarray) -> VectorSet:
        return dataclasses.replace(vectors, arrays={**vectors.arrays, **arrays})

    with pytest.raises(InputError, match="expected must have"):
        changed(expected=vectors.arrays["expected"][1:])
    with pytest.raises(InputError, match="counts must be positive and add up"):
        changed(counts=vectors.counts + 1)
    with pytest.raises(InputError, match="inputs must be int64, not float64"):
        changed(inputs=vectors.arrays["inputs"].astype(float))
    with pytest.raises(InputError, match=r"inputs must be in -128\.\.127"):
        changed(inputs=vectors.arrays["inputs"] + 100)
    with pytest.raises(InputError, match=r"inputs must have one number for each vector, not \[\d+, 2\]"):
        changed(inputs=np.stack([vectors.arrays["inputs"]] * 2, axis=1))
    with pytest.raises(InputError, match="counts must have a row for each vector or load, not be a single number"):
        changed(counts=np.array(vectors.size))
    with pytest.raises(InputError, match="inputs must have at least one vector"):
        changed(**{key: vectors.arrays[key][:0] for key in ("inputs", "expected", "counts")})
    with pytest.raises(InputError, match="missing array 'counts'"):
        dataclasses.replace(vectors, arrays={k: v for k, v in vectors.arrays.items() if k != "counts"})


def test_a_vector_is_described_with_its_own_load_and_segment(vectors):
    position = int(vectors.counts[0]) + 2  # the third of the second load
    row = vectors.describe(position, got=99)
    assert (row["load"], row["input"], row["got"]) == (1, int(vectors.arrays["inputs"][position]), 99)
    assert row["expected"] == int(vectors.arrays["expected"][position])
    assert row["segment"] == np.searchsorted(vectors.arrays["thresholds"][1], row["input"], side="right")
    assert row["s"] == int(vectors.arrays["s"][1])
    assert vectors.load_of(int(vectors.counts[0]) - 1) == 0 and vectors.load_of(vectors.size - 1) == 2


def test_a_folder_gives_the_sets_of_the_units_asked_for(vectors, tmp_path):
    vectors.save(tmp_path)
    dataclasses.replace(vectors, name="other", unit="requant").save(tmp_path)
    assert [v.name for v in load_folder(tmp_path)] == ["other", "small"]
    assert [v.name for v in load_folder(tmp_path, ("pwl",))] == ["small"]
    with pytest.raises(InputError, match="must hold vector files for normaliser, but there are none"):
        load_folder(tmp_path, ("normaliser",))


def test_the_head_of_a_set_is_its_first_vectors_with_the_loads_they_need(vectors):
    first = int(vectors.counts[0])
    head = vectors.head(first + 2)
    assert head.counts.tolist() == [first, 2] and head.size == first + 2
    assert np.array_equal(head.arrays["expected"], vectors.arrays["expected"][: first + 2])
    assert np.array_equal(head.arrays["slopes"], vectors.arrays["slopes"][:2])
    assert vectors.head(first).counts.tolist() == [first]
    assert vectors.head(10**6).counts.tolist() == vectors.counts.tolist()
