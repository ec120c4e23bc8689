"""Behind the array: from a token's sums to codes, y = saturate(round((bias + magnitude * sum) * m * 2**-k)).

`sim.reference.token` defines the magnitude's part; without magnitudes it is `sim.reference.gemm`.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.arithmetic import saturate
from rtl.blocks.pipeline import Fields, Step
from rtl.layer.config import EngineConfig
from rtl.requant import requant_steps
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, TOTAL_BITS
from sim.reference.token import IN_BITS


class Results(wiring.Component):
    """The columns' results as a component, with stall and reset as in `rtl.blocks.pipeline`.

    `i` carries the sums of all columns, their constants and the token's magnitude; `o` the word of codes. `narrow` is
    quasi-static.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.layout = StructLayout(
            {"sums": config.array.out_layout, "channels": config.channels, "magnitude": unsigned(IN_BITS)}
        )
        super().__init__(
            {
                "i": In(stream.Signature(self.layout)),
                "o": Out(stream.Signature(config.word)),
                "narrow": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline.build(m, self.i, self.o, self._steps(), self.config.stages, result="word")
        return m

    def _steps(self) -> list[Step]:
        config = self.config
        requant, sums = config.requant, config.array.accumulator_bits

        def split(m: Module, f: Mapping[str, Value]) -> Fields:
            beat: Any = View(self.layout, f["payload"])
            made: dict[str, Any] = {}
            for c in range(config.lanes):
                made |= {
                    f"sum_{c}": beat.sums[c],
                    f"magnitude_{c}": beat.magnitude,
                    f"bias_{c}": beat.channels[c].bias,
                    f"scale_{c}": Cat(beat.channels[c].multiplier, beat.channels[c].shift),
                }
            return made

        def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"weighed": f["sum"] * f["magnitude"]}

        def add(m: Module, f: Mapping[str, Value]) -> Fields:
            # no layer that the specification takes exceeds this width
            return {"payload": Cat((f["weighed"] + f["bias"])[:TOTAL_BITS], f["scale"])}

        def limit(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"result": Mux(self.narrow, saturate(f["code"], signed(NARROW_BITS)), f["code"])}

        def gather(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"word": Cat(f[f"result_{c}"][:ELEMENT_BITS] for c in range(config.lanes))}

        lanes = [
            Step("multiply", ("sum", "magnitude"), pipeline.multiplier_levels(sums, IN_BITS), multiply),
            Step("bias", ("weighed", "bias", "scale"), pipeline.adder_levels(TOTAL_BITS), add),
            *requant_steps(requant, C(0, signed(ELEMENT_BITS))),
            Step("limit", ("code",), 3, limit),
        ]
        results = tuple(f"result_{c}" for c in range(config.lanes))
        return [
            Step("split", ("payload",), 0, split),
            *pipeline.lanes(lanes, config.lanes),
            Step("gather", results, 0, gather),
        ]
