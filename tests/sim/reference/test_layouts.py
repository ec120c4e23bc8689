"""Exports read back by independent readers give the lowered table."""

import io
import re
import shutil
import subprocess

import numpy as np
import pytest

from sim.reference import InputError
from sim.reference.layouts import identifier, to_c, to_hex, to_npz

from .test_pwl import random_table

WIDTHS = [(4, 8), (8, 8), (16, 16), (32, 32)]


def lowered(in_bits, coef_bits, seed=0):
    table = random_table(np.random.default_rng(seed), in_bits, coef_bits)
    return table.lower(2, min(0, table.slope_frac_bits))


@pytest.mark.parametrize("in_bits, coef_bits", WIDTHS)
def test_hex_words_in_load_order_are_the_table(in_bits, coef_bits):
    low = lowered(in_bits, coef_bits)
    width = max(in_bits, coef_bits)
    words = [int(line, 16) for line in to_hex(low).splitlines() if not line.startswith("//")]
    signed = [w - (1 << width) if w >> (width - 1) else w for w in words]
    assert signed == [*low.thresholds, *low.slopes, *low.intercepts]
    assert all(len(line) == -(-width // 4) for line in to_hex(low).splitlines() if not line.startswith("//"))


@pytest.mark.parametrize("in_bits, coef_bits", WIDTHS)
def test_npz_holds_the_stored_keys_and_repeats_its_bytes(in_bits, coef_bits):
    low = lowered(in_bits, coef_bits)
    with np.load(io.BytesIO(to_npz(low))) as content:
        assert {k: tuple(v.tolist()) if v.ndim else int(v) for k, v in content.items()} == low.stored()
    assert to_npz(low) == to_npz(low)


@pytest.mark.parametrize("in_bits, coef_bits", WIDTHS)
def test_the_c_header_compiles_and_prints_the_table(in_bits, coef_bits, tmp_path):
    low = lowered(in_bits, coef_bits)
    header = to_c(low, "gelu-8.s2")
    (tmp_path / "t.h").write_text(header)
    prints = []
    for key, value in low.stored().items():
        name = f"gelu_8_s2_{key}"
        assert re.search(rf"\b{name}\b", header)
        if isinstance(value, tuple):
            prints.append(f'for (int i = 0; i < {len(value)}; i++) printf("%ld ", (long){name}[i]); puts("");')
        else:
            prints.append(f'printf("%d \\n", {name});')
    (tmp_path / "t.cc").write_text('#include <stdio.h>\n#include "t.h"\nint main() {' + "".join(prints) + "}")
    compiler = shutil.which("g++")
    assert compiler, "the system tools of `make test` bring g++"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", tmp_path / "t", tmp_path / "t.cc"], check=True)
    printed = subprocess.run([tmp_path / "t"], check=True, capture_output=True, text=True).stdout.splitlines()
    expected = [v if isinstance(v, tuple) else (v,) for v in low.stored().values()]
    assert [tuple(map(int, line.split())) for line in printed] == expected


def test_a_layout_without_output_shift_is_refused():
    table = random_table(np.random.default_rng(1))
    with pytest.raises(InputError, match="output_scale must be given"):
        to_npz(table.lower(0))


@pytest.mark.parametrize("name", ["*/ x", "a\nb", 'a"b', "../x", "/tmp/x", "8é", "a;b", ""])
def test_any_name_becomes_an_identifier(name):
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", identifier(name))
