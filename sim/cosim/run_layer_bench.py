"""The Verilog bench of the engine: it feeds a program's streams from files, and compares every write to the memory."""

from collections.abc import Mapping

TOP = "layer_bench"
STREAMS = ("program", "i", "w", "c")

_STREAM = """
  reg [{width}-1:0] {name}_words [0:{depth}-1];
  integer {name}_index = 0, {name}_count = 0;
  reg {name}_valid = 0;
  wire {name}_ready;
  wire [{width}-1:0] {name}_payload = {name}_words[{name}_index];
  always @(posedge clk) begin
    if (rst) begin
      {name}_index <= 0;
      {name}_valid <= 0;
    end else if (!{name}_valid || {name}_ready) begin
      {name}_index <= {name}_index + ({name}_valid ? 1 : 0);
      {name}_valid <= {name}_index + ({name}_valid ? 1 : 0) < {name}_count && (!stall_seed || $random(seed) & 1);
    end
  end
"""

_BENCH = """`timescale 1ns/1ns
module {top};
  reg clk = 0, rst = 1;
  always #1 clk = ~clk;
  integer seed = 0, stall_seed = 0, reset_after = 0, expected_count = 0, stored_count = 0, limit = 0;
{streams}
  wire o_valid;
  reg o_ready = 0;
  wire [{word}-1:0] o_payload;
  wire written, busy;
  wire [{address}-1:0] written_address;
  wire [{lanes}-1:0] written_lanes;
  wire [{word}-1:0] written_data;
  reg [{line}-1:0] expected [0:{expected_depth}-1];
  wire [{line}-1:0] want = expected[checked];
  wire [{word}-1:0] want_data = want[{word}-1:0];
  wire [{address}-1:0] want_address = want[{word}+:{address}];
  wire [{lanes}-1:0] want_lanes = want[{word}+{address}+:{lanes}];
  wire [{lanes}-1:0] want_counted = want[{word}+{address}+{lanes}+:{lanes}];
  reg [{word}-1:0] stored [0:{stored_depth}-1];
  integer checked = 0, taken = 0, wrong = 0, first = 0, cycles = 0, idle = 0, resets = 0, trace = 0, held = 0, k;
  reg [{word}-1:0] first_data;
  reg [{address}-1:0] first_address;
  reg differs, done = 0;

  engine dut (
    .clk(clk), .rst(rst),
    .program__payload(program_payload), .program__valid(program_valid), .program__ready(program_ready),
    .i__payload(i_payload), .i__valid(i_valid), .i__ready(i_ready),
    .w__payload(w_payload), .w__valid(w_valid), .w__ready(w_ready),
    .c__payload(c_payload), .c__valid(c_valid), .c__ready(c_ready),
    .o__payload(o_payload), .o__valid(o_valid), .o__ready(o_ready),
    .written__enable(written), .written__address(written_address), .written__lanes(written_lanes),
    .written__data(written_data), .busy(busy)
  );

  always @(posedge clk) begin
    o_ready <= !rst && (!stall_seed || $random(seed) & 1);
    if (rst) begin
      checked <= 0; taken <= 0; cycles <= 0; idle <= 0;
      held <= held + 1;
      if (held == 2) rst <= 0;  // Icarus evaluates some of the logic for the first time at the first edge
    end else begin
      cycles <= cycles + 1;
      idle <= idle + 1;
      if (reset_after != 0 && cycles >= reset_after && busy) begin
        rst <= 1; held <= 2; reset_after <= 0; resets <= resets + 1;
      end
      if (program_valid && program_ready) begin
        idle <= 0;
        if (trace != 0) $fwrite(trace, "%0d\\n", cycles);
      end
      if (written) begin
        differs = checked >= expected_count || written_address != want_address || written_lanes != want_lanes;
        for (k = 0; k < {lanes}; k = k + 1)
          if (want_counted[k] && written_data[16*k+:16] != want_data[16*k+:16]) differs = 1;
        if (differs) begin
          if (wrong == 0) begin first = checked; first_data = written_data; first_address = written_address; end
          wrong = wrong + 1;
        end
        checked <= checked + 1;
        idle <= 0;
      end
      if (o_valid && o_ready) begin
        stored[taken] <= o_payload;
        taken <= taken + 1;
        idle <= 0;
      end
      if (w_valid && w_ready) idle <= 0;
      if (wrong > 20) limit = 0;
      done = !rst && reset_after == 0 && !busy && program_index >= program_count && !program_valid;
      if (done || idle > limit) begin
        $display("counts %0d %0d %0d %0d %0d %0d %0d", cycles, checked, taken, wrong, resets, done,
                 (i_count - i_index) + (w_count - w_index) + (c_count - c_index));
        if (wrong != 0) $display("first %0d %0h %0h", first, first_address, first_data);
        if (taken != 0) $writememh("stored.hex", stored, 0, taken - 1);
        $finish;
      end
    end
  end

  initial begin
    limit = 5000;
    if ($value$plusargs("stall_seed=%d", stall_seed)) seed = stall_seed;
    if ($value$plusargs("reset_after=%d", reset_after)) ;
    if ($value$plusargs("expected=%d", expected_count)) ;
    if ($test$plusargs("trace")) trace = $fopen("starts.txt", "w");
    $readmemh("expected.hex", expected, 0, expected_count - 1);
{reads}  end
endmodule
"""


def bench(widths: Mapping[str, int], depths: Mapping[str, int], word: int, address: int, lanes: int) -> str:
    """The text of the bench; `widths` and `depths` are those of each stream, `depths` of "expected" and "stored" too.

    The bench reads NAME.hex of each stream and expected.hex, of lines {lanes that count, lanes written, address, word}.
    Plus arguments NAME=N and expected=N are the lines; stall_seed=N stalls every stream at random, reset_after=N resets
    once, in the first cycle from that one on in which an instruction runs. It prints the line `counts` CYCLES CHECKED
    STORED WRONG RESETS DONE LEFT.
    """
    streams = "".join(_STREAM.format(name=name, width=widths[name], depth=depths[name]) for name in STREAMS)
    reads = "".join(
        f'    if ($value$plusargs("{name}=%d", {name}_count)) ;\n'
        f'    if ({name}_count != 0) $readmemh("{name}.hex", {name}_words, 0, {name}_count - 1);\n'
        for name in STREAMS
    )
    return _BENCH.format(
        top=TOP,
        streams=streams,
        reads=reads,
        word=word,
        address=address,
        lanes=lanes,
        line=word + address + 2 * lanes,
        expected_depth=depths["expected"],
        stored_depth=depths["stored"],
    )
