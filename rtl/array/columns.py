"""Below the grid: for each column, logic that turns the sums of a tile into accumulators; one control for all columns.

join    sum = 2**h * (sum of the high parts, a cycle earlier) + sum of the low parts   with two passes
zero    sum - z_g * (sum of the activations)                                           with zero points
scale   m_g * that                                                                     with group multipliers
add     A[token] = (bias, or A[token] from the tiles before) + that

Each step takes one cycle. Scaling each tile instead of each group gives the same result, because it is linear, nothing
is rounded, and a tile lies within one group.
"""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.array.config import ArrayConfig
from rtl.array.controller import tag_layout


class Columns(wiring.Component):
    """The columns as a component. Every register moves in every cycle (the parent enables it).

    `sums` and `activation_sum` come from the grid, R + C cycles after the `tag` of their vector. `group` and `channel`
    are the operands' payloads, taken in a cycle in which `need_group` or `need_channel` is 1. In a cycle in which
    `valid` is 1, `result` holds (A, m_c, k_c) of each column, for a token whose inputs are all summed. After a reset
    nothing is valid until a new tag has passed.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        ports: dict[str, Any] = {
            "tag": In(tag_layout(config)),
            "sums": In(ArrayLayout(config.sum_shape(config.rows), config.columns)),
            "channel": In(config.channel_layout),
            "need_channel": Out(1),
            "result": Out(config.result_layout),
            "valid": Out(1),
        }
        if not config.weight_signed:
            ports["activation_sum"] = In(config.activation_sum_shape(config.rows))
        if config.has_group_parameters:
            ports |= {"group": In(config.group_layout), "need_group": Out(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        tags: list[Any] = [self.tag]  # tags[d]: the tag of the vector that entered d cycles ago
        for d in range(config.accumulate_latency):
            tags.append(Signal(tag_layout(config), name=f"tag_{d}"))
            m.d.sync += tags[-1].eq(tags[-2])
        sums = [self.sums[c] for c in range(config.columns)]
        activations = getattr(self, "activation_sum", None)
        stage = config.rows + config.columns
        if config.two_pass:
            sums, activations = self._join(m, sums, activations, tags[stage].joined)
            stage += 1
        if config.has_group_parameters:
            sums = self._group(m, sums, activations, tags[stage - 1])
        self._add(m, sums, tags[-2], tags[-1])
        return m

    def _join(
        self, m: Module, sums: list[Value], activations: Value | None, joined: Value
    ) -> tuple[list, Value | None]:
        """Join the sums of the high and the low parts, and likewise the sums of the activations."""

        def join(value: Value, shape: Any, name: str) -> Signal:
            high = Signal.like(value, name=f"high_{name}", reset_less=True)
            both = Signal(shape, name=f"joined_{name}", reset_less=True)
            m.d.sync += [high.eq(value), both.eq(Mux(joined, high << self.config.pass_bits, 0) + value)]
            return both

        column, activation = self.config.joined_shapes
        lanes: list = [join(value, column, f"sum_{c}") for c, value in enumerate(sums)]
        return lanes, None if activations is None else join(activations, activation, "activation_sum")

    def _group(self, m: Module, sums: list[Value], activations: Value | None, tag: Any) -> list[Value]:
        """Zero points and group multipliers, taken one cycle before the first sums that need them."""
        config = self.config
        group = Signal(config.group_layout, reset_less=True)
        m.d.comb += self.need_group.eq(tag.valid & tag.group)
        with m.If(self.need_group):
            m.d.sync += group.eq(self.group)
        multipliers: Any = group
        if activations is not None:
            shape = config.corrected_shape
            sums = [
                _register(m, shape, f"corrected_{c}", value - group[c].zero_point * activations)
                for c, value in enumerate(sums)
            ]
        if not config.group_multiplier_bits:
            return sums
        if activations is not None:
            multipliers = Signal(config.group_layout, name="group_scale", reset_less=True)
            m.d.sync += multipliers.eq(group)
        return [_register(m, None, f"scaled_{c}", value * multipliers[c].multiplier) for c, value in enumerate(sums)]

    def _add(self, m: Module, sums: list[Value], before: Any, now: Any) -> None:
        """The accumulators: read in the cycle `before`, added to and written in the cycle `now`."""
        config = self.config
        word = ArrayLayout(config.requant.in_layout["value"].shape, config.columns)
        m.submodules.accumulators = memory = Memory(shape=word, depth=config.depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        channel = Signal(config.channel_layout, reset_less=True)
        following, address = Signal(range(config.depth), reset_less=True), Signal(range(config.depth), reset_less=True)
        m.d.comb += [
            self.need_channel.eq(before.valid & before.first & before.start),
            read.addr.eq(Mux(before.start, 0, following)),
            read.en.eq(before.valid & ~before.first),
            write.addr.eq(address),
            write.en.eq(now.valid & ~now.last),
            self.valid.eq(now.valid & now.last),
        ]
        m.d.sync += address.eq(read.addr)
        with m.If(before.valid):
            m.d.sync += following.eq(read.addr + 1)
        with m.If(self.need_channel):
            m.d.sync += channel.eq(self.channel)
        for c, value in enumerate(sums):
            total = Signal(word.elem_shape, name=f"total_{c}")
            m.d.comb += [
                total.eq(Mux(now.first, channel[c].bias, read.data[c]) + value),
                write.data[c].eq(total),
                self.result[c].value.eq(total),
                self.result[c].multiplier.eq(channel[c].multiplier),
                self.result[c].shift.eq(channel[c].shift),
            ]


def _register(m: Module, shape: Any, name: str, value: Value) -> Signal:
    register = Signal(value.shape() if shape is None else shape, name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register
