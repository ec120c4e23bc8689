"""What the text of a unit says of its nets."""

from rtl.emit import emit
from rtl.pwl import Pwl, PwlConfig
from rtl.verilog_text import declared, memories, tied

MEMORY = """\
module \\unit.pass_0 (clk, a);
  reg [3:0] ring [7:0];
      ring[a] <= b;
endmodule
module unit(clk, a);
  reg [1:0] gain [2:0];
  reg [1:0] other [2:0];
      other[a] <= b;
  initial gain[0] = 2'h1;
endmodule
"""


def test_memories_are_those_that_something_writes_under_the_names_asked_for():
    assert memories(MEMORY, "unit", ("ring", "gain")) == (("pass_0.ring", 8, 4),)
    assert memories(MEMORY, "unit", ("other",)) == (("other", 3, 2),)


def test_a_tied_port_stays_a_port_and_is_constant_inside(tmp_path):
    emit(tmp_path / "unit.v", "pwl", Pwl(PwlConfig(2, stages=1)))
    text = (tmp_path / "unit.v").read_text()
    wrapped = tied(text, "unit", "o__ready", 1)
    assert "module unit_core(" in wrapped and wrapped.count("module unit(") == 1
    outer = wrapped[wrapped.index("module unit(") :]
    assert "input o__ready" in outer and ".o__ready(1'b1)" in outer and ".i__valid(i__valid)" in outer
    assert {"slope", "intercept"} <= declared(text)
