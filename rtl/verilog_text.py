"""What the text of an emitted unit says of its nets, and a wrapper that ties one of its inputs.

The Verilog is Amaranth's: one declaration a line, the ports' names in the module's head.
"""

import re
from collections.abc import Iterable


def declared(verilog: str) -> frozenset[str]:
    """The names of all wires and registers of every module that are plain identifiers."""
    return frozenset(re.findall(r"^\s*(?:wire|reg) (?:signed )?(?:\[[^\]]*\] )?(\w+);", verilog, re.MULTILINE))


def memories(verilog: str, top: str, names: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """The memories called one of `names` that something writes.

    Parameters
    ----------
    verilog : str
        The unit's text.
    top : str
        Its top module.
    names : iterable of str
        Names within a module.

    Returns
    -------
    tuple of (str, int, int)
        The path in the flattened unit, the number of words and the bits of each, in the order of the text.
    """
    found = []
    for module in re.finditer(r"^module \\?(\S+) ?\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL):
        for top_bit, name, top_word in re.findall(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];", module[0], re.MULTILINE):
            if name in names and re.search(rf"^ *{name}\[.*\] <= ", module[0], re.MULTILINE):
                path = f"{module[1]}.{name}".removeprefix(f"{top}.")
                found.append((path, int(top_word) + 1, int(top_bit) + 1))
    return tuple(found)


def tied(verilog: str, top: str, port: str, value: int) -> str:
    """The unit in a module `top` with the same ports; its one-bit input `port` is `value` inside, whatever it gets."""
    head = re.search(rf"\bmodule {top}\(([^)]*)\);", verilog)
    assert head, "Amaranth writes the ports' names in the head"
    core = re.sub(rf"\bmodule {top}\b", f"module {top}_core", verilog)
    rows = re.finditer(r"^\s*(input|output)\s+(\[[^\]]*\] )?(\w+);", core, re.MULTILINE)
    ports = {row[3]: f"{row[1]} {row[2] or ''}{row[3]}" for row in rows}
    constant = f"1'b{value}"
    names = [name.strip() for name in head[1].split(",")]
    declarations = ", ".join(ports[name] for name in names)
    joined = ", ".join(f".{name}({constant if name == port else name})" for name in names)
    return f"{core}\nmodule {top}({declarations});\n  {top}_core core({joined});\nendmodule\n"
