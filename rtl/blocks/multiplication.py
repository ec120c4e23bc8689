"""A product in carry-save form, so that a pipeline register can stand between the tree and the carry chain.

Booth's radix-4 recoding halves the number of rows. A three-greedy tree [1]_ adds them without carry propagation: in
each column it takes the three earliest bits first.

References
----------
.. [1] Oklobdzija, Villeger and Liu, "A method for speed optimized partial product reduction and generation of fast
   parallel multipliers using an algorithmic approach", IEEE Trans. Computers 45(3), 1996.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil, log

from amaranth.hdl import C, Cat, Module, Mux, Value

from rtl.blocks.pipeline import wire

# two rows of a * b + addend from (module, a, b, width, addend, negate): `carry_save` or `as_operator`
Product = Callable[[Module, Value, Value, int, Value | None, Value | None], tuple[Value, Value]]

_LATE = 2  # gate levels of a full adder, in the unit in which the rows' bits arrive at 0


def carry_save(
    m: Module,
    a: Value,
    b: Value,
    width: int | None = None,
    addend: Value | None = None,
    negate: Value | None = None,
) -> tuple[Value, Value]:
    """Two rows of `width` bits (by default the product's), whose sum modulo 2**width is a * b + `addend`.

    Operands are signed or unsigned by their shapes. b is recoded; the addend is one more row. Where the bit `negate` is
    1, the product is subtracted from the addend: every digit of b changes its sign.
    """
    columns: list[list[Value]] = [[] for _ in range(len(a) + len(b) if width is None else width)]
    constant = _booth_rows(m, columns, a, b, negate)
    if addend is not None:
        constant -= _row(columns, list(addend), addend.shape().signed)
    for k, column in enumerate(columns):
        if constant >> k & 1:
            column.append(C(1, 1))
    return _compress(m, columns)


def as_operator(
    m: Module, a: Value, b: Value, width: int, addend: Value | None = None, negate: Value | None = None
) -> tuple[Value, Value]:
    """The sum of `carry_save`'s rows as one row and 0, with the operators `*` and `+` left to the synthesis tool."""
    made = a * b if negate is None else Mux(negate, -(a * b), a * b)
    total = made if addend is None else made + addend
    return wire(m, total[:width], "product"), C(0, width)


PRODUCTS: dict[str, Product] = {"tree": carry_save, "plain": as_operator}


def shifted_sum(
    m: Module, a: Value, signs: Sequence[Value], shifts: Sequence[Value], width: int, addends: Sequence[Value]
) -> tuple[Value, Value]:
    """Two rows of `width` bits, whose sum modulo 2**width is that of the addends and of a * 2**shift for each sign and
    shift, negated where the sign is 1.
    """
    columns: list[list[Value]] = [[] for _ in range(width)]
    constant = 0
    for k, (sign, shift) in enumerate(zip(signs, shifts, strict=True)):
        reach = (1 << len(shift)) - 1
        number = [*a] if a.shape().signed else [*a, C(0, 1)]
        inverted = Cat(sign.replicate(reach), *(bit ^ sign for bit in number)).as_signed()
        moved = (inverted << shift)[reach : reach + width]  # the sign is shifted in below, as -x is ~x + 1
        constant -= _row(columns, list(wire(m, moved, f"shifted_{k}")), negative=True)
        columns[0].append(sign)  # the 1 of the two's complement
    for addend in addends:
        constant -= _row(columns, list(addend), addend.shape().signed)
    for k, column in enumerate(columns):
        if constant >> k & 1:
            column.append(C(1, 1))
    return _compress(m, columns)


def product_name(product: Product) -> str:
    """The name of a product in `PRODUCTS`."""
    return next(name for name, made in PRODUCTS.items() if made is product)


def carry_save_levels(b_bits: int, addends: int = 0) -> int:
    """Gate levels of the recoding of b and of the tree, as `rtl.blocks.pipeline.Step` counts them (a full adder is 0.6
    ns).
    """
    return 8 + 4 * ceil(log((b_bits // 2 + 1 + addends) / 2, 1.5))


def shifted_sum_levels(bits: int, rows: int) -> int:
    """The same of `shifted_sum` for shifts of up to `bits` bits and so many rows."""
    return 2 + 2 * (bits - 1).bit_length() + 4 * (rows - 2)


def _booth_rows(m: Module, columns: list[list[Value]], a: Value, b: Value, negate: Value | None) -> int:
    """Add the rows of a * b, one for each digit -2..2 of b; returns the constant that remains to be added."""
    signed = b.shape().signed
    multiples = Cat(C(0, 1), a, a[-1] if a.shape().signed else C(0, 1))  # bit j of 2a, and from bit 1 on a
    digits = Cat(C(0, 1), b, b[-1] if signed else C(0, 2))
    constant = 0
    for low in range(0, len(b) + (not signed), 2):
        below, here, above = digits[low], digits[low + 1], digits[low + 2]
        negative = signed or low + 1 < len(b)  # above the top bit of an unsigned b there is no digit below 0
        one = here ^ below
        two = (above & ~here & ~below) | (~above & here & below) if negative else here & below
        sign = above if negative else C(0, 1)
        if negate is not None:
            sign, negative = sign ^ negate, True
        digit = wire(m, Cat(one, two), f"digit_{low // 2}")
        bits = [(digit[0] & multiples[j + 1] | digit[1] & multiples[j]) ^ sign for j in range(len(a) + 1)]
        if negative:
            columns[low].append(sign)  # the 1 of the two's complement
            if not a.shape().signed:
                bits.append(sign)
        constant -= _row(columns, bits, negative or a.shape().signed, low)
    return constant


def _row(columns: list[list[Value]], bits: list[Value], negative: bool, low: int = 0) -> int:
    """Add a row to the columns, its lowest bit at `low`; returns the excess that it adds.

    If `negative`, the top bit s has the weight -2**top. It is added as (1 - s) * 2**top, an excess of 2**top, so that
    the sign takes one bit instead of one in every higher column.
    """
    *rest, top = bits
    for column, bit in zip(columns[low:], [*rest, ~top if negative else top], strict=False):
        column.append(bit)
    return 1 << low + len(rest) if negative else 0


def _compress(m: Module, columns: list[list[Value]]) -> tuple[Value, Value]:
    """The columns' sum as two rows."""
    order = count()  # among bits of one time the first made is the first taken
    waiting = [[(0, next(order), bit) for bit in column] for column in columns]
    rows: tuple[list[Value], list[Value]] = ([], [])
    for k, column in enumerate(waiting):
        heapify(column)
        while len(column) > 2:
            (_, _, x), (_, _, y), (time, _, z) = (heappop(column) for _ in range(3))
            half = x ^ y
            added = wire(m, Cat(half ^ z, x & y | half & z), f"added_{k}")
            heappush(column, (time + _LATE, next(order), added[0]))
            if k + 1 < len(waiting):
                waiting[k + 1].append((time + _LATE, next(order), added[1]))
        bits = [bit for _, _, bit in sorted(column)] + [C(0, 1)] * (2 - len(column))
        for row, bit in zip(rows, bits, strict=True):
            row.append(bit)
    return Cat(*rows[0]), Cat(*rows[1])
