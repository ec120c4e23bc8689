"""The piecewise-linear unit's specification in Verilog, written independently of the hardware, and its assertions.

Each function returns the text of a module `check` (see `rtl.formal.beats`) around a unit that `rtl.formal.prove`
opened. Inputs of the unit that a claim does not constrain are free.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rtl.blocks import pipeline
from rtl.formal import beats
from rtl.formal.opened import Opened
from rtl.pwl import PwlConfig, pwl_steps
from sim.reference import LoweredTable
from sim.reference.arithmetic import code_range
from sim.reference.code_format import OPTIONAL

SHIFTS = ("intercept_shift", "output_shift")


def words(config: PwlConfig) -> dict[str, bool]:
    """The wires of a stored table in load order: name to whether it is signed."""
    return (
        {f"threshold_{k}": config.in_signed for k in range(config.entries - 1)}
        | {f"slope_{k}": True for k in range(config.entries)}
        | {f"intercept_{k}": True for k in range(config.entries)}
    )


def ranks_before(config: PwlConfig) -> dict[str, int]:
    """For each step, the number of register ranks before it."""
    none: list[object] = [0] * config.entries
    steps = pwl_steps(config, (none[1:], none, none), (0, 0))
    ends = pipeline.cut([step.levels for step in steps], config.stages)
    return {step.name: sum(end < position for end in ends) for position, step in enumerate(steps)}


def table(unit: Opened, config: PwlConfig, lowered: LoweredTable) -> str:
    """A hard-wired unit gives the reference's result for `lowered`, whatever `config` it was built from."""
    body = _computes(config, _constants(config, lowered), [str(lowered.intercept_shift), str(lowered.output_shift)])
    return beats.module(unit, config.stages, {"q": (0, "i__payload")}, body)


def stored(unit: Opened, config: PwlConfig, lowered: LoweredTable) -> str:
    """A unit into which `lowered` was written, in any order and any number of times, holds and computes it.

    Assumed: every write is a word of `lowered`, no code comes before every word was written, and the shifts are the
    table's while a beat is inside. Resets are free.
    """
    shifts = "\n".join(f"  always @* if (v != 0) assume({s} == {getattr(lowered, s)});" for s in config.shift_ports)
    body = f"""{beats.in_order(unit, config.stages, "q")}
{loading(config, lambda word: str(config.words(lowered)[word].data))}
{shifts}
{_computes(config, _constants(config, lowered), [str(getattr(lowered, s)) for s in SHIFTS])}"""
    return beats.module(unit, config.stages, {"q": (0, "i__payload")}, body)


def whole(unit: Opened, config: PwlConfig) -> str:
    """The stored unit holds and computes any sorted table that was written to it, and any table after that.

    This is the claim that the other checkers make together. Assumed: writes and changes of the shifts happen only while
    no beat is inside.
    """
    shifts = _shifts(config)
    body = f"""{beats.in_order(unit, config.stages, "q")}
{loading(config, None)}
  always @* if (table__en) assume(v == 0);
{beats.quasi_static(config.shift_ports)}
{_limits(config)}
{_packed_words(config)}
{_sorted(config)}
{_computes(config, "", shifts)}"""
    return beats.module(unit, config.stages, {"q": (0, "i__payload")}, body)


def selection(unit: Opened, config: PwlConfig) -> str:
    """For every sorted table: slope and intercept are those of the number of thresholds at or below q."""
    rank = ranks_before(config)["select"]
    body = f"""{_packed_words(config)}
{_selected(config, f"q_at_{rank}")}
{_sorted(config)}
  always @* if (table__en) assume(v == 0);
  always @* if (v[{rank}]) assert(slope == want_slope);
  always @* if (v[{rank}]) assert(intercept == want_intercept);
  assign reached = v[{rank}] && index == 1 && slope != 0;"""
    return beats.module(unit, config.stages, {"q": (0, "i__payload")}, body)


def product(unit: Opened, config: PwlConfig) -> str:
    """The two rows at the tree's output add up to the product and the addend, without overflow.

    Assumed: the addend is an intercept shifted within the unit's range, which `arithmetic` proves.
    """
    top = config.coef_bits - 1
    width = exact_bits(config)
    reach = f"{width}'sd{1 << top + config.largest('intercept_shift')}"
    body = f"""
  integer j;
  reg signed [{width - 1}:0] sum, q;
  wire signed [{config.acc_bits - 1}:0] total = row_0 + row_1;
  wire signed [{width - 1}:0] wide_addend = addend;
  always @* assume(wide_addend >= -{reach} && wide_addend < {reach});
  always @* begin
    q = factor_0;
    sum = factor_1[{top}] ? -(q <<< {top}) : {width}'sd0;
    for (j = 0; j < {top}; j = j + 1) sum = sum + (factor_1[j] ? q <<< j : {width}'sd0);
    sum = sum + addend;
  end
  always @* assert(total == sum);
  assign reached = sum == -1;"""
    return beats.module(unit, config.stages, {}, body)


