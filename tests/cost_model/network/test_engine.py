"""The cost of a program on the engine."""

from dataclasses import replace

import pytest

from cost_model.network.engine import banks, energies, parts, report
from cost_model.network.machine import Machine
from rtl.layer.config import EngineConfig
from sim.reference import engine as hardware
from sim.reference.engine import Walk
from sim.reference.product import Product
from tests.rtl.layer.small import NORM, SOFTMAX, every_instruction

CONFIG = EngineConfig(SOFTMAX, NORM, lanes=4, words=64, row_units=2, max_tokens=5, max_inputs=8)
GE, IHP = "gate_equivalents", "sg13g2_stdcell_typ_1p20V_25C"


@pytest.mark.parametrize("library", [GE, IHP])
def test_every_unit_of_the_engine_has_an_area_and_what_works_has_an_energy(library):
    found = report(CONFIG, every_instruction(CONFIG), 5, Machine(library=library))
    areas = {unit["unit"]: unit["area_ge"] for unit in found["units"]}
    assert len(areas) == 12 and min(areas.values()) > 0
    assert found["totals"]["area_ge"] == pytest.approx(sum(areas.values()))
    assert (areas.keys() - {"sequencer"}) <= found["energy_by_part"].keys()
    assert min(found["energy_by_part"].values()) >= 0
    assert found["totals"]["energy"] == pytest.approx(sum(found["energy_by_part"].values()))
    assert ("memory" in found["energy_by_part"]) == (library == IHP)
    assert 0 < found["totals"]["utilisation"] < 1


def test_more_row_units_cost_area_and_no_energy_of_units():
    more = replace(CONFIG, row_units=4)
    area = [{part.unit: part.area_ge for part in parts(config, GE)} for config in (CONFIG, more)]
    assert area[1]["softmax"] == 2 * area[0]["softmax"] and area[1]["elements"] == area[0]["elements"]
    program = every_instruction(CONFIG)
    assert energies(CONFIG, program, GE) == energies(more, program, GE)


def test_memories_are_the_engines_own():
    held = {bank.name: bank for bank in banks(CONFIG)}
    described = {"memory": (64, 64), "magnitudes": (5, 16)}
    assert all((held[name].words, held[name].bits) == shape for name, shape in described.items())
    assert held["memory"].size == 2 * 64 * 64  # two readers


def test_a_product_of_a_dropped_instruction_costs_nothing():
    program = every_instruction(CONFIG)
    without = [i for i in program if not isinstance(i, hardware.Multiply)]
    assert "elements" not in energies(CONFIG, without, IHP)
    half = energies(CONFIG, program, IHP)["elements"]
    assert energies(CONFIG, program * 2, IHP)["elements"] == pytest.approx(2 * half)


def test_a_decoder_has_more_units_a_memory_and_dearer_elements():
    decoder = replace(CONFIG, decoder=True)
    areas = {part.unit: part.area_ge for part in parts(decoder, GE)}
    before = {part.unit: part.area_ge for part in parts(CONFIG, GE)}
    assert areas.keys() - before.keys() == {"rotators", "products"} and areas["elements"] > before["elements"]
    assert {bank.name for bank in banks(decoder)} - {bank.name for bank in banks(CONFIG)} == {"column magnitudes"}
    words, turn = Walk(0, (4, 1, 1)), Walk(0, (2, 2, 1), (9, 1, 0))
    program = [
        hardware.Rotate(turn, turn, turn),
        hardware.ElementProduct(words, words, words, Product(1, 0)),
        hardware.Weigh(words, words, 0, 7),
    ]
    spent = energies(decoder, program, GE)
    assert set(spent) == {"rotators", "products", "residual adders"} and min(spent.values()) > 0
