"""The frame of every checker: a module `check` around the module `unit`, with shadow registers for beats in flight.

The inputs of `check` are those of the unit and `boot`, which is 1 in the first cycle of a trace. There is a rank of
shadow registers for each register rank of the unit: `v[k]` is 1 if a beat has passed k ranks, and its field `x` is
`x_at_k`. They move when `i__ready` is 1; `handshake` proves that the unit's beats move in the same way. A trace must be
able to raise the output `reached`, or the proof is vacuous.
"""

from collections.abc import Mapping, Sequence

from rtl.formal.opened import Opened

VALID = "valid_{}"  # the name of a rank's valid bit in `rtl.blocks.pipeline`


def module(unit: Opened, stages: int, fields: Mapping[str, tuple[int, str]], body: str) -> str:
    """The text of `check`: the unit, valid bits, shadow fields {name: (rank where it appears, wire)}, then `body`."""
    inputs = [port for port in unit.ports if port.direction == "input"]
    outputs = [port for port in unit.ports if port.direction == "output"]
    shadows, moves = [], []
    for name, (start, wire) in fields.items():
        shape = unit[wire].shape
        shadows.append(f"  wire {shape} {name}_at_{start} = {wire};")
        for k in range(start + 1, stages + 1):
            shadows.append(f"  reg {shape} {name}_at_{k};")
            moves.append(f"      {name}_at_{k} <= {name}_at_{k - 1};")
    heading = ",\n  ".join(["input clk, input rst, input boot", *(f"input {p.shape} {p.name}" for p in inputs)])
    connections = ", ".join(f".{name}({name})" for name in ["clk", "rst", *(p.name for p in unit.ports)])
    wires = "\n".join(f"  wire {p.shape} {p.name};" for p in outputs)
    lines = "\n".join(shadows)
    steps = "\n".join(moves)
    return f"""
module check(
  {heading},
  output reached
);
{wires}
  unit dut({connections});
  reg [{stages}:1] v_held;
  wire [{stages}:0] v = {{v_held, i__valid}};
  reg stalled, idle_before;
{lines}
  always @(posedge clk) begin
    idle_before <= v == 0;
    stalled <= !rst & (stalled | (o__valid & !o__ready));
    if (i__ready) begin
      v_held <= v[{stages - 1}:0];
{steps}
    end
    if (rst) v_held <= 0;
  end
{body}
endmodule
"""


def valid_bits(stages: int) -> dict[str, bool]:
    """The valid bits inside a unit, as wires for `Opened.shown`."""
    return {VALID.format(k): False for k in range(stages - 1)}


def quasi_static(names: Sequence[str]) -> str:
    """Assume that quasi-static inputs change only while no beat is inside."""
    return "\n".join(f"  reg [255:0] {n}_before; always @(posedge clk) {n}_before <= {n};\n"
                     f"  always @* if (!idle_before) assume({n}_before == {n});" for n in names)  # fmt: skip


def handshake(unit: Opened, stages: int) -> str:
    """The checker that asserts `in_order` and nothing else."""
    body = f"""{in_order(unit, stages, "beat")}
  assign reached = stalled && pop && push && count == {stages};"""
    return module(unit, stages, {"beat": (0, "i__payload")}, body)


def in_order(unit: Opened, stages: int, field: str) -> str:
    """Assert that beats leave in order, none lost or doubled, and the stall contract of `rtl.emit`.

    A queue models the beats inside. `field` is the shadow of the input's payload. The unit must show its `valid_bits`;
    that of the last rank is `o__valid`.
    """
    n, bits = stages, unit["i__payload"].width
    ahead = [" + ".join(["4'd0", *(f"v[{k}]" for k in range(stage + 1, n + 1))]) for stage in range(n + 1)]
    places = "\n".join(
        f"  always @* if (v[{k}]) assert(queue[({ahead[k]})*{bits} +: {bits}] == {field}_at_{k});"
        for k in range(1, n + 1)
    )
    held = [*valid_bits(n), "o__valid"]
    valid = "\n".join(f"  always @* assert({name} == v[{k}]);" for k, name in enumerate(held, 1))
    return f"""
  // what is inside, oldest beat lowest
  reg [{(n + 1) * bits - 1}:0] queue, after_pop;
  reg [3:0] count;
  wire pop = o__valid & o__ready, push = i__valid & i__ready;
  always @* after_pop = pop ? queue >> {bits} : queue;
  always @(posedge clk) begin
    queue <= after_pop;
    if (push) queue[(count - pop)*{bits} +: {bits}] <= i__payload;
    count <= rst ? 4'd0 : count + push - pop;
  end
{places}
  always @* assert(count == {ahead[0]});
{valid}
  always @* assert(!o__ready || i__ready);
  always @* assert(i__ready || o__valid);
  reg waiting;
  reg {unit["o__payload"].shape} waiting_payload;
  always @(posedge clk) begin
    waiting <= o__valid & !o__ready & !rst;
    waiting_payload <= o__payload;
  end
  always @* if (waiting) assert(o__valid);
  always @* if (waiting) assert(o__payload == waiting_payload);"""
