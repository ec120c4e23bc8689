"""The entry that serves an input: from the comparators' bits to the entry's word."""

from amaranth.hdl import C, Mux, Value


def edge(above: Value) -> list[Value]:
    """One-hot over the entries, from the comparators' bits.

    Thresholds are sorted, so the bits are a thermometer code, lowest first; its edge is the entry.
    """
    return [a & ~b for a, b in zip([C(1, 1), *above], [*above, C(0, 1)], strict=True)]


def one_hot(hot: list[Value], words: list[Value]) -> Value:
    """The word whose bit of `hot` is 1, by AND and OR; all words have the same shape."""
    shape = words[0].shape()
    gated = [Mux(h, word, 0) for h, word in zip(hot, words, strict=True)]
    bits = Value.cast(0)
    for word in gated:
        bits = bits | word
    return bits[: shape.width].as_signed() if shape.signed else bits[: shape.width]
