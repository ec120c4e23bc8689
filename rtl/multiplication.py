"""An unsigned product in carry-save form, so that a pipeline can stand between the tree and the carries.

Booth's radix-4 recoding halves the rows; a three-greedy tree (Oklobdzija, Villeger and Liu 1996) adds them without
carries, taking in each column the three earliest bits first.
"""

from heapq import heapify, heappop, heappush
from itertools import count

from amaranth.hdl import C, Cat, Module, Value

from rtl.pipeline import wire

_LATE = 2  # gate levels of a full adder, in the unit in which the rows' bits arrive at 0


def carry_save(m: Module, a: Value, b: Value) -> tuple[Value, Value]:
    """Two unsigned rows, as wide as the product, whose sum modulo 2**width is a * b."""
    width = len(a) + len(b)
    return _compress(m, _booth_columns(m, a, b, width))


def _booth_columns(m: Module, a: Value, b: Value, width: int) -> list[list[Value]]:
    """The bits of every weight: b is recoded into digits -2..2, each of which gives one row of a."""
    columns: list[list[Value]] = [[] for _ in range(width)]
    multiples = Cat(C(0, 1), a, C(0, 1))  # bit j of 2a; bit j + 1 of it is bit j of a
    digits = Cat(C(0, 1), b, C(0, 2))
    borrowed = 0
    for low in range(0, len(b) + 1, 2):
        below, here, above = digits[low], digits[low + 1], digits[low + 2]
        negative = low + 1 < len(b)  # above the top bit there is no digit below 0
        one = here ^ below
        two = (above & ~here & ~below) | (~above & here & below) if negative else here & below
        sign = above if negative else C(0, 1)
        digit = wire(m, Cat(one, two), f"digit_{low // 2}")
        for j in range(len(a) + 1):
            if low + j < width:
                columns[low + j].append((digit[0] & multiples[j + 1] | digit[1] & multiples[j]) ^ sign)
        if negative:
            columns[low].append(sign)  # the 1 of the two's complement
            # minus sign * 2**top is (1 - sign) * 2**top less a constant
            top = low + len(a) + 1
            if top < width:
                columns[top].append(~sign)
                borrowed += 1 << top
    for k in range(width):
        if -borrowed >> k & 1:
            columns[k].append(C(1, 1))
    return columns


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
