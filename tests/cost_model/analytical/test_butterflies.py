"""The estimate of the Hadamard unit beside synthesised ones, and its parts."""

import pytest

from cost_model.analytical.butterflies import butterflies, components, memory_bits
from cost_model.netlist.memories import found
from cost_model.netlist.synthesis import Flow, synthesise
from rtl.hadamard import HadamardConfig, HadamardUnit
from sim.cosim.dut import emitted


def test_each_stage_has_its_parts_and_long_ones_their_words_in_a_memory():
    config = HadamardConfig(64)
    names = [*components(config)]
    assert [name for name in names if name.startswith("queue")] == [f"queue {d}" for d in (8, 4, 2, 1)]
    assert [name for name in names if name.startswith("sums")] == [f"sums {d}" for d in (32, 16, 8, 4, 2, 1)]
    memories = found(emitted(HadamardUnit(config), "hadamard").verilog, "unit")
    assert memory_bits(config) == sum(memory.size for memory in memories) == 32 * 17 + 16 * 18


@pytest.mark.slow
@pytest.mark.parametrize("block", [4, 16, 64])
def test_the_area_is_within_25_percent_of_a_synthesised_unit(tmp_path, block):
    text = emitted(HadamardUnit(HadamardConfig(block)), "hadamard").verilog
    area = synthesise(text, "unit", Flow(memories=found(text, "unit")), tmp_path).area
    estimated = float(butterflies(HadamardConfig(block), "gate_equivalents").total.area_ge)
    assert estimated == pytest.approx(area, rel=0.25)