def arithmetic(unit: Opened, config: PwlConfig) -> str:
    """For any slope, intercept and rows: the tree gets q, the slope and the shifted intercept, and the result is the
    sum of the rows as the reference rounds it.
    """
    ranks, n = ranks_before(config), config.stages
    select, multiply = ranks["select"], ranks["multiply"]
    fields = {
        "q": (0, "i__payload"),
        "slope": (select, "slope"),
        "intercept": (select, "intercept"),
        "row_0": (multiply, "row_0"),
        "row_1": (multiply, "row_1"),
    }
    high = config.acc_bits - 1
    wide = config.coef_bits + config.largest("intercept_shift")  # holds every shifted intercept
    body = f"""
  wire signed [{high}:0] acc = row_0_at_{n} + row_1_at_{n};
  wire signed [{wide}:0] wide_intercept = intercept_at_{multiply};
  wire signed [{wide}:0] aligned = wide_intercept <<< {_shifts(config)[0]};
  wire signed [{wide}:0] wide_addend = addend;
{_rounded_acc(config, config.acc_bits + 1, "acc", _shifts(config)[1])}
{beats.quasi_static(config.shift_ports)}
{_limits(config)}
  always @* if (v[{multiply}]) assert(factor_0 == q_at_{multiply});
  always @* if (v[{multiply}]) assert(factor_1 == slope_at_{multiply});
  always @* if (v[{multiply}]) assert(wide_addend == aligned);
  always @* if (v[{n}]) assert(o__payload == want);
  assign reached = v[{n}] && o__ready && stalled && want == 3;"""
    return beats.module(unit, config.stages, fields, body)


def load(unit: Opened, config: PwlConfig) -> str:
    """Each word that was written holds the last data written to it, for all beats and resets."""
    last = len(words(config)) - 1
    body = f"""{loading(config, None, guard=False)}
  reg seen_reset;
  always @(posedge clk) seen_reset <= !boot && (seen_reset || (rst && known[0] && !table__en));
  assign reached = seen_reset && known[{last}] && threshold_0[0] && !model_{last}[0];"""
    return beats.module(unit, config.stages, {}, body)


def latched(unit: Opened, config: PwlConfig) -> str:
    """Each word of a latched table holds the last data written to it from the second cycle on, in both halves of a
    cycle: data and gates do not race.

    A step of the trace is half a cycle; registers sample the value before their edge.
    """
    holds = []
    for word, (here, bits) in enumerate(_addressed(config, "_taken")):
        name = list(words(config))[word]
        holds.append(f"  wire here_{word} = {here};")
        holds.append(f"  always @* if (known[{word}] && !(here_{word} && !clk)) assert({name} == model_{word});")
        holds.append(f"  always @* if (here_{word} && !clk) assert({name} == table__data_taken[{bits - 1}:0]);")
    writes = "\n".join(
        f"    if (here_{word}) model_{word} <= table__data_taken;\n"
        f"    known[{word}] <= !boot && (known[{word}] || here_{word});"
        for word in range(len(words(config)))
    )
    models = "\n".join(f"  reg [{bits - 1}:0] model_{word};" for word, (_, bits) in enumerate(_addressed(config, "")))
    ports = (("en", 1), ("select", 2), ("address", unit["table__address"].width), ("data", config.data_bits))
    taken = "\n".join(
        f"  reg [{bits - 1}:0] table__{name}_taken; always @(posedge clk) table__{name}_taken <= table__{name};\n"
        f"  always @* assert({inner} == table__{name}_taken);"
        for (name, bits), inner in zip(ports, LATCH_PORT, strict=True)
    )
    last = len(words(config)) - 1
    body = f"""
  (* gclk *) reg step;
  reg clk_before;
  always @(posedge step) clk_before <= clk;
  always @* assume(clk != clk_before);
  reg [{last}:0] known;
{models}
{taken}
  always @* if (!clk) assert(data_held == table__data_taken);
{chr(10).join(holds)}
  always @(posedge clk) begin
{writes}
  end
  assign reached = &known && threshold_0[0] && !slope_0[0] && table__en_taken;"""
    return beats.module(unit, config.stages, {}, body)


