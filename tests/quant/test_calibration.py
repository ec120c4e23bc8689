"""Calibration data: every source gives its batches, the same seed the same ones, and its faults one line."""

import json
import zipfile

import numpy as np
import pytest
import torch

from quant import calibration
from quant.calibration import CalibrationData, Sampling, load
from sim.reference import InputError


def letters(text: str) -> list[int]:
    """A tokeniser: a letter is a token."""
    return [ord(c) for c in text]


def rows(data: CalibrationData, key: str = "input_ids") -> list[list[int]]:
    """Each sample without its padding."""
    return [r[m.bool()].tolist() for b in data for r, m in zip(b[key], b["attention_mask"], strict=True)]


def test_text_lines_are_samples_padded_to_the_longest_of_their_batch(tmp_path):
    (tmp_path / "a.txt").write_text("ab\n\nabcdef\n  c \n")
    data = load(tmp_path / "a.txt", Sampling(sequence_length=4, batch_size=2), letters)
    assert sorted(rows(data)) == sorted([letters("ab"), letters("abcd"), letters("c")])
    assert len(data) == 2 and data.samples == 3
    for batch in data:
        lengths = batch["attention_mask"].sum(1)
        assert batch["input_ids"].shape[1] == int(lengths.max())
        assert bool((batch["input_ids"][batch["attention_mask"] == 0] == 0).all())


def test_the_seed_chooses_the_samples_and_the_hash_tells(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {i}" for i in range(50)))

    def made(**sampling) -> CalibrationData:
        return load(tmp_path / "a.txt", Sampling(samples=10, **sampling), letters)

    assert made(seed=1).digest == made(seed=1).digest != made(seed=2).digest
    assert len({tuple(row) for row in rows(made())}) == 10
    assert made(batch_size=5).digest != made(batch_size=10).digest


def test_json_lines_npz_and_folders_mean_the_same(tmp_path):
    ids = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in ids))
    np.savez(tmp_path / "a.npz", input_ids=np.array(ids, dtype=np.int32))
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "1.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in ids[:2]))
    np.savez(folder / "deeper" / "2.npz", input_ids=np.array(ids[2:]))
    (folder / "notes.bin").write_bytes(b"\xff")
    loaded = [load(tmp_path / name) for name in ("a.jsonl", "a.npz", "folder")]
    assert len({data.digest for data in loaded}) == 1 and sorted(rows(loaded[0])) == ids


def test_json_lines_may_hold_text_and_masks_are_kept(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "ab"}\n{"text": "c"}\n')
    assert sorted(rows(load(tmp_path / "t.jsonl", tokeniser=letters))) == [letters("ab"), letters("c")]
    (tmp_path / "m.jsonl").write_text('{"input_ids": [1, 2], "attention_mask": [1, 0]}\n')
    assert rows(load(tmp_path / "m.jsonl")) == [[1]]


def test_npz_of_pictures_is_stacked_as_it_is(tmp_path):
    pictures = np.random.default_rng(0).random((5, 3, 4, 4), dtype=np.float32)
    np.savez(tmp_path / "p.npz", pixel_values=pictures)
    data = load(tmp_path / "p.npz", Sampling(batch_size=5))
    (batch,) = data
    assert batch.keys() == {"pixel_values"} and sorted(batch["pixel_values"].sum((1, 2, 3)).tolist()) == pytest.approx(
        sorted(pictures.sum((1, 2, 3)).tolist())
    )


def test_an_iterable_is_taken_as_it_is_until_it_holds_the_samples():
    def endless():
        while True:
            yield {"src": torch.ones(4, 3)}

    data = load(endless(), Sampling(samples=10))
    assert len(data) == 3 and data.samples == 12
    assert load(data) is data
    assert data.digest == load([{"src": torch.ones(4, 3)}] * 3).digest
    assert data.digest != load([{"src": torch.ones(4, 3).double()}] * 3).digest
    assert load([{"src": torch.ones(2, 2, dtype=torch.bfloat16)}]).digest


