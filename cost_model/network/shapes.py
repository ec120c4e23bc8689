"""Sizes as a packed network gives them: numbers, or products of named lengths such as "batch*tokens"."""

from collections.abc import Mapping

from sim.reference import InputError


def size(text: int | str, lengths: Mapping[str, int]) -> int:
    """A size such as 64, "tokens" or "height/4/-2*width/4/-2"; a division rounds up, one by -2 is by 2 and down."""
    product = 1
    for factor in str(text).split("*"):
        name, *strides = factor.split("/")
        if name in ("height", "width") and name not in lengths:
            raise InputError(f"a size is {text}, which follows from the image: give --image HEIGHT WIDTH")
        length = lengths[name] if name in lengths else int(name)
        for stride in map(int, strides):
            length = length // -stride if stride < 0 else -(-length // stride)
        product *= length
    return product
