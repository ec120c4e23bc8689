"""A netlist of three cells with a clock, and a LEF file of a made-up library for it."""

from cost_model.cells import library
from cost_model.layout import lef
from cost_model.netlist.netlist import Instance, Netlist

SITE, HEIGHT = 0.5, 4.0
LAYERS = "".join(
    f"""LAYER m{k}
  TYPE ROUTING ;
  DIRECTION {"HORIZONTAL" if k % 2 else "VERTICAL"} ;
  PITCH 0.5 ; OFFSET 0.25 ; WIDTH 0.2 ; SPACING 0.2 ;
  CAPACITANCE CPERSQDIST 1e-5 ; EDGECAPACITANCE 4e-5 ;
END m{k}
LAYER v{k}
  TYPE CUT ;
END v{k}
Via up{k} DEFAULT
  LAYER m{k} ; RECT -0.1 -0.1 0.1 0.1 ;
END up{k}
"""
    for k in (1, 2, 3)
)


def macro(name: str, sites: int, pins: str) -> str:
    """A cell with a pin for each letter, half a um apart."""
    shapes = "".join(
        f"  PIN {pin}\n    DIRECTION INPUT ;\n    PORT\n      LAYER m1 ; RECT {k / 2:g} 1 {k / 2 + 0.2:g} 1.4 ;\n"
        f"    END\n  END {pin}\n"
        for k, pin in enumerate(pins)
    )
    rails = "".join(
        f"  PIN {rail}\n    USE {use} ;\n    PORT\n      LAYER m1 ; RECT 0 0 1 0.1 ;\n    END\n  END {rail}\n"
        for rail, use in (("VDD", "POWER"), ("VSS", "GROUND"))
    )
    size = f"  CLASS CORE ;\n  SIZE {sites * SITE:g} BY {HEIGHT:g} ;\n"
    return f"MACRO {name}\n{size}{shapes}{rails}  OBS\n    LAYER m1 ; RECT 0 0 1 1 ;\n  END\nEND {name}\n"


CELLS = macro("INV", 2, "AY") + macro("NAND2", 3, "ABY") + macro("DFF", 8, "CDQ")
TEXT = f"VERSION 5.7 ;  # comment\nUNITS\n  DATABASE MICRONS 1000 ;\nEND UNITS\n{LAYERS}{CELLS}END LIBRARY\n"
# the three cells in two rows, and the four pads, as graywolf writes them
PLACED = """\
u1 5 0 155 200 0 1
u0 200 0 300 200 0 1
u2 0 200 400 400 1 2
twpin_2 -40 100 -30 110 0 -1
twpin_3 -40 100 -30 110 0 -1
twpin_4 420 100 430 110 0 -2
"""


def made(folder) -> lef.Lef:
    """The LEF file, read."""
    path = folder / "small.lef"
    path.write_text(TEXT)
    return lef.load(path)


def netlist() -> Netlist:
    """o is a flip-flop of not (a and b), one input inverted: clk is net 2, a 3, o 4, the others inside."""
    cells = library.load()
    rows = (("INV", {"A": 3, "Y": 5}), ("NAND2", {"A": 3, "B": 5, "Y": 6}), ("DFF", {"C": 2, "D": 6, "Q": 4}))
    instances = tuple(Instance(f"x{k}", cells.cell(name), nets) for k, (name, nets) in enumerate(rows))
    ports = {"clk": ("input", (2,)), "a": ("input", (3,)), "o": ("output", (4,))}
    return Netlist("unit", cells, ports, instances, {})
