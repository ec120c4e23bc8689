"""A unit of its own, in one file: ReLU6 of an accumulator, requantised by a shift. `test_extension_unit` adds it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Module, Mux, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.arithmetic import shift_right
from rtl.blocks.pipeline import Fields, Step
from sim.common.errors import require_range
from sim.reference.arithmetic import code_range, round_half_up


@dataclass(frozen=True)
class Relu6Config:
    """Accumulators of `in_bits` to unsigned codes, right by up to `max_shift`; `stages` is the latency, 1..2."""

    in_bits: int = 12
    max_shift: int = 7
    stages: int = 2

    def __post_init__(self) -> None:
        require_range("in_bits", self.in_bits, 4, 32)
        require_range("max_shift", self.max_shift, 0, 15)
        pipeline.check_stages(self.stages, 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "Relu6Config":
        return cls(**content)

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"six": int(rng.integers(1, 256)), "shift": int(rng.integers(0, self.max_shift + 1))}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        low, high = code_range(self.in_bits, True)
        return {"payload": np.concatenate([[low, -1, 0, 1, high], rng.integers(low, high + 1, count)])}

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        return {"payload": np.clip(round_half_up(inputs["payload"], load["shift"]), 0, load["six"])}


class Relu6(wiring.Component):
    """min(max(round(A * 2**-shift), 0), six); `shift` and `six` are quasi-static."""

    def __init__(self, config: Relu6Config) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(signed(config.in_bits))),
                "o": Out(stream.Signature(unsigned(8))),
                "six": In(8),
                "shift": In(range(config.max_shift + 1)),
            }
        )

    def describe(self) -> dict[str, Any]:
        return {
            "parameters": self.config.to_dict(),
            "latency": self.config.stages,
            "interval": 1,
            "ranges": {"shift": [0, self.config.max_shift]},
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def scale(m: Module, f: Mapping[str, Value]) -> Fields:
            scaled = shift_right(f["payload"], self.shift)
            return {"rounded": (scaled[1:].as_signed() + scaled[0]).as_signed()}

        def limit(m: Module, f: Mapping[str, Value]) -> Fields:
            positive = Mux(f["rounded"] < 0, 0, f["rounded"])
            return {"code": Mux(positive > self.six, self.six, positive)[:8]}

        levels = pipeline.shift_levels(self.config.max_shift + 1)
        steps = [Step("scale", ("payload",), levels, scale), Step("limit", ("rounded",), 4, limit)]
        pipeline.build(m, self.i, self.o, steps, self.config.stages, result="code")
        return m
