"""The bulk test: reset, wait for `done`, report what the wrapper counted.

The wrapper is `sim.cosim.wrapper`'s or `sim.cosim.array_wrapper`'s.
"""

import json
import time
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

COUNTERS = ("mismatches", "first_index", "first_got", "checked", "extra", "cycles", "stuck")
ARRAY_COUNTERS = (
    "in_flight",
    "unstable",
    "left",
    "all_cycles",
    "wrong_again",
)  # those of `sim.cosim.array_wrapper` alone


@cocotb.test()
async def every_vector_is_compared(dut) -> None:
    """Writes the counters and the seconds from reset to done as JSON to `+result`; `sim.cosim.run` judges them."""
    dut.rst.value = 1
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    start = time.perf_counter()
    await RisingEdge(dut.done)
    seconds = time.perf_counter() - start
    # a unit under test may answer with unknown bits, which are reported as 0
    names = [*COUNTERS, *(name for name in ARRAY_COUNTERS if hasattr(dut, name))]
    counted = {name: int(str(getattr(dut, name).value).translate(_UNKNOWN), 2) for name in names}
    Path(str(cocotb.plusargs["result"])).write_text(json.dumps(counted | {"seconds": seconds}))


_UNKNOWN = str.maketrans("xXzZuU", "000000")
