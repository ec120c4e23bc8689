"""The specification in Verilog, written apart from the hardware, and the assertions that compare the two.

Each function returns the text of a module `check` around a module `unit`. Beats in flight are followed by shadow
registers, one rank after each register rank of the unit: field `x` of the beat that passed k ranks is `x_k`. They move
when `i__ready` is 1; that this moves beats faithfully is what `handshake` proves. Inputs that are no port of `check`'s
claim are free. `reached` is an output that a trace must be able to raise, or the proof would say nothing.
"""

from collections.abc import Sequence

from rtl.formal.opened import ranks_before
from rtl.pwl import PwlConfig
from sim.reference import LoweredTable
from sim.reference.arithmetic import code_range


def table(config: PwlConfig, lowered: LoweredTable) -> str:
    """A hard-wired unit gives the reference's result for `lowered`, whatever `config` it was built from."""
    n = config.stages
    packed = {
        "T": _packed(lowered.thresholds, config.in_bits),
        "S": _packed(lowered.slopes, config.coef_bits),
        "C": _packed(lowered.intercepts, config.coef_bits),
    }
    constants = "\n".join(
        f"  wire [{width - 1}:0] {name} = {width}'h{value:x};" for name, (value, width) in packed.items()
    )
    top = f"q_{n}[{config.in_bits - 1}]" if config.in_signed else "1'b0"
    body = f"""{constants}
{_selected(config, f"q_{n}")}
  // one bit wider than the code, so that an unsigned one keeps its value beside a signed slope
  wire signed [{config.in_bits}:0] wide_q = {{{top}, q_{n}}};
  wire signed [{config.in_bits + config.coef_bits}:0] product = wide_q * want_slope;
{_result(config, "product", "want_intercept", str(lowered.intercept_shift), str(lowered.output_shift))}
  always @* if (v[{n}]) assert(y == want);
  assign reached = v[{n}] && o_ready && index == {config.entries - 1} && stalled;"""
    return _beats(config, {"q": (0, "i_payload")}, "", body)


def selection(config: PwlConfig) -> str:
    """For every sorted table: slope and intercept are those of the number of thresholds at or below q."""
    rank, bits = ranks_before(config)["select"], config.in_bits
    body = f"""{_selected(config, f"q_{rank}")}
  reg sorted;
  always @* begin
    sorted = 1;
    for (j = 1; j < {config.entries - 1}; j = j + 1)
      if ({_word("T", "j", bits, config.in_signed)} < {_word("T", "(j-1)", bits, config.in_signed)}) sorted = 0;
  end
  always @* assume(sorted);
{_still(["T", "S", "C"])}
  always @* if (v[{rank}]) assert(slope == want_slope);
  always @* if (v[{rank}]) assert(intercept == want_intercept);
  assign reached = v[{rank}] && index == 1 && slope != 0;"""
    return _beats(config, {"q": (0, "i_payload")}, _OPENED, body, cut=False)


def product(config: PwlConfig) -> str:
    """The multiplier's output is the sum of its partial products."""
    top = config.coef_bits - 1
    width = config.in_bits + config.coef_bits
    body = f"""
  integer j;
  reg signed [{width - 1}:0] sum, q;
  always @* begin
    q = factor_q;
    sum = factor_slope[{top}] ? -(q <<< {top}) : {width}'sd0;
    for (j = 0; j < {top}; j = j + 1) sum = sum + (factor_slope[j] ? q <<< j : {width}'sd0);
  end
  always @* assert(product == sum);
  assign reached = product == -1;"""
    return _beats(config, {"q": (0, "i_payload")}, _OPENED, body, cut=False)


def arithmetic(config: PwlConfig) -> str:
    """Whatever slope, intercept and product a beat is given, the multiplier sees its q and slope, and it leaves with
    the reference's result."""
    ranks, n = ranks_before(config), config.stages
    select, multiply = ranks["select"], ranks["multiply"]
    shifts = [name if name in config.shift_ports else str(getattr(config, name) or 0) for name in _SHIFTS]
    fields = {
        "q": (0, "i_payload"),
        "slope": (select, "slope"),
        "intercept": (select, "intercept"),
        "product": (multiply, "product"),
    }
    limits = "\n".join(f"  always @* assume({s} <= {config.largest(s)});" for s in config.shift_ports)
    body = f"""{_result(config, f"product_{n}", f"intercept_{n}", *shifts)}
{_still(config.shift_ports)}
{limits}
  always @* if (v[{multiply}]) assert(factor_q == q_{multiply});
  always @* if (v[{multiply}]) assert(factor_slope == slope_{multiply});
  always @* if (v[{n}]) assert(y == want);
  assign reached = v[{n}] && o_ready && stalled && want == 3;"""
    return _beats(config, fields, _OPENED, body, cut=True)


