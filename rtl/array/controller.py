"""The controller: the order of tiles, and the cycles in which operands are needed.

A job is cut into tiles in this order: output tiles, in each the blocks of `depth` tokens, in each the input tiles. All
streams follow it:

    w   for each output tile, each block, each input tile: R beats, a row of C weights each, last row first
    a   for each output tile, each block, each input tile, each token of the block: a beat of R activations
    g   for each output tile, each block, each group: a beat of m_g and z_g of the C columns
    c   for each output tile, each block: a beat of bias, m_c and k_c of the C columns
    o   for each output tile, each token: a beat of C codes

A tile ends at a group's border. Rows of a tile beyond its last input have the zero point as weight (0 for signed
weights), whatever their activations; columns beyond the last output give results to be ignored.

A slot is the time of one tile: its beats enter while the next tile's weights are shifted in. The first slot only loads.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.array.config import ArrayConfig
from rtl.array.tiles import walk
from sim.reference.array_cycles import HAZARD


def tag_layout(config: ArrayConfig) -> StructLayout:
    """The flags that travel beside a vector.

    `valid`: it completes its token in this tile. `start`: it is the tile's first. `group`: it is its group's first.
    `first`, `last`: of the tiles along K. `joined`: the vector before is its high part.
    """
    names = ["valid", "start", "group", "first", "last", *(["joined"] if config.two_pass else [])]
    return StructLayout(dict.fromkeys(names, 1))


class Controller(wiring.Component):
    """The counters of a job. They move in every cycle; the parent enables them in the cycles in which the array moves
    and the needed beats of `w` and `a` are valid.

    `jobs` is the job stream. `load`: a beat of weights is needed in this cycle, for the rows `shift`. `swap`: the
    loaded weights come into use. `active`: a beat of activations is needed, `high` for its high part, `done` for the
    last time. `tag` describes that beat.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        ports = {
            "jobs": In(stream.Signature(config.job_layout)),
            "load": Out(1),
            "shift": Out(config.rows),
            "swap": Out(1),
            "active": Out(1),
            "done": Out(1),
            "tag": Out(tag_layout(config)),
        }
        super().__init__(ports | ({"high": Out(1), "joined": Out(1)} if config.two_pass else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        shortest = max(config.rows, HAZARD)
        job = Signal(config.job_layout, reset_less=True)
        busy, running = Signal(), Signal()  # running: not the first slot
        step = Signal(range(max(config.passes * config.depth, shortest)))
        end_of_slot = Signal()
        tile = walk(m, config, job, ~busy, self.jobs.payload, running & end_of_slot)
        steps = Signal(range(config.passes * config.depth + 1))
        m.d.comb += steps.eq(tile.size << job.two_pass if config.two_pass else tile.size)
        m.d.comb += end_of_slot.eq((step >= shortest - 1) & (step + 1 >= steps))

        m.d.comb += [
            self.jobs.ready.eq(~busy),
            self.load.eq(busy & ~(running & tile.last_of_job) & (step < config.rows)),
            self.shift.eq(Cat(self.load & (step >= r) for r in range(config.rows))),
            self.swap.eq(running & (step == 0)),
            self.active.eq(running & (step < steps)),
        ]
        start = step == 0
        m.d.comb += self.done.eq(self.active)
        if config.two_pass:
            start = step == job.two_pass
            m.d.comb += [
                self.high.eq(job.two_pass & ~step[0]),
                self.joined.eq(job.two_pass),
                self.done.eq(self.active & ~self.high),
                self.tag.joined.eq(job.two_pass),
            ]
        m.d.comb += [
            self.tag.valid.eq(self.done),
            self.tag.start.eq(start),
            self.tag.group.eq(start & tile.begins_group),
            self.tag.first.eq(tile.first),
            self.tag.last.eq(tile.last),
        ]

        m.d.sync += step.eq(step + 1)
        with m.If(~busy):
            m.d.sync += [busy.eq(self.jobs.valid), job.eq(self.jobs.payload), step.eq(0)]
        with m.Elif(~running), m.If(step == config.rows - 1):
            m.d.sync += [running.eq(1), step.eq(0)]
        with m.Elif(end_of_slot):
            m.d.sync += [step.eq(0), busy.eq(~tile.last_of_job), running.eq(~tile.last_of_job)]
        return m
