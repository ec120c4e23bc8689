"""What is reused from the cache is whole: anything else is made anew and said."""

import gzip
import json

import numpy as np
import pytest

from cost_model.cache import remember

TEXT = json.dumps([{"toggles": {"7": 12, "8": 3}, "cycles": 40}, {"vectors": 100}])


def kept(folder):
    return next(folder.iterdir())


DAMAGE = {
    "empty": lambda data, rng: b"",
    "truncated": lambda data, rng: data[: int(rng.integers(1, len(data)))],
    "one bit": lambda data, rng: _flipped(data, int(rng.integers(8 * len(data)))),
    "another text": lambda data, rng: gzip.compress(TEXT.encode()),
    "not UTF-8": lambda data, rng: gzip.compress(b"\xff\xfe"),
    "wrong JSON": lambda data, rng: _changed(data, "{", "["),
    "fewer toggles": lambda data, rng: _changed(data, "12", "11"),
    "negative toggles": lambda data, rng: _changed(data, "12", "-12"),
}


def _flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _changed(data, old, new):
    text = gzip.decompress(data).decode()
    assert old in text
    return gzip.compress(text.replace(old, new).encode())


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew_with_a_warning(damage, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert remember(tmp_path, "toggles", "unit", lambda: TEXT) == TEXT
        path = kept(tmp_path)
        whole = path.read_bytes()
        path.write_bytes(DAMAGE[damage](whole, rng))
        capsys.readouterr()
        made = []
        assert remember(tmp_path, "toggles", "unit", lambda made=made: made.append(1) or TEXT) == TEXT
        warned = capsys.readouterr().err
        if made:
            assert warned == f"warning: {path}: damaged or altered, and made anew\n"
            assert path.read_bytes() == whole
        else:  # the operating system's byte in the gzip header, or the like: the text is the same
            assert not warned and damage == "one bit"
            path.write_bytes(whole)


def test_an_entry_is_not_taken_for_another(tmp_path, capsys):
    remember(tmp_path, "toggles", "one", lambda: "one")
    first = kept(tmp_path)
    remember(tmp_path, "toggles", "two", lambda: "two")
    second = next(path for path in tmp_path.iterdir() if path != first)
    second.write_bytes(first.read_bytes())
    assert remember(tmp_path, "toggles", "two", lambda: "two") == "two" and "made anew" in capsys.readouterr().err


def test_a_whole_entry_is_not_computed_again(tmp_path):
    remember(tmp_path, "toggles", "unit", lambda: TEXT)
    assert remember(tmp_path, "toggles", "unit", lambda: pytest.fail("computed")) == TEXT
