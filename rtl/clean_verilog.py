"""Amaranth's Verilog in a form that other tools read without a warning.

Amaranth's text is right but made for Yosys. It declares wires that only repeat part of another net, under names such as
`\\a__payload[0] `, which is also what a tool calls one bit of the port `a__payload`; wires of no bits, as `[-1:0]`; and
initial values of wires. None of these has an effect in the circuit, and all of them are taken out.
"""

import re

HEAD = """\
/* The expressions below mix widths where Verilog's own rules extend or cut as intended, compare with 0, and give a
   value before a case that does not name every pattern. */
/* verilator lint_save */
/* verilator lint_off WIDTHEXPAND */
/* verilator lint_off WIDTHTRUNC */
/* verilator lint_off UNSIGNED */
/* verilator lint_off CASEINCOMPLETE */
"""
FOOT = "/* verilator lint_restore */\n"

_MODULE = re.compile(r"^module .*?^endmodule$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\\\S+ |(?<![\w$\\])[A-Za-z_][\w$]*")
_INITIAL_OF_WIRE = re.compile(r"^  \(\* init = [^\n]* \*\)\n(?=  wire )", re.MULTILINE)
_EMPTY = re.compile(r"^  wire (?:signed )?\[-1:0\] (\\\S+ |\w+);\n", re.MULTILINE)
_WIRE = re.compile(r"^  wire (?:signed )?(?:\[[^\]]*\] )?(\\[^$\s]\S*[.\]]\S* );$")
_ASSIGN = re.compile(r"^  assign (\\\S+ ) = ([^;]*);$")


def clean(text: str) -> str:
    """The same circuit without aliases, empty wires and initial values of wires, under a head that says what a linter
    may pass over.
    """
    head, newline, rest = text.partition("\n")
    return f"{head}{newline}{HEAD}{_MODULE.sub(_cleaned, rest)}{FOOT}"


def _cleaned(module: re.Match[str]) -> str:
    text = _INITIAL_OF_WIRE.sub("", module[0])
    uses: dict[str, int] = {}
    for name in _NAME.findall(text):
        uses[name] = uses.get(name, 0) + 1
    text = _EMPTY.sub(lambda found: "" if uses[found[1]] == 1 else found[0], text)
    return _without_aliases(text, uses)


def _without_aliases(text: str, uses: dict[str, int]) -> str:
    """The module without wires for parts of a net that nothing reads; `uses` counts each name."""
    lines = text.split("\n")
    wires = {found[1]: k for k, line in enumerate(lines) if (found := _WIRE.match(line))}
    assigns = {found[1]: (k, found[2]) for k, line in enumerate(lines) if (found := _ASSIGN.match(line))}
    waiting = [name for name in wires if name in assigns and uses[name] == 2]
    gone: set[int] = set()
    while waiting:
        name = waiting.pop()
        row, value = assigns[name]
        gone |= {wires[name], row}
        for source in _NAME.findall(value):
            uses[source] -= 1
            if uses[source] == 2 and source in wires and source in assigns:
                waiting.append(source)
    return "\n".join(line for k, line in enumerate(lines) if k not in gone)
