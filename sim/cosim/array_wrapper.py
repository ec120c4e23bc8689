"""The array's wrapper in Verilog, with a memory for each operand and one for the expected results.

If operands come over streams, a memory holds the beats in the order in which they are taken (of activations, those of
one output tile, which are repeated for each). If they come from memories, it holds the image. Every stream stalls
independently. The array may be reset in mid-stream several times; it then starts again, and only the last start counts.

The job may be given several times, with its operands, without waiting for results. Cycles and results of the first job
are counted separately.
"""

from typing import Any

from rtl.array.config import ArrayConfig
from sim.cosim import wrapper as bulk
from sim.cosim.dut import Device
from sim.cosim.names import require_module

DEPTH = 1 << 17  # words of each memory
TOP = "array_bench"
VISIBLE = (*bulk.VISIBLE, "in_flight", "unstable", "left", "all_cycles", "wrong_again")


def wrapper(config: ArrayConfig, unit: Device, memory: bool) -> str:
    """The wrapper's Verilog (module `array_bench`), to be compiled together with the unit's.

    Raises `InputError` if the module or a port is not named by a plain identifier.
    """
    require_module(unit.module, unit.ports)
    widths = {name: layout.size for name, layout in config.operand_layouts.items()}
    lane = config.out_layout.size // config.columns
    operand = _MEMORY if memory else _STREAM
    fields: dict[str, Any] = {
        "module": unit.module,
        "job_top": unit.in_bits - 1,
        "out_top": unit.out_bits - 1,
        "lane": lane,
        "columns": config.columns,
        "depth": DEPTH,
        "patience": bulk.PATIENCE,
        "quiet": bulk.QUIET,
        "xorshift": bulk.XORSHIFT,
        "operands": "".join(
            operand.format(name=name, top=bits - 1, depth=DEPTH, bit=3 * k + 2, address_top=config.address_bits - 1)
            for k, (name, bits) in enumerate(widths.items())
        ),
        "connections": "".join(f",\n    .{port}({wire})" for port, wire in _connections(unit, widths, memory)),
        "statics": "".join(f"  reg [{bits - 1}:0] static_{name};\n" for name, bits in unit.statics.items()),
        "static_plusargs": "".join(
            f'    if (!$value$plusargs("{name}=%d", static_{name})) static_{name} = 0;\n' for name in unit.statics
        ),
        "taken": " | ".join(f"{name}_taken" for name in widths),
        "untaken": "0" if memory else " + ".join(f"{name}_total - {name}_index" for name in widths),
    }
    return _WRAPPER.format(**fields)


def _connections(unit: Device, widths: dict[str, int], memory: bool) -> list[tuple[str, str]]:
    ports = ("enable", "address", "data") if memory else ("payload", "valid", "ready")
    wires = [(f"{name}__{port}", f"{name}_{port}") for name in widths for port in ports]
    wires += [(name, f"static_{name}") for name in unit.statics]
    return wires + bulk.table_connections(unit, "loading", "word")


_STREAM = """
  reg [{top}:0] {name}_memory [0:{depth} - 1];
  reg [31:0] {name}_total, {name}_length, {name}_index, {name}_place;  // beats, words, taken, at word
  reg {name}_held;
  initial begin
    if (!$value$plusargs("{name}_total=%d", {name}_total)) {name}_total = 0;
    if (!$value$plusargs("{name}_length=%d", {name}_length)) {name}_length = 0;
    if ($value$plusargs("{name}=%s", path)) $readmemh(path, {name}_memory, 0, {name}_length - 1);
  end
  wire [{top}:0] {name}_payload = {name}_memory[{name}_place];
  wire {name}_valid = running && {name}_index != {name}_total && ({name}_held || stall_seed == 0 || stalls[{bit}]);
  wire {name}_ready;
  wire {name}_taken = {name}_valid && {name}_ready === 1'b1;
  always @(posedge clk)
    if (restart) begin
      {name}_index <= 0; {name}_place <= 0; {name}_held <= 0;
    end else begin
      {name}_held <= {name}_valid && !{name}_taken;
      if ({name}_taken) begin
        {name}_index <= {name}_index + 1;
        {name}_place <= {name}_place + 1 == {name}_length ? 0 : {name}_place + 1;
      end
    end
"""

_MEMORY = """
  reg [{top}:0] {name}_memory [0:{depth} - 1];
  reg [31:0] {name}_length;
  reg [{top}:0] {name}_data;
  initial begin
    if (!$value$plusargs("{name}_length=%d", {name}_length)) {name}_length = 0;
    if ($value$plusargs("{name}=%s", path)) $readmemh(path, {name}_memory, 0, {name}_length - 1);
  end
  wire {name}_enable;
  wire [{address_top}:0] {name}_address;
  wire {name}_taken = {name}_enable === 1'b1;
  always @(posedge clk) if ({name}_taken) {name}_data <= {name}_memory[{name}_address];
"""