@pytest.mark.parametrize("name, content, message", [
    ("a.txt", b"\n \n", "a.txt: the data set is empty"),
    ("a.txt", b"\xff\xfe", "a.txt: must be UTF-8 text"),
    ("a.jsonl", b"", "a.jsonl: the data set is empty"),
    ("a.jsonl", b"{", "a.jsonl: line 1: not valid JSON"),
    ("a.jsonl", b"[1]\n", "a.jsonl: line 1: must be an object"),
    ("a.jsonl", b'{"text": 3}\n', "line 1: text must be a string, not int"),
    ("a.jsonl", b'{"input_ids": ["a"]}\n', "line 1: input_ids: must hold numbers"),
    ("a.jsonl", b'{"input_ids": [[1], [1, 2]]}\n', "line 1: input_ids: must hold numbers of one shape"),
    ("a.jsonl", b'{"input_ids": [1]}\n{"ids": [1]}\n', "samples must agree in their keys"),
    ("a.npz", b"PK\x03\x04 broken", "a.npz: not an .npz of arrays"),
    ("a.npz", b"", "a.npz: not an .npz of arrays"),
])  # fmt: skip
def test_data_at_fault_is_one_line_with_the_file(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        load(tmp_path / name, tokeniser=letters)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_other_faults_are_one_line_too(tmp_path):
    (tmp_path / "a.txt").write_text("ab")
    np.savez(tmp_path / "uneven.npz", a=np.zeros(2), b=np.zeros(3))
    (tmp_path / "nothing").mkdir()
    for source, message in (
        (tmp_path / "a.txt", "text needs a tokeniser"),
        (tmp_path / "uneven.npz", "must agree in their first axis"),
        (tmp_path / "nothing", "nothing: the data set is empty"),
        (tmp_path / "none", "none: cannot be read"),
        ([], "data: the data set is empty"),
        ({"input_ids": 1}, "data must be a path or an iterable of keyword arguments, not dict"),
        (3, "not int"),
        ([3], r"data\[0\] must be a mapping of keyword arguments, not int"),
    ):
        with pytest.raises(InputError, match=message):
            load(source)
    with pytest.raises(InputError, match=r"samples must be in 1\.\.1073741824, not 0"):
        Sampling(samples=0)


def test_packing_joins_the_samples_into_full_windows(tmp_path):
    lines = [f"line number {i}" for i in range(20)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    data = load(tmp_path / "a.txt", Sampling(samples=5, sequence_length=7, batch_size=2, pack=True), letters)
    windows = rows(data)
    assert len(windows) == 5 and all(len(window) == 7 for window in windows)
    text = "".join(chr(code) for window in windows for code in window)
    assert text.startswith("line number") and any(text.startswith(line) for line in lines)
    whole = load(tmp_path / "a.txt", Sampling(sequence_length=7, pack=True), letters)
    assert whole.samples == sum(map(len, lines)) // 7
    with pytest.raises(InputError, match=r"the data set is empty: it has fewer than 1000 tokens"):
        load(tmp_path / "a.txt", Sampling(sequence_length=1000, pack=True), letters)
    np.savez(tmp_path / "p.npz", pixel_values=np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"only sequences of input_ids can be packed, not \['pixel_values'\]"):
        load(tmp_path / "p.npz", Sampling(pack=True))


def test_only_the_samples_that_are_taken_are_tokenised(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {i}" for i in range(100)))
    calls = []
    load(tmp_path / "a.txt", Sampling(samples=3), lambda text: (calls.append(text), letters(text))[1])
    assert len(calls) == 3


def test_all_batches_of_a_caller_are_used_whatever_their_first_axis():
    batches = [{"src": torch.ones(128, 2)}] * 8
    assert len(load(batches)) == 8 and len(load([{"src": torch.ones(8, 2)}] * 200)) == 200


def test_a_line_separator_inside_json_text_is_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "the cat\u2028sat"}\r\n{"text": "b"}\n', newline="")
    assert sorted(rows(load(tmp_path / "a.jsonl", tokeniser=letters))) == sorted(
        [letters("the cat\u2028sat"), letters("b")]
    )


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.TXT"])
def test_a_file_of_another_kind_is_refused_by_its_ending(name, tmp_path):
    (tmp_path / name).write_text("[1]")
    with pytest.raises(InputError, match=rf"{name}: calibration data must end in \.txt.*, not \.{name[2:]}$"):
        load(tmp_path / name, tokeniser=letters)


def test_numpy_arrays_are_taken_and_empty_batches_left_out():
    data = load([{"input_ids": np.zeros((0, 3), dtype=np.int64)}, {"input_ids": np.array([[1, 2, 3]])}])
    assert len(data) == 1 and isinstance(data.batches[0]["input_ids"], torch.Tensor) and data.samples == 1


def test_an_npz_that_unpacks_to_far_more_than_its_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "UNPACKED", 1 << 16)
    np.savez_compressed(tmp_path / "bomb.npz", input_ids=np.zeros((64, 1 << 12), np.int64))
    with pytest.raises(InputError, match=r"bomb\.npz: unpacks to \d+ bytes; at most \d+ are read"):
        calibration.load(tmp_path / "bomb.npz")
    np.savez(tmp_path / "large.npz", input_ids=np.zeros((64, 1 << 12), np.int64))
    assert calibration.load(tmp_path / "large.npz").samples == 64


def test_an_array_whose_header_claims_more_than_the_file_holds_is_refused_unread(tmp_path):
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1125899906842624,), }"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("input_ids.npy", array)
    with pytest.raises(InputError, match=r"a\.npz: input_ids\.npy holds 64 bytes, not the 9007199254740992"):
        calibration.load(tmp_path / "a.npz")
