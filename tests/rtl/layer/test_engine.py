"""The engine's Verilog in a bench without Python, and its parts in Amaranth's simulator."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.cli import main
from rtl.layer.config import EngineConfig, widest_norm
from rtl.layer.memory_access import Walker
from rtl.layer.transposer import Transposer
from sim.reference import InputError
from sim.reference import engine as hardware
from sim.reference.engine import Walk
from tests.rtl.layer.small import NORM, SOFTMAX, every_instruction
from tests.rtl.layer.user_bench import run_users_bench
from tests.sim.tables import secant_table

CONFIG = EngineConfig(SOFTMAX, NORM, lanes=4, words=64, row_units=2, max_tokens=5, max_inputs=8)


def _run(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(
    "walk", [Walk(5, (3, 2, 4), (1, -7, 9)), Walk(60, (1, 1, 1)), Walk(0, (1, 5, 1), (0, 13, 0)), Walk(9, (2, 1, 3))]
)
def test_a_walker_has_the_walks_addresses(walk):
    walker, found = Walker(CONFIG), []

    async def bench(ctx):
        ctx.set(walker.walk.as_value(), _encoded(walk))
        ctx.set(walker.base, walk.base)
        ctx.set(walker.start, 1)
        await ctx.tick()
        ctx.set(walker.start, 0)
        ctx.set(walker.step, 1)
        while ctx.get(walker.active) and len(found) < 99:
            found.append(ctx.get(walker.address))
            await ctx.tick()

    _run(walker, bench)
    assert found == walk.addresses(CONFIG.words).tolist()


def _encoded(walk):
    layout, values = CONFIG.walk, {"base": walk.base}
    for level in range(3):
        values |= {f"count_{level}": walk.counts[level], f"stride_{level}": walk.strides[level] % CONFIG.words}
    return sum(value << layout[name].offset for name, value in values.items())


@pytest.mark.parametrize("tiles, seed", [(1, 0), (2, 1), (5, 2), (5, None)])
def test_a_transposer_turns_every_tile(tiles, seed):
    lanes, component = CONFIG.lanes, Transposer(CONFIG)
    rng = np.random.default_rng(seed or 0)
    words = rng.integers(-128, 128, (tiles * lanes, lanes))
    beats = []

    async def bench(ctx):
        ctx.set(component.start, 1)
        await ctx.tick()
        ctx.set(component.start, 0)
        given = 0
        for _ in range(40 * tiles * lanes):
            offered = given < len(words) and (seed is None or rng.random() < 0.6)
            wanted = seed is None or rng.random() < 0.6
            ctx.set(component.more, given < len(words))
            ctx.set(component.i.valid, offered)
            ctx.set(component.o.ready, wanted)
            if offered:
                ctx.set(component.i.payload, words[given].tolist())
            if wanted and ctx.get(component.o.valid):
                beats.append([ctx.get(component.o.payload[k]) for k in range(lanes)])
            given += offered and ctx.get(component.i.ready)
            await ctx.tick()

    _run(component, bench)
    expected = words.reshape(tiles, lanes, lanes).transpose(0, 2, 1)[:, ::-1].reshape(-1, lanes)
    assert beats == expected.tolist()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is missing")
def test_every_instruction_runs_in_a_users_bench(tmp_path):
    program = every_instruction(CONFIG)
    specification = hardware.Engine(CONFIG.words, CONFIG.lanes)
    specification.run(program)
    results = specification.read(program[-1].o)
    assert run_users_bench(tmp_path, CONFIG, program, results).startswith(f"{len(results)} results, 0 wrong, ")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"lanes": 12}, "lanes must be a power of two, not 12"),
        ({"words": 100}, "words must be a power of two, not 100"),
        ({"row_units": 9, "lanes": 8}, r"row_units must be in 1\.\.8, not 9"),
        ({"max_tokens": 1}, "max_tokens must be in"),
        ({"stages": 9}, "stages must be in"),
    ],
)
def test_a_bad_parameter_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        EngineConfig(SOFTMAX, NORM, **fields)


def test_the_command_writes_the_engine_and_what_a_host_must_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("exp", "div", "rsqrt"):
        secant_table(name).save(f"{name}.json")
    tables = [part for name in ("exp", "div", "rsqrt") for part in (f"--{name}", f"{name}.json")]
    sizes = ["--lanes", "2", "--words", "64", "--max-tokens", "4", "--max-inputs", "8", "--length", "8"]
    assert main(["layer", *tables, *sizes, "--rms", "--decoder", "-o", "engine.v"]) == 0
    about = json.loads(Path("engine.rtl.json").read_text())
    assert about["operations"]["rotate"] == 10 and {"layout", "streams", "cycles", "host"} <= about.keys()
    assert list(about["loads"]) == list(about["tables"]) and all(about["loads"].values())
    assert main(["layer", *tables, "--lanes", "3", "-o", "engine.v"]) == 2
    assert "lanes must be a power of two, not 3" in capsys.readouterr().err


def test_the_widest_norm_holds_all():
    assert widest_norm([NORM, NORM]).length == NORM.length
