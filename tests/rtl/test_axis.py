"""A unit under AXI4-Stream's names gives what it gives under its own, cycle by cycle."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from rtl.cli import main
from sim.cosim.dut import read_device
from sim.reference import InputError
from tests.rtl.test_normaliser import secant_table
from tests.sim import tables

WIRED = ["--row-length", "9", "--storage", "constants"]
UNITS = {
    "requant": ["requant", "--in-width", "9", "--max-shift", "3", "--out-width", "6"],
    "pwl": ["pwl", "--table", "exp.json", "--storage", "constants", "--scale", "4", "--output", "acc"],
    "softmax": ["softmax", "--exp", "exp.json", "--scale", "4", "--div", "div.json", *WIRED],
}
BENCH = """\
module bench;
  reg clk = 0, rst = 1, valid = 0, ready = 0;
  reg [{i}:0] payload = 0;
  integer cycle, k, differences = 0, beats = 0;
  wire taken, given, taken_axis, given_axis;
  wire [{o}:0] result;
  wire [{m}:0] data;
  always #5 clk = ~clk;
  plain unit (.clk(clk), .rst(rst), .i__payload(payload), .i__valid(valid), .i__ready(taken),
    .o__payload(result), .o__valid(given), .o__ready(ready){static});
  axis unit_axis (.aclk(clk), .aresetn(~rst), .s_axis_tdata({{{spare}'d5, {tdata}}}), .s_axis_tvalid(valid),
    .s_axis_tready(taken_axis), .m_axis_tdata(data), .m_axis_tvalid(given_axis), .m_axis_tready(ready)
    {lasts}{static});
  {wires}
  wire [{m}:0] wanted = {wanted};
  initial begin
    for (cycle = 0; cycle < 600; cycle = cycle + 1) begin
      @(negedge clk);
      rst = cycle < 3 || cycle == 300;
      if (!valid || taken) begin
        for (k = 0; k <= {i}; k = k + 1) payload[k] = $random;
        valid = $random;
        if (cycle % 4 == 0) payload[{i}] = 1;
      end
      ready = $random;
      #4;
      if (cycle > 3 && {{taken, given}} !== {{taken_axis, given_axis}}) differences = differences + 1;
      if (given && ready) begin
        beats = beats + 1;
        if (wanted !== data{last_differs}) differences = differences + 1;
      end
    end
    $display("%0d differences in %0d beats", differences, beats);
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("unit", UNITS)
def test_the_wrapper_passes_every_beat_and_both_handshakes(unit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secant_table("div", 2, 1).save("div.json")
    tables.secant_table("exp").save("exp.json")
    for name in ("plain", "axis"):
        assert main([*UNITS[unit], "--ports", name, "-o", f"{name}.v"]) == 0
    about = json.loads(Path("axis.rtl.json").read_text())
    assert about["axis"]["streams"] == {"i": "s_axis", "o": "m_axis"}
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+),?$", Path("axis.v").read_text(), re.M)
    assert [(way, int(high or 0) + 1, name) for way, high, name in found] == [
        (row["direction"], row["width"], row["name"]) for row in about["ports"]
    ]
    width = {row["name"]: row["width"] for row in about["ports"]}
    core = {row["name"]: row for row in about["axis"]["core_ports"]}
    i, o, m = core["i__payload"]["width"], core["o__payload"]["width"], width["m_axis_tdata"]
    rows = "m_axis_tlast" in width
    assert rows == (unit == "softmax") and width["s_axis_tdata"] % 8 == m % 8 == 0
    padding = f"{{{m - o}{{result[{o - 1}]}}}}, " if core["o__payload"]["signed"] and m > o else ""
    text = BENCH.format(
        i=i - 1, o=o - 1, m=m - 1, spare=8, static=", .zero_point(6'd9)" if unit == "requant" else "",
        tdata=f"payload[{i - 2}:0]" if rows else "payload",
        lasts=f", .s_axis_tlast(payload[{i - 1}]), .m_axis_tlast(last)" if rows else "",
        wires="wire last;" if rows else "", wanted=f"result[{o - 2}:0]" if rows else f"{{{padding}result}}",
        last_differs=f" || last !== result[{o - 1}]" if rows else "",
    )  # fmt: skip
    Path("bench.v").write_text(text)
    subprocess.run(["iverilog", "-g2012", "-o", "x", "bench.v", "plain.v", "axis.v"], check=True)
    out = subprocess.run(["vvp", "x"], check=True, capture_output=True, text=True).stdout
    found_beats = re.search(r"^0 differences in (\d+) beats", out, re.M)
    assert found_beats and int(found_beats[1]) > 100, out


def test_what_simulates_a_file_says_in_one_line_that_it_needs_the_unit_s_own_ports(tmp_path):
    path = tmp_path / "unit.v"
    assert main(["requant", "--ports", "axis", "-o", str(path)]) == 0
    with pytest.raises(InputError, match=r"needs the unit's own ports: emit it without --ports axis$"):
        read_device(path)
