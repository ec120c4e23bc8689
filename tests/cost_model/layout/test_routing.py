"""qrouter's files: the placed netlist that it reads, and the wires of what it writes."""

import pytest

from cost_model.layout.placement import Core, legal, read_placed
from cost_model.layout.routing import design, read_wires, script
from sim.reference import InputError
from tests.cost_model.layout.small import PLACED, made, netlist

ROUTED = """\
UNITS DISTANCE MICRONS 1000 ;
NETS 2 ;
- n5
  ( u0 Y ) ( u1 B )
+ ROUTED m1 ( 1000 2000 ) ( 4000 * ) up1
  NEW m2 ( 4000 2000 ) ( * 2500 ) up2 ( * 3000 )
;
- n6
  ( u1 Y ) ( u2 D ) ;
END NETS
"""


def test_the_length_of_each_net_is_read_by_layer(tmp_path):
    lef = made(tmp_path)
    wires = read_wires(ROUTED, lef, [6])
    assert wires.lengths == {5: {"m1": 3.0, "m2": 1.0}, 6: {}} and wires.vias == 2 and wires.failed == (6,)
    assert wires.length == 4.0
    assert wires.capacitances(lef) == pytest.approx({5: 4.0 * lef.layers[0].capacitance, 6: 0.0})
    with pytest.raises(InputError, match="must have UNITS and NETS"):
        read_wires("DESIGN unit ;", lef)


def test_the_placed_netlist_is_written_on_tracks(tmp_path):
    lef = made(tmp_path)
    text = design(netlist(), lef, legal(netlist(), lef, Core(1.0), read_placed(PLACED)))
    assert "COMPONENTS 3 ;\n- u0 INV + PLACED ( 2500 0 ) N ;\n- u1 NAND2 + PLACED ( 500 0 ) N ;" in text
    assert "- u2 DFF + PLACED ( 0 4000 ) FS ;" in text
    assert "PINS 3 ;" in text and "NETS 5 ;" in text and "- n3\n  ( PIN p3 )\n  ( u0 A )\n  ( u1 A ) ;" in text
    tracks = [line.split() for line in text.splitlines() if line.startswith("TRACKS")]
    assert [(row[1], row[-2]) for row in tracks] == [("Y", "m1"), ("X", "m2"), ("Y", "m3")]
    assert all(int(row[2]) % 500 == 250 and row[6] == "500" for row in tracks)


def test_the_script_reads_the_files_and_names_the_supplies(tmp_path):
    lines = script(made(tmp_path)).splitlines()
    assert lines[1] == "read_lef 0.lef" and "vdd VDD" in lines and "gnd VSS" in lines
    assert lines.index("read_def unit.def") < lines.index("write_def routed.def") < lines.index("quit")
