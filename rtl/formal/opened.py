"""The unit with its inside reachable: the table on ports, and the pipeline opened where a proof is split.

The logic and the register ranks are those of `rtl.pwl` and `rtl.pipeline`; only the wires between steps differ.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from amaranth.hdl import Cat, Module, Shape, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl import pipeline, storage
from rtl.pipeline import Fields, Step
from rtl.pwl import PwlConfig, build_table, pwl_steps


def ranks_before(config: PwlConfig) -> dict[str, int]:
    """For each step, how many register ranks a beat has passed when it gets there."""
    inputs: list[Any] = [Value.cast(0)] * config.entries
    steps = pwl_steps(config, inputs[1:], inputs, inputs, 0, 0)
    ends = pipeline.cut([step.levels for step in steps], config.stages)
    return {step.name: sum(end < position for end in ends) for position, step in enumerate(steps)}


class OpenedUnit(wiring.Component):
    """The pipeline with `thresholds`, `slopes`, `intercepts` as packed inputs, entry 0 lowest.

    What goes into the multiplier comes out on `factor_q` and `factor_slope`. Where `cut` is false, `slope`, `intercept`
    and `product` are outputs; where it is true, the steps that make them are gone and they are inputs.
    """

    def __init__(self, config: PwlConfig, cut: bool) -> None:
        self.config, self.cut = config, cut
        coefficient = signed(config.coef_bits)
        flow = In if cut else Out
        super().__init__(
            {
                "i": In(stream.Signature(config.in_shape)),
                "o": Out(stream.Signature(config.out_shape)),
                "thresholds": In(config.in_bits * (config.entries - 1)),
                "slopes": In(config.coef_bits * config.entries),
                "intercepts": In(config.coef_bits * config.entries),
                "slope": flow(coefficient),
                "intercept": flow(coefficient),
                "product": flow(signed(config.in_bits + config.coef_bits)),
                "factor_q": Out(config.in_shape),
                "factor_slope": Out(coefficient),
                **{name: In(range(config.largest(name) + 1)) for name in config.shift_ports},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        coefficient = signed(config.coef_bits)
        table = [
            _words(self.thresholds, config.in_shape),
            _words(self.slopes, coefficient),
            _words(self.intercepts, coefficient),
        ]
        shifts = [getattr(self, name, getattr(config, name) or 0) for name in ("intercept_shift", "output_shift")]
        steps = [self._opened(step) for step in pwl_steps(config, *table, *shifts)]
        pipeline.build(m, self.i, self.o, steps, config.stages, result=config.output)
        return m

    def _opened(self, step: Step) -> Step:
        made = {"select": ("slope", "intercept"), "multiply": ("product",)}.get(step.name)
        if made is None:
            return step

        def logic(m: Module, f: Mapping[str, Value]) -> Fields:
            if step.name == "multiply":
                m.d.comb += [self.factor_q.eq(f["q"]), self.factor_slope.eq(f["slope"])]
            ports = {name: getattr(self, name) for name in made}
            if self.cut:
                return ports
            m.d.comb += [getattr(self, name).eq(value) for name, value in step.logic(m, f).items()]
            return ports

        return replace(step, logic=logic)


class OpenedTable(wiring.Component):
    """The flip-flop table of `config` alone: its write port, and every word packed into `words`, thresholds lowest."""

    def __init__(self, config: PwlConfig) -> None:
        self.config = config
        width = config.in_bits * (config.entries - 1) + 2 * config.coef_bits * config.entries
        super().__init__({"table": In(storage.port(config.entries, config.data_bits)), "words": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.words.eq(Cat(*build_table(m, self.config, self.table, "")))
        return m


def _words(packed: Value, shape: Shape) -> list[Value]:
    words = [packed[k : k + shape.width] for k in range(0, len(packed), shape.width)]
    return [word.as_signed() for word in words] if shape.signed else words