LATCH_PORT = ("en", "select", "address", "data_taken")  # the registers of the port in `rtl.blocks.storage`


def _addressed(config: PwlConfig, suffix: str) -> list[tuple[str, int]]:
    """(expression that is true if the table port writes it, bits) of each word in load order.

    `suffix` is appended to the names of the port's signals.
    """
    slope = config.coef_bits if config.slope_form == "any" else config.lists["slope_powers"][0]
    lists = (config.entries - 1, config.in_bits), (config.entries, slope), (config.entries, config.coef_bits)
    return [
        (f"table__en{suffix} && table__select{suffix} == {select} && table__address{suffix} == {address}", bits)
        for select, (count, bits) in enumerate(lists)
        for address in range(count)
    ]


def loading(config: PwlConfig, value: Callable[[int], str] | None, guard: bool = True) -> str:
    """Assert that each written word holds the last data written to it; `known` has a bit for each word in load order.

    With `value`, every write to word k is assumed to have the data `value(k)`; without it, `model_k` follows the
    writes. With `guard`, no beat comes before every word was written.
    """
    names = list(words(config))
    writes, asserts, models = [], [], []
    for word, (name, (here, bits)) in enumerate(zip(names, _addressed(config, ""), strict=True)):
        if value is None:
            models.append(f"  reg {'signed ' if words(config)[name] else ''}[{bits - 1}:0] model_{word};")
            writes.append(f"    if ({here}) model_{word} <= table__data;")
            holds = f"model_{word}"
        else:
            holds = f"{bits}'d{value(word)}"
            asserts.append(f"  always @* if ({here}) assume(table__data[{bits - 1}:0] == {holds});")
        writes.append(f"    known[{word}] <= !boot && (known[{word}] || ({here}));")
        asserts.append(f"  always @* if (known[{word}]) assert($unsigned({name}) == $unsigned({holds}));")
    if guard:
        asserts.append("  always @* if (v != 0) assume(&known);")
    lines = "\n".join([*models, "  always @(posedge clk) begin", *writes, "  end", *asserts])
    return f"  reg [{len(names) - 1}:0] known;\n{lines}"


def _computes(config: PwlConfig, table: str, shifts: Sequence[str]) -> str:
    """Assert that results are the reference's for the packed table T, S, C, which the text `table` declares."""
    n, numbers = config.stages, config.code_format
    top = f"q_at_{n}[{config.in_bits - 1}]" if config.in_signed else "1'b0"
    wide = exact_bits(config)
    return f"""{table}
{_selected(config, f"q_at_{n}")}
  // one bit wider than the code, so that an unsigned one keeps its value beside a signed slope
  wire signed [{config.in_bits}:0] wide_q = {{{top}, q_at_{n}}};
  wire signed [{config.in_bits}:0] factor = {"wide_q < 0 ? -wide_q : wide_q" if numbers.folded else "wide_q"};
  wire signed [{config.coef_bits}:0] wide_slope = {_number("want_slope", numbers.slope_sign)};
  wire signed [{config.in_bits + config.coef_bits + 1}:0] wide_product = factor * wide_slope;
  // wide enough for every sum, whatever the unit's accumulator holds
  wire signed [{wide}:0] wide_intercept = {_number("want_intercept", numbers.intercept_sign)};
  wire signed [{wide}:0] half_acc = wide_product + (wide_intercept <<< {shifts[0]});
  wire signed [{wide}:0] one = {wide + 1}'sd1 <<< {config.fold_bits};
  wire signed [{wide}:0] acc = {_UNFOLDED[config.symmetry].format(shift=shifts[0])};
{_rounded_acc(config, wide + 1, "acc", shifts[1])}
  always @* if (v[{n}]) assert(o__payload == want);
  assign reached = v[{n}] && o__ready && index == {config.entries - 1} && stalled;"""


# `sim.reference.folding.unfold`, with half_acc for y
_UNFOLDED = {
    "none": "half_acc",
    "odd": "wide_q < 0 ? -half_acc : half_acc",
    "complement": "wide_q < 0 ? (one <<< {shift}) - half_acc : half_acc",
    "gated": "wide_q < 0 ? half_acc + wide_q * one : half_acc",
}


def _number(word: str, sign: str) -> str:
    """A stored word as a signed expression of a bit more."""
    top = {"signed": "", "unsigned": "1'b0, ", "negative": f"{word} != 0, "}[sign]
    return f"$signed({{{top}{word}}})"