_WRAPPER = """\
module array_bench(
  input rst,
  output reg done,
  output reg [63:0] mismatches,
  output reg [31:0] first_index,
  output reg [{out_top}:0] first_got,
  output reg [31:0] checked,
  output reg [31:0] extra,
  output reg [63:0] cycles,
  output reg stuck,
  output reg [31:0] in_flight,
  output reg [31:0] unstable,
  output wire [31:0] left,  // beats of operands that were not taken
  output reg [63:0] all_cycles,  // of all jobs, to the last result
  output reg [63:0] wrong_again  // mismatches of the jobs after the first
);
  reg clk = 0;
  always #1 clk = ~clk;

  reg [31:0] stall_seed;  // 0: nothing stalls
  reg [31:0] resets, reset_after;  // how many resets, and the cycles from a job's start to the first of them
  reg [31:0] count, words, jobs, total;  // results of a job, words of the table, how many jobs, results of all
  reg [{job_top}:0] job;
  reg [63:0] table_words [0:255];
  reg [{out_top}:0] expected [0:{depth} - 1];
  string path;
{statics}  initial begin
    if (!$value$plusargs("stall_seed=%d", stall_seed)) stall_seed = 0;
    if (!$value$plusargs("resets=%d", resets)) resets = 0;
    if (!$value$plusargs("reset_after=%d", reset_after)) reset_after = 0;
    if (!$value$plusargs("count=%d", count)) count = 0;
    if (!$value$plusargs("jobs=%d", jobs)) jobs = 1;
    total = count * jobs;
    if (!$value$plusargs("words=%d", words)) words = 0;
    if (!$value$plusargs("job=%h", job)) job = 0;
{static_plusargs}    if ($value$plusargs("table=%s", path)) $readmemh(path, table_words, 0, words - 1);
    if ($value$plusargs("expected=%s", path)) $readmemh(path, expected, 0, count - 1);
  end

  reg running;
  reg [31:0] begun;  // jobs that were taken
  wire started = begun != 0;
  reg [31:0] place;  // of the next result in its job
  reg [31:0] loaded, since, resetting, idle, stalls, rounds;
  wire loading = !rst && !running && loaded != words;
  wire [63:0] word = table_words[loaded];
  wire restart = rst || resetting != 0;
{operands}
  reg i_held;
  wire i_valid = running && begun != jobs && (i_held || stall_seed == 0 || stalls[29]);
  wire i_ready, o_valid;
  wire [{out_top}:0] o_payload;
  wire o_ready = stall_seed == 0 || stalls[17];

  {module} unit(
    .clk(clk), .rst(restart),
    .i__payload(job), .i__valid(i_valid), .i__ready(i_ready),
    .o__payload(o_payload), .o__valid(o_valid), .o__ready(o_ready){connections}
  );

  wire i_taken = i_valid && i_ready === 1'b1;  // X on valid or ready is not a transfer; the stream then times out
  wire given = o_valid === 1'b1 && o_ready;
  wire [{out_top}:0] want = expected[place];
  assign left = {untaken};
  integer c, wrong;
  reg waiting;  // a result was offered and not taken: it must be there unchanged
  reg [{out_top}:0] offered;

  always @(posedge clk) begin
    // xorshift32: the stalls of a seed are the same in every simulator
    stalls <= xorshift(stalls);
    waiting <= !restart && o_valid === 1'b1 && !o_ready;
    offered <= o_payload;
    if (rst) unstable <= 0;
    else if (waiting && (o_valid !== 1'b1 || o_payload !== offered)) unstable <= unstable + 1;
    if (rst) begin
      done <= 0; mismatches <= 0; first_index <= 0; first_got <= 0; checked <= 0; extra <= 0; cycles <= 0; stuck <= 0;
      all_cycles <= 0; wrong_again <= 0; begun <= 0; place <= 0;
      in_flight <= 0; running <= 0; loaded <= 0; since <= 0; resetting <= 0; idle <= 0;
      rounds <= 0; i_held <= 0; stalls <= stall_seed;
    end else if (loading) loaded <= loaded + 1;
    else if (resetting != 0) begin
      resetting <= resetting - 1;
      begun <= 0; place <= 0; checked <= 0; cycles <= 0; all_cycles <= 0; since <= 0; i_held <= 0; idle <= 0;
      if (o_valid === 1'b1 && resetting != rounds) extra <= extra + 1;  // from the second cycle on nothing may be there
    end else if (!running) running <= !done;
    else if (!done) begin
      i_held <= i_valid && !i_taken;
      begun <= begun + i_taken;
      since <= started ? since + 1 : 0;
      if ((started || i_taken) && checked < count) cycles <= cycles + 1;
      if ((started || i_taken) && checked != total) all_cycles <= all_cycles + 1;
      idle <= given || i_taken || ({taken}) ? 0 : idle + 1;
      if (given && checked == total) extra <= extra + 1;
      if (given && checked != total) begin
        wrong = 0;
        for (c = 0; c < {columns}; c = c + 1)
          if (o_payload[c * {lane} +: {lane}] !== want[c * {lane} +: {lane}]) wrong = wrong + 1;
        if (wrong != 0 && mismatches == 0 && checked < count) begin
          first_index <= checked; first_got <= o_payload;
        end
        if (checked < count) mismatches <= mismatches + wrong;
        else wrong_again <= wrong_again + wrong;
        checked <= checked + 1;
        place <= place + 1 == count ? 0 : place + 1;
      end
      if (rounds != resets && since >= reset_after * (rounds + 1)) begin
        rounds <= rounds + 1;
        resetting <= rounds + 1;
        if (started && checked != total) in_flight <= in_flight + 1;
      end
      if (checked == total && (idle == {quiet} || extra == {quiet})) done <= 1;
      if (checked != total && idle == {patience}) begin
        stuck <= 1; done <= 1;
      end
    end
  end

{xorshift}endmodule
"""
