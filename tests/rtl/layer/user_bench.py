"""Runs `user_bench.v`: a program and its words go to files, and from there on no Python is involved."""

import subprocess
from pathlib import Path

import numpy as np

from rtl.emit import emit
from rtl.layer.config import EngineConfig
from rtl.layer.encoding import encode
from rtl.layer.engine import Engine
from sim.reference.engine import Instruction


def run_users_bench(folder: Path, config: EngineConfig, program: list[Instruction], results: np.ndarray) -> str:
    """What the bench prints for a program that must store these words (W, lanes), in Icarus."""
    description = emit(folder / "engine.v", "layer", Engine(config))
    encoded = encode(config, program)
    files = {
        "program": encoded.program,
        "i": [_packed(word, 16) for words in encoded.i for word in words],
        "w": [_packed(word, 8) for words in encoded.w for word in words],
        "c": encoded.c,
        "results": [_packed(word, 16) for word in results],
    }
    for name, values in files.items():
        (folder / f"{name}.hex").write_text("".join(f"{value:x}\n" for value in values))
    names = ("PROGRAM", "WORDS", "WEIGHTS", "CHANNELS", "RESULTS")
    defines = [f"-D{name}={len(values)}" for name, values in zip(names, files.values(), strict=True)]
    widths = {row["name"]: row["width"] for row in description["ports"]}
    for name, port in (("PROGRAM", "program"), ("WORD", "i"), ("WEIGHT", "w"), ("CHANNEL", "c")):
        defines.append(f"-D{name}_BITS={widths[f'{port}__payload']}")
    bench = Path(__file__).with_name("user_bench.v")
    command = ["iverilog", "-g2005", "-o", "bench", *defines, str(bench), "engine.v"]
    subprocess.run(command, cwd=folder, check=True)
    return subprocess.run(["vvp", "-n", "bench"], cwd=folder, check=True, capture_output=True, text=True).stdout


def _packed(elements, bits):
    return sum((int(e) & ((1 << bits) - 1)) << (bits * k) for k, e in enumerate(elements))