def handshake(config: PwlConfig) -> str:
    """The beats that leave are the beats that came: a queue as the model, with the stall contract of `rtl.emit`."""
    n, bits = config.stages, config.in_bits
    ahead = [" + ".join(["3'd0", *(f"v[{k}]" for k in range(stage + 1, n + 1))]) for stage in range(n + 1)]
    places = "\n".join(
        f"  always @* if (v[{k}]) assert(queue[({ahead[k]})*{bits} +: {bits}] == q_{k});" for k in range(1, n + 1)
    )
    body = f"""
  // what is inside, oldest beat lowest
  reg [{(n + 1) * bits - 1}:0] queue, after_pop;
  reg [2:0] count;
  wire pop = o_valid & o_ready, push = i_valid & i_ready;
  always @* after_pop = pop ? queue >> {bits} : queue;
  always @(posedge clk) begin
    queue <= after_pop;
    if (push) queue[(count - pop)*{bits} +: {bits}] <= i_payload;
    count <= rst ? 3'd0 : count + push - pop;
  end
{places}
  always @* assert(count == {ahead[0]});
  always @* assert(o_valid == v[{n}]);
  always @* assert(!o_ready || i_ready);
  always @* assert(i_ready || o_valid);
  reg waiting;
  reg {"signed " if config.out_shape.signed else ""}[{config.out_shape.width - 1}:0] waiting_y;
  always @(posedge clk) begin waiting <= o_valid & !o_ready & !rst & started; waiting_y <= y; end
  always @* if (waiting) assert(o_valid);
  always @* if (waiting) assert(y == waiting_y);
  assign reached = stalled && pop && push && count == {n};"""
    return _beats(config, {"q": (0, "i_payload")}, _OPENED, body)


def load(config: PwlConfig) -> str:
    """Each word that was written since the reset holds the last data written to it."""
    lists = (
        (config.entries - 1, config.in_bits),
        (config.entries, config.coef_bits),
        (config.entries, config.coef_bits),
    )
    total = sum(count * bits for count, bits in lists)
    address = (config.entries - 1).bit_length()
    writes, asserts, base, word = [], [], 0, 0
    for select, (count, bits) in enumerate(lists):
        for k in range(count):
            place = f"[{base + bits - 1}:{base}]"
            chosen = f"en && select == {select} && address == {k}"
            writes.append(f"    if ({chosen}) begin model{place} <= data; known[{word}] <= 1; end")
            asserts.append(f"  always @* if (known[{word}]) assert(words{place} == model{place});")
            base, word = base + bits, word + 1
    body = "\n".join(asserts)
    steps = "\n".join(writes)
    return f"""
module check(input clk, input rst, input en, input [1:0] select, input [{address - 1}:0] address,
             input [{config.data_bits - 1}:0] data, output reached);
  wire [{total - 1}:0] words;
  unit dut(.clk(clk), .rst(rst), .table__en(en), .table__select(select), .table__address(address), .table__data(data),
           .words(words));
  reg [{total - 1}:0] model;
  reg [{word - 1}:0] known;
  always @(posedge clk) begin
{steps}
    if (rst) known <= 0;
  end
{body}
  assign reached = known[0] && known[{word - 1}] && words[0] && !words[{total - 1}];
endmodule
"""


_SHIFTS = ("intercept_shift", "output_shift")
_OPENED = """, .thresholds(T), .slopes(S), .intercepts(C), .slope(slope), .intercept(intercept),
           .product(product), .factor_q(factor_q), .factor_slope(factor_slope)"""


def _packed(values: Sequence[int], bits: int) -> tuple[int, int]:
    return sum((v & ((1 << bits) - 1)) << (k * bits) for k, v in enumerate(values)), bits * len(values)


def _word(packed: str, k: str, bits: int, signed: bool) -> str:
    return f"{'$signed' if signed else '$unsigned'}({packed}[{bits}*{k} +: {bits}])"


def _still(names: Sequence[str]) -> str:
    """Assume that inputs never change."""
    return "\n".join(f"  reg [255:0] {n}_before; always @(posedge clk) {n}_before <= {n};\n"
                     f"  always @* if (started) assume({n}_before == {n});" for n in names)  # fmt: skip


