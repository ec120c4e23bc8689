// A bench as a user of the engine would write it: memories filled from files, four streams, and the words that come out.
// The widths are those of engine.rtl.json; PROGRAM, WORDS, WEIGHTS, CHANNELS and RESULTS are the lines of each file.
`timescale 1ns / 1ns
module user_bench;
  reg clk = 0;
  reg rst = 0;
  always #5 clk = ~clk;

  reg [`PROGRAM_BITS-1:0] instructions [0:`PROGRAM-1];
  reg [`WORD_BITS-1:0] inputs [0:`WORDS-1];
  reg [`WEIGHT_BITS-1:0] weights [0:`WEIGHTS-1];
  reg [`CHANNEL_BITS-1:0] channels [0:`CHANNELS-1];
  reg [`WORD_BITS-1:0] results [0:`RESULTS-1];
  integer pc = 0, input_at = 0, weight_at = 0, channel_at = 0, result_at = 0, wrong = 0, cycles = 0;

  wire program_ready, i_ready, w_ready, c_ready, o_valid;
  wire [`WORD_BITS-1:0] o;
  engine engine_0 (
    .clk(clk),
    .rst(rst),
    .program__payload(instructions[pc]),
    .program__valid(!rst && pc < `PROGRAM),
    .program__ready(program_ready),
    .i__payload(inputs[input_at]),
    .i__valid(input_at < `WORDS),
    .i__ready(i_ready),
    .w__payload(weights[weight_at]),
    .w__valid(weight_at < `WEIGHTS),
    .w__ready(w_ready),
    .c__payload(channels[channel_at]),
    .c__valid(channel_at < `CHANNELS),
    .c__ready(c_ready),
    .o__payload(o),
    .o__valid(o_valid),
    .o__ready(1'b1),
    .busy()
  );

  initial begin
    $readmemh("program.hex", instructions);
    $readmemh("i.hex", inputs);
    $readmemh("w.hex", weights);
    $readmemh("c.hex", channels);
    $readmemh("results.hex", results);
    #12 rst = 1;
    #20 rst = 0;
  end

  always @(posedge clk)
    if (rst === 0 && $time > 30) begin
      cycles <= cycles + 1;
      if (pc < `PROGRAM && program_ready) pc <= pc + 1;
      if (input_at < `WORDS && i_ready) input_at <= input_at + 1;
      if (weight_at < `WEIGHTS && w_ready) weight_at <= weight_at + 1;
      if (channel_at < `CHANNELS && c_ready) channel_at <= channel_at + 1;
      if (o_valid) begin
        if (o !== results[result_at]) wrong = wrong + 1;
        result_at <= result_at + 1;
        if (result_at == `RESULTS - 1) begin
          $display("%0d results, %0d wrong, %0d cycles", `RESULTS, wrong, cycles);
          $finish;
        end
      end
      if (cycles == 200000) begin
        $display("stuck at instruction %0d", pc);
        $finish;
      end
    end
endmodule
