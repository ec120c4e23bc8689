"""The words that a simulator stored, as it writes them to a file."""

import numpy as np

from sim.cosim.run_layer import _read


def test_addresses_between_the_words_are_not_words(tmp_path):
    words = np.arange(40 * 2).reshape(40, 2) - 9
    lines = [f"{(int(b) & 0xFFFF) << 16 | int(a) & 0xFFFF:08x}" for a, b in words]
    (tmp_path / "verilator.hex").write_text("\n".join(lines) + "\n")
    commented = [line for k, word in enumerate(lines) for line in ([f"// 0x{k:08x}"] if k % 16 == 0 else []) + [word]]
    (tmp_path / "icarus.hex").write_text("\n".join(commented) + "\n")
    assert all((_read(tmp_path / f"{name}.hex", 2) == words).all() for name in ("verilator", "icarus"))
    assert _read(tmp_path / "none.hex", 2).shape == (0, 2)
