"""The whole array: jobs and operands in, codes out; with a piecewise-linear unit GEMM, bias and GELU in one.

Grid and columns move together, in a cycle in which the constants that they need are valid and their result, if any, is
taken. The pipeline from the accumulator to the output (`rtl.blocks.pipeline`) moves by itself. The controller moves
with the grid if the weights and activations that it needs are valid; otherwise it waits while the grid drains.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from amaranth.hdl import Cat, EnableInserter, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import View
from amaranth.lib.wiring import In, Out

from rtl.array.columns import Columns
from rtl.array.config import ArrayConfig
from rtl.array.controller import Controller
from rtl.array.core import Grid
from rtl.blocks import pipeline, storage
from rtl.blocks.pipeline import Fields, Step
from rtl.pwl import build_table, describe_table, pwl_steps
from rtl.requant import requant_steps
from sim.reference.array_cycles import HAZARD

ORDER = {
    "i": "jobs: tokens M, input_tiles T_k, output_tiles T_n, each at least 1; two_pass, if there, 1 for 8 bits",
    "w": "for each output tile, each block of `depth` tokens, each input tile: R beats of C weights, last row first",
    "a": "for each output tile, each block, each input tile, each token of the block: R activations",
    "g": "for each output tile, each block, each group: m_g and z_g of the C columns",
    "c": "for each output tile, each block: bias, m_c and k_c of the C columns",
    "o": "for each output tile, each token: C codes",
    "tiles": "inputs are cut into tiles of R within each group, so T_k = floor(K / group) * ceil(group / R) + "
    "ceil((K mod group) / R), per channel ceil(K / R); T_n = ceil(N / C); a row of a tile that has no input has the "
    "zero point as weight (0 where weights are signed)",
}


def present(config: ArrayConfig, texts: Mapping[str, str]) -> dict[str, str]:
    """`texts` without those of operands that the array does not have."""
    absent = {"w", "a", "g", "c"} - set(config.operand_layouts)
    return {name: text for name, text in texts.items() if name not in absent}


def cycles_text(config: ArrayConfig) -> str:
    """The cycle formula of `sim.reference.array_cycles` with the array's numbers."""
    return (
        f"1 + {config.rows} + sum over all tiles but the last of max(passes * s, {config.rows}, {HAZARD}) "
        f"+ passes * s_last + {config.latency}, s the tokens of the tile's block (at most {config.depth})"
    )


