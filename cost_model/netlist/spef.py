"""The wires of a netlist as a SPEF file (IEEE 1481): each net's capacitance as one load, without resistance."""

from cost_model.netlist.netlist import Netlist

SHORT = 0.001  # ohms from a net's driver to each of its ends: the format has no net without resistors


def spef(netlist: Netlist) -> str:
    """The capacitances of `netlist.wires` for `cost_model.netlist.timing.structure`'s names of cells and nets."""
    drivers = {net: f"u{k}:{pin}" for k, i in enumerate(netlist.instances) for pin, net in i.driven.items()}
    ends: dict[int, list[str]] = {net: [] for net in netlist.wires}
    for k, instance in enumerate(netlist.instances):
        for pin, net in instance.read.items():
            ends.setdefault(net, []).append(f"u{k}:{pin}")
    ports: dict[int, list[tuple[str, str]]] = {}
    for name, (direction, bits) in netlist.ports.items():
        for k, bit in enumerate(bits):
            if isinstance(bit, int):
                ports.setdefault(bit, []).append((f"{name}[{k}]" if len(bits) > 1 else name, direction[0].upper()))
    lines = [_HEAD]
    for net, load in netlist.wires.items():
        outside = ports.get(net, [])
        root = drivers.get(net) or outside[0][0]
        reached = [*ends[net], *(name for name, _ in outside if name != root)]
        lines += [f"*D_NET n{net} {load * 1e12:.6g}", "*CONN", *(f"*P {name} {way}" for name, way in outside)]
        lines += [f"*I {root} O"] if net in drivers else []
        lines += [*(f"*I {end} I" for end in ends[net]), "*CAP", f"1 {root} {load * 1e12:.6g}", "*RES"]
        lines += [*(f"{k} {root} {end} {SHORT}" for k, end in enumerate(reached, start=1)), "*END", ""]
    return "\n".join(lines)


_HEAD = """\
*SPEF "IEEE 1481-1998"
*DESIGN "unit"
*DATE ""
*VENDOR ""
*PROGRAM "bitwright"
*VERSION ""
*DESIGN_FLOW ""
*DIVIDER /
*DELIMITER :
*BUS_DELIMITER [ ]
*T_UNIT 1 NS
*C_UNIT 1 PF
*R_UNIT 1 OHM
*L_UNIT 1 HENRY
"""