def _selected(config: PwlConfig, q: str) -> str:
    """`index`, `want_slope` and `want_intercept` for the code `q` in the packed table T, S, C."""
    bits = config.coef_bits
    return f"""
  integer j;
  reg [6:0] index;
  always @* begin
    index = 0;
    for (j = 0; j < {config.entries - 1}; j = j + 1)
      if ({q} >= {_word("T", "j", config.in_bits, config.in_signed)}) index = index + 1;
  end
  wire signed [{bits - 1}:0] want_slope = {_word("S", "index", bits, True)};
  wire signed [{bits - 1}:0] want_intercept = {_word("C", "index", bits, True)};"""


def _result(config: PwlConfig, product: str, intercept: str, intercept_shift: str, output_shift: str) -> str:
    """`want`: the reference's formula for a product and an intercept, half added before the shift."""
    width = config.acc_bits + 1
    high = width - 1
    acc = f"""
  wire signed [{high}:0] wide_intercept = {intercept};
  wire signed [{high}:0] acc = {product} + (wide_intercept <<< {intercept_shift});"""
    if config.output == "acc":
        return f"{acc}\n  wire signed [{high}:0] want = acc;"
    low, top = code_range(config.out_bits, config.out_signed)
    return f"""{acc}
  wire signed [{high}:0] half = {output_shift} == 0 ? {width}'sd0 : {width}'sd1 <<< ({output_shift} - 1);
  wire signed [{high}:0] rounded = (acc + half) >>> {output_shift};
  wire signed [{high}:0] want = rounded > {top} ? {top} : rounded < {low} ? {low} : rounded;"""


def _beats(config: PwlConfig, fields: dict[str, tuple[int, str]], extra: str, body: str, cut: bool = False) -> str:
    """The module: ports, the unit, valid bits and shadow fields {name: (rank where it appears, wire)}, then `body`."""
    sign = {True: "signed ", False: ""}
    coefficient = f"signed [{config.coef_bits - 1}:0]"
    shapes = {
        "q": f"{sign[config.in_signed]}[{config.in_bits - 1}:0]",
        "slope": coefficient,
        "intercept": coefficient,
        "product": f"signed [{config.in_bits + config.coef_bits - 1}:0]",
    }
    given = [f"input {shapes[name]} {name}" for name in ("slope", "intercept", "product")] if cut else []
    wires = [] if cut or not extra else [f"  wire {shapes[name]} {name};" for name in ("slope", "intercept", "product")]
    if extra:
        given += [f"input [{config.in_bits * (config.entries - 1) - 1}:0] T"]
        given += [f"input [{config.coef_bits * config.entries - 1}:0] {name}" for name in "SC"]
        wires += [f"  wire {shapes['q']} factor_q;", f"  wire {coefficient} factor_slope;"]
    for name in config.shift_ports:
        given.append(f"input [{config.largest(name).bit_length() - 1}:0] {name}")
        extra += f", .{name}({name})"
    moves, shadows = [], []
    for name, (start, wire) in fields.items():
        shadows.append(f"  wire {shapes[name]} {name}_{start} = {wire};")
        for k in range(start + 1, config.stages + 1):
            shadows.append(f"  reg {shapes[name]} {name}_{k};")
            moves.append(f"      {name}_{k} <= {name}_{k - 1};")
    ports = ",\n             ".join(
        [
            "input clk, input rst, input i_valid",
            f"input {shapes['q']} i_payload",
            "input o_ready",
            *given,
            "output reached",
        ]
    )
    lines = "\n".join([*wires, *shadows])
    steps = "\n".join(moves)
    n = config.stages
    return f"""
module check({ports});
  wire i_ready, o_valid;
  wire {sign[config.out_shape.signed]}[{config.out_shape.width - 1}:0] y;
  unit dut(.clk(clk), .rst(rst), .i__valid(i_valid), .i__payload(i_payload), .i__ready(i_ready), .o__valid(o_valid),
           .o__ready(o_ready), .o__payload(y){extra});
  reg [{n}:1] v_held;
  wire [{n}:0] v = {{v_held, i_valid}};
  reg started = 0, stalled = 0;
{lines}
  always @(posedge clk) begin
    started <= 1;
    stalled <= !rst & (stalled | (o_valid & !o_ready));
    if (i_ready) begin
      v_held <= v[{n - 1}:0];
{steps}
    end
    if (rst) v_held <= 0;
  end
{body}
endmodule
"""
