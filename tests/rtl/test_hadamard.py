"""The butterfly unit against `sim.reference.hadamard`, with equality, and its latency against the formula."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from rtl import hadamard
from rtl.blocks import rounding
from rtl.hadamard import Butterflies, HadamardConfig, HadamardUnit
from rtl.rowwise.token import TokenConfig, TokenUnit
from sim.reference import InputError
from sim.reference.hadamard import Hadamard
from sim.reference.token import quantise_tokens
from tests.rtl.bench import simulate
from tests.rtl.elementwise import beats, mismatches, on


def test_every_block_of_two_4_bit_codes_equals_the_specification():
    codes = np.arange(-8, 8)
    x = np.stack(np.meshgrid(codes, codes), -1).reshape(-1)
    inputs = {"x": x, "last": np.arange(len(x)) % 2}
    for shift in (0, 1):
        assert on(inputs, HadamardConfig(2, 4, 4), HadamardUnit, {"shift": shift}) == []


@pytest.mark.parametrize("block, stages", [(2, 1), (4, 2), (8, 1), (32, 2), (64, 1)])
def test_blocks_equal_the_specification_stalled_or_not(block, stages):
    config = HadamardConfig(block, stages=stages)
    assert mismatches(config, HadamardUnit, 6 * block) == []
    assert mismatches(config, HadamardUnit, 6 * block + 1, seed=block) == []


@pytest.mark.parametrize("in_bits, out_bits", [(4, 16), (8, 8), (16, 4)])
def test_other_widths_equal_the_specification_at_every_shift(in_bits, out_bits):
    for shift in range(4):
        config = HadamardConfig(8, in_bits, out_bits)
        assert mismatches(config, HadamardUnit, 60, {"shift": shift}, seed=shift) == []


@pytest.mark.parametrize("block, stages", [(2, 1), (16, 2), (64, 1)])
def test_results_come_one_per_cycle_after_the_stated_latency(block, stages):
    unit = HadamardUnit(HadamardConfig(block, stages=stages))
    inputs = unit.config.random_inputs(np.random.default_rng(0), 3 * block)
    _, taken, given = simulate(unit, beats(inputs), settings={"shift": 0})
    assert [g - t for g, t in zip(given, taken, strict=True)] == [unit.describe()["latency"]] * (3 * block)


def test_the_token_quantiser_takes_its_results_as_they_come():
    class Both(wiring.Component):
        def __init__(self) -> None:
            self.first, self.second = HadamardUnit(HadamardConfig(8)), TokenUnit(TokenConfig(24, 4, rows=2))
            members = {"i": self.first.signature.members["i"], "o": self.second.signature.members["o"]}
            super().__init__({**members, "shift": self.first.signature.members["shift"]})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.submodules.first, m.submodules.second = self.first, self.second
            wiring.connect(m, wiring.flipped(self.i), self.first.i)
            wiring.connect(m, self.first.o, self.second.i)
            wiring.connect(m, self.second.o, wiring.flipped(self.o))
            m.d.comb += self.first.shift.eq(self.shift)
            return m

    x = np.random.default_rng(0).integers(-20000, 20000, (5, 24))
    last = np.zeros_like(x)
    last[:, -1] = 1
    got, _, _ = simulate(Both(), beats({"x": x.ravel(), "last": last.ravel()}), settings={"shift": 2}, seed=1)
    codes, magnitudes = quantise_tokens(Hadamard(8, 2).transform(x), 4)
    assert [beat["code"] for beat in got] == codes.ravel().tolist()
    assert [beat["magnitude"] for beat in got] == np.repeat(magnitudes.ravel(), 24).tolist()


def test_a_wrong_rounding_and_a_late_difference_are_seen(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(rounding, "shift_right", lambda value, shift: (value >> shift) << 1)
        assert mismatches(HadamardConfig(4), HadamardUnit, load={"shift": 1}) != []
    monkeypatch.setattr(hadamard, "Butterflies", lambda distance, bits: Butterflies(max(distance // 2, 1), bits))
    assert mismatches(HadamardConfig(8), HadamardUnit, load={"shift": 0}) != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"block": 24}, "block must be a power of two, not 24"),
        ({"block": 8192}, "block must be in 2..4096, not 8192"),
        ({"in_bits": 17}, "in_bits must be in 4..16, not 17"),
        ({"out_bits": 3}, "out_bits must be in 4..16, not 3"),
        ({"stages": 3}, "stages must be in 1..2, not 3"),
    ],
)
def test_a_bad_parameter_is_named(fields, message):
    with pytest.raises(InputError) as error:
        HadamardConfig(**fields)
    assert str(error.value) == message