def _constants(config: PwlConfig, lowered: LoweredTable) -> str:
    words = replace(config, slope_form="any").words(lowered)
    widths = [bits for bits, _ in config.code_format.lists.values()]
    bits = [widths[word.select] for word in words]
    return _packed(config, [f"{width}'d{word.data}" for width, word in zip(bits, words, strict=True)])


def _packed(config: PwlConfig, terms: Sequence[str]) -> str:
    """T, S and C from the words in load order, entry 0 lowest."""
    n = config.entries
    widths = [bits for bits, _ in config.code_format.lists.values()]
    parts = terms[: n - 1], terms[n - 1 : 2 * n - 1], terms[2 * n - 1 :]
    lists = zip("TSC", widths, parts, strict=True)
    return "\n".join(
        f"  wire [{bits * len(part) - 1}:0] {name} = {{{', '.join(reversed(part))}}};" for name, bits, part in lists
    )


def _packed_words(config: PwlConfig) -> str:
    return _packed(config, list(words(config)))


def _word(packed: str, k: str, bits: int, signed: bool) -> str:
    return f"{'$signed' if signed else '$unsigned'}({packed}[{bits}*{k} +: {bits}])"


def _sorted(config: PwlConfig) -> str:
    """Assume that the thresholds are sorted while a beat is inside."""
    bits, signed = config.in_bits, config.in_signed
    return f"""
  integer i;
  reg sorted;
  always @* begin
    sorted = 1;
    for (i = 1; i < {config.entries - 1}; i = i + 1)
      if ({_word("T", "i", bits, signed)} < {_word("T", "(i-1)", bits, signed)}) sorted = 0;
  end
  always @* if (v != 0) assume(sorted);"""


def _shifts(config: PwlConfig) -> list[str]:
    return [name if name in config.shift_ports else str(getattr(config, name) or 0) for name in SHIFTS]


def _limits(config: PwlConfig) -> str:
    """Assume that shifts are in the range that the unit is built for."""
    return "\n".join(f"  always @* assume({s} <= {config.largest(s)});" for s in config.shift_ports)


def _selected(config: PwlConfig, q: str) -> str:
    """`index`, `want_slope` and `want_intercept` for the code `q` in the packed table T, S, C."""
    numbers = config.code_format
    (threshold, _), (slope, _), (intercept, _) = numbers.lists.values()
    reached = f"{q} >= {_word('T', 'j', threshold, config.in_signed)}"
    magnitude = ""
    if numbers.folded:  # one bit more than the code, for that of the lowest one
        top = config.in_bits - 1
        magnitude = f"  wire [{top + 1}:0] magnitude = {q}[{top}] ? -{{1'b1, {q}}} : {{1'b0, {q}}};"
        reached = f"magnitude > {_word('T', 'j', threshold, False)}"
    return f"""
{magnitude}
  integer j;
  reg [6:0] index;
  always @* begin
    index = 0;
    for (j = 0; j < {config.entries - 1}; j = j + 1)
      if ({reached}) index = index + 1;
  end
  wire signed [{slope - 1}:0] want_slope = {_word("S", "index", slope, True)};
  wire signed [{intercept - 1}:0] want_intercept = {_word("C", "index", intercept, True)};"""


def exact_bits(config: PwlConfig) -> int:
    """Bits that hold every sum of a product and a shifted intercept, and one more, for any width of the unit."""
    intercept = config.code_format.intercept_width
    sums = max(config.in_bits + config.coef_bits, intercept + config.largest("intercept_shift")) + 2
    return sums if set(config.code_format.to_dict()).isdisjoint(OPTIONAL) else max(sums, config.acc_bits) + 2


def _rounded_acc(config: PwlConfig, width: int, acc: str, output_shift: str) -> str:
    """`want`, of `width` bits: the result for the signed accumulator `acc`, which needs one bit less."""
    if config.output == "acc":
        return f"  wire signed [{width - 1}:0] want = {acc};"
    return rounded(acc, output_shift, width, *code_range(config.out_bits, config.out_signed))


def rounded(value: str, shift: str, width: int, low: int, top: int, zero_point: str = "0") -> str:
    """`want`: round half up `value` >> `shift`, add `zero_point`, clamp to `low`..`top`.

    `value` is signed, of `width` bits, of which it needs one less.
    """
    high = width - 1
    return f"""
  wire signed [{high}:0] half = {shift} == 0 ? {width}'sd0 : {width}'sd1 <<< ({shift} - 1);
  wire signed [{high}:0] rounded = (({value} + half) >>> {shift}) + {zero_point};
  wire signed [{high}:0] want = rounded > {top} ? {top} : rounded < {low} ? {low} : rounded;"""
