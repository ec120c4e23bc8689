"""The processing element alone: multiply, add, pass on; the next weight behind the one in use."""

import numpy as np
from amaranth.sim import Simulator

from rtl.array.config import ArrayConfig
from rtl.array.processing_element import Element


def test_every_product_is_added_and_everything_is_passed_on_a_cycle_later():
    rng = np.random.default_rng(0)
    for config in (ArrayConfig(2, 2, 3, False), ArrayConfig(4, 4, 4, two_pass=True), ArrayConfig(1, 1, 2, True, 4)):
        dut = Element(config)
        low, high = config.sum_range(config.rows - 1)  # with one more product the sum fits its register
        a_low, a_high = config.operand_range
        w_low, w_high = (0, 7) if not config.weight_signed else (-(1 << config.weight_bits - 1), 1)
        seen = []

        async def drive(ctx, dut=dut, config=config, bounds=(low, high, a_low, a_high, w_low, w_high), seen=seen):
            low, high, a_low, a_high, w_low, w_high = bounds
            weight = following = 0
            ctx.set(dut.enable, 1)
            for _ in range(300):
                total, activation = int(rng.integers(low, high + 1)), int(rng.integers(a_low, a_high + 1))
                into = int(rng.integers(w_low, w_high + 1))
                shift, swap, enable = (int(bit) for bit in rng.integers(0, 2, 3))
                for port, value in zip(
                    (dut.sum_in, dut.activation_in, dut.weight_in, dut.shift_in, dut.swap_in, dut.enable),
                    (total, activation, into, shift, swap, enable),
                    strict=True,
                ):
                    ctx.set(port, value)
                before = [ctx.get(port) for port in (dut.sum_out, dut.activation_out, dut.weight_out)]
                await ctx.tick()
                after = [ctx.get(port) for port in (dut.sum_out, dut.activation_out, dut.weight_out)]
                if not enable:
                    assert after == before
                    continue
                assert after == [total + weight * activation, activation, into if shift else following]
                assert (ctx.get(dut.shift_out), ctx.get(dut.swap_out)) == (shift, swap)
                weight = following if swap else weight
                following = into if shift else following
                seen.append(weight * activation)

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(drive)
        simulator.run()
        assert len(set(seen)) > 10
