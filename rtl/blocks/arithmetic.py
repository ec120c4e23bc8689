"""Round half up and saturate in gates; `sim.reference.arithmetic` is the specification."""

from amaranth.hdl import C, Cat, Module, Mux, Shape, Signal, Value, signed

from sim.reference.arithmetic import code_range


def shift_right(value: Value, shift: Value | int) -> Value:
    """`value >> shift`, arithmetic, with the last bit shifted out kept as bit 0: signed, one bit wider than `value`.

    That bit rounds half up: floor(value / 2**shift + 1/2) = (value >> shift) + bit. Adding it after the shift needs an
    incrementer; adding half before the shift would need a decoder and an adder of the full width.
    """
    if isinstance(shift, int):
        shift = min(shift, len(value))  # beyond that every bit is the sign
    return (Cat(C(0, 1), value).as_signed() >> shift).as_signed()


def saturate(value: Value, shape: Shape) -> Value:
    """`value`, signed, clamped to the codes of `shape`."""
    inside, negative, low_bits = _inside(value, shape)
    return _clamp(inside, negative, low_bits, shape)


def round_and_saturate(m: Module, shifted: Value, shape: Shape) -> Value:
    """The result of `shift_right` with its round bit added, clamped to the codes of `shape`.

    Only the low bits are incremented. A value outside the codes is clamped for either round bit; the one value that the
    increment moves out of range is the top code, which the carry detects.
    """
    inside, negative, low_bits = _inside(shifted[1:].as_signed(), shape)
    total = Signal(shape.width + 1, name="rounded")
    m.d.comb += total.eq(low_bits + shifted[0])
    overflow = total[-1] != total[-2] if shape.signed else total[-1]
    return _clamp(inside & ~overflow, negative, total[: shape.width], shape)


def _inside(value: Value, shape: Shape) -> tuple[Value, Value, Value]:
    """(value is a code of `shape`, value is negative, value's low bits with the sign of `shape`)."""
    if len(value) <= shape.width:
        value = (value + C(0, signed(shape.width + 1)))[: shape.width + 1].as_signed()  # sign extension
    negative = value[-1]
    if shape.signed:
        high = value[shape.width - 1 :]
        return high.all() | ~high.any(), negative, value[: shape.width].as_signed()
    return ~value[shape.width :].any(), negative, value[: shape.width]


def _clamp(inside: Value, negative: Value, code: Value, shape: Shape) -> Value:
    low, high = (C(limit & ((1 << shape.width) - 1), shape.width) for limit in code_range(shape.width, shape.signed))
    bits = Mux(inside, code[: shape.width], Mux(negative, low, high))
    return bits.as_signed() if shape.signed else bits.as_unsigned()