class Gemm(wiring.Component):
    """The array as a component; `rtl.array.controller` defines the order of its streams.

    `i` takes jobs, the next one as soon as the last one's beats are in. `w`, `a`, `g` and `c` are the operands; `g`
    exists only if the array has zero points or group multipliers. `o` carries a code for each column. A job that needs
    the results of another one must not be offered before they are available.

    `zero_point` is quasi-static, and with a piecewise-linear unit its table and shifts are too: changing them with
    beats in flight is undefined.
    """

    stall = (
        "A beat of w and of a is taken in a cycle in which all that the job needs of the two is valid; while one is "
        "late, what was taken before goes on to o, so that a job which is announced early withholds no results. (Where "
        "an activation takes two passes, w late between them stops the array.) The array stops, and takes nothing, "
        "while a beat of g or c that it needs is not valid or a result is not taken. A ready depends within the cycle "
        "on the valids of the other streams and on the pipeline to o, which moves while o__valid is 0 or o__ready is "
        "1. While o__valid is 1 and o__ready is 0, o__payload is stable."
    )
    reset = (
        "rst is synchronous and active high. It ends the job, drops every beat in flight and any offered while it is "
        "high; o__valid is 0 from the next cycle on. Operands must then start anew with the next job. The table keeps "
        "its content."
    )

    def __init__(self, config: ArrayConfig, latch_cell: str = "latch") -> None:
        self.config = config
        self.latch_cell = latch_cell
        ports: dict[str, Any] = {
            "i": In(stream.Signature(config.job_layout)),
            **{name: In(stream.Signature(layout)) for name, layout in config.operand_layouts.items()},
            "o": Out(stream.Signature(config.out_layout)),
            "zero_point": In(config.requant.out_shape),
        }
        if config.pwl is not None:
            if config.pwl.storage != "constants":
                ports["table"] = In(storage.port(config.pwl.entries, config.pwl.data_bits))
            ports |= {name: In(range(config.pwl.largest(name) + 1)) for name in config.pwl.shift_ports}
        super().__init__(ports)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config = self.config
        parameters = {key: value for key, value in asdict(config).items() if key != "pwl"}
        unit = None
        if config.pwl is not None:
            unit = {key: value for key, value in config.pwl.to_dict().items() if key not in ("constants", "stages")}
        parameters |= {"bias_bits": config.bias_width, "acc_bits": config.accumulator_bits}
        low, high = config.accumulator_range
        return {
            "parameters": parameters | {"pwl": unit},
            "accumulator": {"lowest": low, "highest": high},
            "latency": config.latency,
            "interval": config.passes,
            "cycles": cycles_text(config),
            "streams": present(config, ORDER),
            "quasi_static": "zero_point, table and shifts must not change with beats in flight: drain first",
            **({} if config.pwl is None else describe_table(config.pwl)),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        fed, move, go = Signal(), Signal(), Signal()  # fed: weights and activations are there; go: the controller moves
        controller, grid, columns = Controller(config), Grid(config), Columns(config)
        for name, part, enable in (("controller", controller, go), ("grid", grid, move), ("columns", columns, move)):
            m.submodules[name] = EnableInserter(enable)(part)

        constants = [(self.c, columns.need_channel)]
        if config.has_group_parameters:
            constants.append((self.g, columns.need_group))
            m.d.comb += columns.group.eq(self.g.payload)
        complete: Value = Cat(~need | operand.valid for operand, need in constants).all()
        if config.two_pass:  # an activation's low part must follow its high part
            complete &= fed | ~(controller.joined & controller.done)
        for operand, need in constants:
            m.d.comb += operand.ready.eq(move & need)
        m.d.comb += [
            fed.eq((~controller.load | self.w.valid) & (~controller.active | self.a.valid)),
            go.eq(move & fed),
            self.w.ready.eq(go & controller.load),
            self.a.ready.eq(go & controller.done),
            controller.jobs.payload.eq(self.i.payload),
            controller.jobs.valid.eq(self.i.valid),
            self.i.ready.eq(go & controller.jobs.ready),
            grid.weights.eq(self.w.payload),
            grid.shift.eq(Mux(fed, controller.shift, 0)),
            grid.swap.eq(controller.swap & fed),
            columns.tag.eq(controller.tag),
            columns.tag.valid.eq(controller.tag.valid & fed),
            columns.sums.eq(grid.sums),
            columns.channel.eq(self.c.payload),
        ]
        if not config.weight_signed:
            m.d.comb += columns.activation_sum.eq(grid.activation_sum)
        operands = Signal(grid.operands.shape(), reset_less=True)
        m.d.comb += grid.operands.eq(operands)
        with m.If(go & controller.active):
            m.d.sync += [operands[r].eq(self._part(controller, self.a.payload[r])) for r in range(config.rows)]

        result = stream.Signature(config.result_layout).create(path=("result",))
        m.d.comb += [
            result.payload.eq(columns.result),
            result.valid.eq(columns.valid & complete),
            move.eq(complete & (~columns.valid | result.ready)),
        ]
        pipeline.build(m, result, self.o, self._output_steps(m), config.stages, result="codes")
        return m

    def _part(self, controller: Controller, activation: Value) -> Value:
        """The operand of the grid: the whole activation, or its high or low part."""
        if not self.config.two_pass:
            return activation
        bits = self.config.pass_bits
        low, high = activation[:bits], activation[bits:].as_signed()
        return Mux(controller.high, high, Mux(controller.joined, low, low.as_signed()))

    def _output_steps(self, m: Module) -> list[Step]:
        """From an accumulator's sum, made in the first stage, to the codes of all columns."""
        config = self.config

        def split(m: Module, f: Mapping[str, Value]) -> Fields:
            beat = View(config.result_layout, f["payload"])
            return {f"payload_{c}": Value.cast(beat[c]) for c in range(config.columns)}

        def gather(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"codes": Cat(f[name] for name in codes)}

        steps = requant_steps(config.requant, self.zero_point, result="requantised")
        last = "requantised"
        if config.pwl is not None:
            table = build_table(m, config.pwl, getattr(self, "table", None), self.latch_cell)
            intercept_shift, output_shift = (
                getattr(self, name) if name in config.pwl.shift_ports else getattr(config.pwl, name) or 0
                for name in ("intercept_shift", "output_shift")
            )
            steps += pwl_steps(config.pwl, table, (intercept_shift, output_shift), source=last)
            last = config.pwl.output
        codes = tuple(f"{last}_{c}" for c in range(config.columns))
        return [
            Step("add", ("payload",), pipeline.adder_levels(config.accumulator_bits), split),
            *pipeline.lanes(steps, config.columns),
            Step("gather", codes, 0, gather),
        ]

    @property
    def verilog(self) -> str:
        """The text of the modules that the emitted Verilog needs beside the unit's own."""
        latches = self.config.pwl is not None and self.config.pwl.storage == "latches"
        return storage.latch_verilog(self.latch_cell) if latches else ""
