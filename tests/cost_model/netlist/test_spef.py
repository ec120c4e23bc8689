"""Wires as a SPEF file: each net with its load, its driver and every end."""

from dataclasses import replace

from cost_model.netlist.spef import spef
from tests.cost_model.layout.small import netlist


def test_each_net_is_a_load_that_reaches_every_end():
    text = spef(replace(netlist(), wires={3: 2e-15, 6: 0.0}))
    port, inside = text.split("*D_NET ")[1:]
    assert port.strip().splitlines() == [
        "n3 0.002", "*CONN", "*P a I", "*I u0:A I", "*I u1:A I", "*CAP", "1 a 0.002", "*RES", "1 a u0:A 0.001",
        "2 a u1:A 0.001", "*END",
    ]  # fmt: skip
    assert inside.splitlines()[:4] == ["n6 0", "*CONN", "*I u1:Y O", "*I u2:D I"] and "*C_UNIT 1 PF" in text
