"""The parts of a product's tree, counted column by column as it is built, once for each combination of widths.

There are two kinds of product. One is the Booth recoding and carry-save tree of `rtl.blocks.multiplication`. The other
is what synthesis makes of a `*`: a row for each bit of the narrower factor, sign-extended to the width of the result.
"""

from functools import lru_cache, partial
from typing import NamedTuple

from cost_model.analytical.broadcasting import Array, each


class Tree(NamedTuple):
    """The parts of a tree.

    `digits` are recoded; `row_bits` are selected or gated by them. The full `adders` leave two rows: one bit in every
    column, and a second one in `low_pairs` columns of the lower half and `high_pairs` of the upper half, from column
    `first_pair` on. `ones` is the number of top columns that only hold a constant 1.
    """

    digits: Array
    row_bits: Array
    adders: Array
    first_pair: Array
    low_pairs: Array
    high_pairs: Array
    ones: Array


def booth(a: Array, b: Array, width: Array, addend: Array = 0, signed: bool = True) -> Tree:
    """`rtl.blocks.multiplication.carry_save` of `a` by `b` bits, b recoded, with an addend of `addend` bits."""
    return Tree(*each(partial(_booth, signed), a, b, width, addend))


def rows(a: Array, b: Array, width: Array, addend: Array = 0, signed: Array = 1) -> list[Array]:
    """[gated bits, full adders, half adders] of the product from synthesis, with an addend of `addend` bits.

    The wider factor is signed; the narrower one is signed if `signed` is 1.
    """
    return each(_rows, a, b, width, addend, signed)


@lru_cache(maxsize=1 << 16)
def _booth(signed: bool, a: int, b: int, width: int, addend: int) -> Tree:
    columns = [0] * width
    constant = digits = 0

    def row(bits: int, low: int, negative: bool) -> None:
        nonlocal constant
        for k in range(low, min(low + bits, width)):
            columns[k] += 1
        constant -= 1 << low + bits - 1 if negative else 0

    for low in range(0, b + (not signed), 2):
        negative = signed or low + 1 < b  # the digit can be below 0
        digits += 1
        columns[low] += negative
        row(a + 1 + (negative and not signed), low, negative)
    if addend:
        row(addend, 0, negative=True)
    return Tree(digits, digits * (a + 1), *_reduced(columns, constant))


@lru_cache(maxsize=1 << 16)
def _rows(a: int, b: int, width: int, addend: int, signed: int) -> tuple[int, int, int]:
    """(gated bits, full adders, half adders): three rows at a time; adders with the same inputs are shared."""
    wide, narrow = max(a, b), min(a, b)
    rows = [[(row, min(k - row, wide - 1)) if k >= row else None for k in range(width)] for row in range(narrow)]
    rows.reverse()
    if addend:
        rows.append([(narrow, k) if k < addend else None for k in range(width)])
    if signed:  # the top row is subtracted: inverted, and a 1 in its lowest column
        rows.append([(narrow + 1, 0) if k == narrow - 1 else None for k in range(width)])
    made: dict[tuple[tuple[int, int], ...], int] = {}
    while len(rows) > 2:
        reduced = []
        for low in range(0, len(rows) - 2, 3):
            totals: list[tuple[int, int] | None] = []
            carries: list[tuple[int, int] | None] = [None]
            for bits in zip(*rows[low : low + 3], strict=True):
                inputs = tuple(sorted(bit for bit in bits if bit is not None))
                if len(inputs) > 1:
                    adder = made.setdefault(inputs, len(made))
                    totals.append((-1, adder))
                    carries.append((-2, adder))
                else:
                    totals.append(inputs[0] if inputs else None)
                    carries.append(None)
            reduced += [totals, carries[:width]]
        rows = reduced + rows[len(rows) // 3 * 3 :]
    full = sum(len(inputs) == 3 for inputs in made)
    return wide * narrow, full, len(made) - full


def _reduced(columns: list[int], constant: int) -> tuple[int, int, int, int, int]:
    """(adders, first_pair, low_pairs, high_pairs, ones) of a tree with `columns` bits in its columns and a constant."""
    width = len(columns)
    adders = carries = ones = 0
    pairs = []
    for k, bits in enumerate(columns):
        known = constant >> k & 1
        height = bits + known + carries
        ones += known and height == 1
        carries = max((height - 1) // 2, 0)
        adders += carries
        if height - 2 * carries == 2:
            pairs.append(k)
    low = sum(k < width // 2 for k in pairs)
    return adders, pairs[0] if pairs else width, low, len(pairs) - low, ones
