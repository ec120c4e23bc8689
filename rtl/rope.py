"""The rotation of RoPE in gates: `sim.reference.rope`, a pair of codes turned by an angle's cosine and sine.

y_a = saturate(round_half_up((a * cos - b * sin) * 2**-k)),   y_b = saturate(round_half_up((b * cos + a * sin) * 2**-k))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.operands import random_codes
from rtl.blocks.pipeline import Fields, Step
from rtl.blocks.rounding import rounding_steps
from rtl.unit_config import UnitConfig
from sim.common.errors import require_range
from sim.reference.rope import FRAC_BITS, TABLE_BITS, TABLE_TOP, Rope

MAX_SHIFT = 30  # that of the specification


@dataclass(frozen=True)
class RopeConfig(UnitConfig):
    """Widths in bits of the signed codes, 4..16; cosines and sines have 16, of which 14 are fraction bits.

    `max_shift` is the largest k, 0..30; `stages` the latency in cycles, 1..4. A value out of its range raises
    `InputError` with its name.
    """

    in_bits: int = 16
    out_bits: int = 16
    max_shift: int = MAX_SHIFT
    stages: int = 3

    def __post_init__(self) -> None:
        Rope(self.in_bits, self.out_bits)  # checks the widths
        require_range("max_shift", self.max_shift, 0, MAX_SHIFT)
        pipeline.check_stages(self.stages, 4)

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first: the angle belongs to position and pair, so it travels with the codes."""
        codes = {"a": signed(self.in_bits), "b": signed(self.in_bits)}
        return StructLayout({**codes, "cosine": signed(TABLE_BITS), "sine": signed(TABLE_BITS)})

    @property
    def out_layout(self) -> StructLayout:
        """The output payload, lowest bit first."""
        return StructLayout({"a": signed(self.out_bits), "b": signed(self.out_bits)})

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """A shift around the one that keeps the scale."""
        near = FRAC_BITS + self.in_bits - self.out_bits + int(rng.integers(-1, 3))
        return {"shift": min(max(near, 0), self.max_shift)}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Corners, then random codes; half of the angles are on the circle, the others anything that a table holds."""
        widths = {"a": self.in_bits, "b": self.in_bits, "cosine": TABLE_BITS, "sine": TABLE_BITS}
        beats = random_codes(rng, count, widths)
        angle = rng.uniform(0, 2 * np.pi, len(beats["a"]))
        real = (np.arange(len(angle)) >= len(angle) - count) & (rng.random(len(angle)) < 0.5)
        for name, function in (("cosine", np.cos), ("sine", np.sin)):
            on_circle = np.floor(function(angle) * 2**FRAC_BITS + 0.5).astype(np.int64)
            beats[name] = np.where(real, on_circle, beats[name]).clip(-TABLE_TOP, TABLE_TOP)
        return beats

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The codes that the specification gives."""
        pairs = np.stack([inputs["a"], inputs["b"]], -1)
        angle = (inputs[name][:, None] for name in ("cosine", "sine"))
        turned = Rope(self.in_bits, self.out_bits, load["shift"]).rotate(pairs, *angle)
        return {"a": turned[:, 0], "b": turned[:, 1]}


class RopeUnit(wiring.Component):
    """The rotation of a pair of codes as a component, with stall and reset as in `rtl.blocks.pipeline`.

    The latency is `stages` cycles, the throughput one pair per cycle.

    Streams: `i` carries (a, b, cosine, sine), `o` carries the rotated (a, b). The input `shift` is quasi-static:
    changing it with beats in flight is undefined.
    """

    def __init__(self, config: RopeConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.in_layout)),
                "o": Out(stream.Signature(config.out_layout)),
                "shift": In(range(config.max_shift + 1)),
            }
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        return {
            "parameters": self.config.to_dict(),
            "latency": self.config.stages,
            "interval": 1,
            "result": "o__payload.a = saturate(round_half_up((a * cosine - b * sine) * 2**-shift)), "
            "o__payload.b = saturate(round_half_up((b * cosine + a * sine) * 2**-shift))",
            "ranges": {
                "shift": [0, self.config.max_shift],
                **{f"i__payload.{name}": [-TABLE_TOP, TABLE_TOP] for name in ("cosine", "sine")},
            },
            "outside_ranges": "undefined",
            "quasi_static": "shift must not change with beats in flight: drain first",
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
            beat = View(config.in_layout, f["payload"])
            return {
                "along_0": beat.a * beat.cosine,
                "along_1": beat.b * beat.cosine,
                "across_0": beat.b * beat.sine,
                "across_1": beat.a * beat.sine,
            }

        def add(m: Module, f: Mapping[str, Value]) -> Fields:
            along, across = ([f[f"{name}_{k}"].as_signed() for k in range(2)] for name in ("along", "across"))
            return {"total_0": along[0] - across[0], "total_1": along[1] + across[1]}

        def join(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"pair": Cat(f["code_0"], f["code_1"])}

        products = ("along_0", "along_1", "across_0", "across_1")
        scale, limit = pipeline.lanes(rounding_steps("total", self.shift, config.max_shift, signed(config.out_bits)), 2)
        steps = [
            Step("multiply", ("payload",), pipeline.multiplier_levels(config.in_bits, TABLE_BITS), multiply),
            Step("add", products, pipeline.adder_levels(config.in_bits + TABLE_BITS), add),
            scale,
            Step("limit", limit.reads, limit.levels, lambda m, f: join(m, limit.logic(m, f))),
        ]
        pipeline.build(m, self.i, self.o, steps, config.stages, result="pair")
        return m
