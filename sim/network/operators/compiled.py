"""The integer loops between the products, compiled by numba: one pass over memory each, integers alone.

Arrays are contiguous, and outputs are written in place. Every function releases Python's lock, so that blocks of rows
run on several threads. `limits` are the smallest and the largest code. `row` is room for one row, in a type that its
values are proved to fit. `sim.network.operators.kernels` calls them with checked arguments, and holds the constants.
"""

import numpy as np
from numba import njit


def compile_(function):
    """The function compiled on its first call, and kept on disk if a folder for that can be written."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba finds no such folder
        return njit(nogil=True)(function)


@compile_
def requantise(psum, magnitude, constants, limits, layout, row, out):
    """saturate(round((sum of the planes of psum * 2**(8 p) over p * magnitude[r] + bias[j]) * m_j * 2**-k_j)).

    `layout` is the first output, the number of outputs, the outputs of a strip, and the planes: `psum` has strips, in
    each its planes side by side. `constants` are bias, m and k; an empty `magnitude` or bias is 1 or 0.
    """
    bias, multiplier, shift = constants
    low, high = limits
    first, count, strip, planes = layout
    for begin in range(0, count, strip):
        n = min(strip, count - begin)
        at = first + begin
        ms, ks, total, offset = multiplier[at : at + n], shift[at : at + n], row[:n], bias[at : at + n]
        for r in range(out.shape[0]):
            digits, codes = psum[r, begin * planes : (begin + n) * planes], out[r, at : at + n]
            if planes == 1:
                for j in range(n):
                    total[j] = digits[j]
            else:
                second = digits[n:]
                for j in range(n):
                    total[j] = digits[j] + 256 * second[j]
            for p in range(2, planes):
                plane = digits[p * n :]
                weight = np.int64(1) << (8 * p)
                for j in range(n):
                    total[j] += plane[j] * weight
            m = np.int32(magnitude[r]) if magnitude.shape[0] else np.int32(1)
            for j in range(n):
                value = np.int64(total[j]) * m
                if offset.shape[0]:
                    value += offset[j]
                value = (value * ms[j] + ((np.int64(1) << ks[j]) >> 1)) >> ks[j]
                codes[j] = min(max(value, low), high)


@compile_
def requantise_heads(psum, constants, limits, side_by_side, out):
    """The same for psum (B, H, M, N), m and k (H, N) or (H, 1): (B, H, M, N), or (B, M, H, N) if `side_by_side`."""
    multiplier, shift = constants
    low, high = limits
    batch, heads, rows, n = psum.shape
    for b in range(batch):
        for h in range(heads):
            ms, ks = multiplier[h], shift[h]
            m, k = ms[0], ks[0]
            half = (np.int64(1) << k) >> 1
            for i in range(rows):
                row = psum[b, h, i]
                codes = out[b, i, h] if side_by_side else out[b, h, i]
                if ms.shape[0] == 1:
                    for j in range(n):
                        codes[j] = min(max((np.int64(row[j]) * m + half) >> k, low), high)
                else:
                    for j in range(n):
                        value = np.int64(row[j]) * ms[j] + ((np.int64(1) << ks[j]) >> 1)
                        codes[j] = min(max(value >> ks[j], low), high)


@compile_
def quantise_tokens(x, top, ratio_bits, codes, magnitude):
    """`sim.reference.token.quantise_tokens` of rows of 16-bit codes to at most 8 bits; no product exceeds 32 bits."""
    rounding = np.int32(1 << (ratio_bits - 1))
    for r in range(x.shape[0]):
        least, most = np.int16(0), np.int16(0)
        for j in range(x.shape[1]):
            least, most = min(least, x[r, j]), max(most, x[r, j])
        largest = max(np.int64(most), -np.int64(least), 1)
        magnitude[r] = largest
        ratio = np.int32(((top << ratio_bits) + largest // 2) // largest)
        for j in range(x.shape[1]):
            value = np.int32(np.int32(np.int32(x[r, j]) * ratio) + rounding)
            codes[r, j] = value >> ratio_bits


@compile_
def add_scaled(a, b, multipliers, shift, limits, out):
    """`sim.reference.residual.add_scaled` of rows (R, N)."""
    first, second = multipliers
    low, high = limits
    rounding = (np.int64(1) << shift) >> 1
    for r in range(a.shape[0]):
        for j in range(a.shape[1]):
            value = (np.int64(a[r, j]) * first + np.int64(b[r, j]) * second + rounding) >> shift
            out[r, j] = min(max(value, low), high)


@compile_
def multiply(a, b, multiplier, shift, limits, out):
    """`sim.reference.product.Product` of rows (R, N)."""
    low, high = limits
    rounding = (np.int64(1) << shift) >> 1
    for r in range(a.shape[0]):
        for j in range(a.shape[1]):
            value = (np.int64(a[r, j]) * b[r, j] * multiplier + rounding) >> shift
            out[r, j] = min(max(value, low), high)


@compile_
def scale_pairs(values, rows, columns, shift, limits, out):
    """saturate(round(values[g, r, j] * rows[g, r] * columns[g, j] * 2**-shift)); empty `rows` are 1."""
    low, high = limits
    rounding = (np.int64(1) << shift) >> 1
    for g in range(values.shape[0]):
        by = columns[g]
        for r in range(values.shape[1]):
            given, codes = values[g, r], out[g, r]
            m = rows[g, r] if rows.shape[0] else np.int64(1)
            for j in range(values.shape[2]):
                codes[j] = min(max((given[j] * m * by[j] + rounding) >> shift, low), high)


@compile_
def turn(x, cosines, sines, shift, limits, out):
    """`sim.reference.rope.Rope` of rows (R, H, d), every head by the cosines and sines of its row, (R, d / 2)."""
    low, high = limits
    rounding = np.int32(1 << (shift - 1))
    half = cosines.shape[1]
    for r in range(x.shape[0]):
        for h in range(x.shape[1]):
            for j in range(half):
                a, b = np.int32(x[r, h, j]), np.int32(x[r, h, half + j])
                c, s = np.int32(cosines[r, j]), np.int32(sines[r, j])
                out[r, h, j] = min(max((np.int32(np.int32(a * c) - np.int32(b * s)) + rounding) >> shift, low), high)
                out[r, h, half + j] = min(max((np.int32(b * c) + np.int32(a * s) + rounding) >> shift, low), high)


@compile_
def gather(codes, offsets, values, out):
    """values[codes[r, j] as unsigned + offsets[j]]; an empty `offsets` stands for zeros."""
    for r in range(codes.shape[0]):
        if offsets.shape[0]:
            for j in range(codes.shape[1]):
                out[r, j] = values[codes[r, j] + offsets[j]]
        else:
            for j in range(codes.shape[1]):
                out[r, j] = values[codes[r, j]]


@compile_
def softmax(scores, mask, mask_rows, constants, row, out):
    """`sim.reference.softmax` of rows (R, T); row r has the mask `mask[mask_rows[r]]`, and none if `mask` is empty."""
    powers, low, shift, top = constants.powers, constants.low, constants.shift, constants.top
    length = scores.shape[1]
    rounding = (1 << shift) >> 1
    for r in range(scores.shape[0]):
        for j in range(length):
            row[j] = scores[r, j]
        if mask.shape[0]:
            ok = mask[mask_rows[r]]
            for j in range(length):
                row[j] = row[j] if ok[j] else np.int32(-32768)
        most = np.int32(-32768)
        for j in range(length):
            most = max(most, row[j])
        for j in range(length):
            row[j] = powers[max(np.int32(row[j] - most), low) - low]
        if mask.shape[0]:
            ok = mask[mask_rows[r]]
            for j in range(length):
                row[j] = row[j] if ok[j] else np.int32(0)
        total = np.int64(0)
        for j in range(length):
            total += row[j]
        inverse = normalised(total, constants.div, constants.output_left, constants.inverse_top)
        for j in range(length):
            value = (row[j] * inverse + rounding) >> shift
            out[r, j] = min(max(value, 0), top)


@compile_
def norm(x, constants, limits, out):
    """`sim.reference.norm` of rows (R, N)."""
    gain, bias, shift, top = constants.gain, constants.bias, constants.shift, constants.normal_top
    low, high = limits
    n = x.shape[1]
    rounding = (np.int64(1) << shift) >> 1
    for r in range(x.shape[0]):
        total, squares = np.int64(0), np.int64(0)
        for j in range(n):
            value = np.int32(x[r, j])
            total += value
            squares += value * value
        if not constants.centring:
            total = np.int64(0)
        acc, exponent = evaluate(n * squares - total * total + constants.epsilon, constants.rsqrt)
        right = constants.right_shift - exponent
        acc <<= max(-right, 0)
        right = max(right, 0)
        half = (np.int64(1) << right) >> 1
        for j in range(n):
            normal = ((x[r, j] * n - total) * acc + half) >> right
            normal = min(max(normal, -top - 1), top)
            value = (normal * gain[j] + bias[j] + rounding) >> shift
            out[r, j] = min(max(value, low), high)


@compile_
def evaluate(v, constants):
    """(acc, exponent) of one number, as `sim.reference.Normaliser.evaluate`."""
    positive = max(v, 1)
    msb, rest = 0, positive
    for bits in (32, 16, 8, 4, 2, 1):
        if rest >> bits:
            msb += bits
            rest >>= bits
    k = (msb - constants.bottom) // constants.step * constants.step
    left = constants.left - k
    right = max(-left, 0)
    code = ((positive << max(left, 0)) + ((1 << right) >> 1)) >> right
    acc = constants.acc[min(code, constants.top_code)] if v > 0 else constants.largest
    return acc, k * constants.numerator // constants.denominator


@compile_
def normalised(v, constants, output_left, top):
    """`sim.reference.Normaliser.output` of one number: signed codes up to `top`."""
    if v <= 0:
        return top
    acc, exponent = evaluate(v, constants)
    left = exponent + output_left
    right = min(max(-left, 0), 62)
    shifted = ((acc << min(max(left, 0), 62)) + ((1 << right) >> 1)) >> right
    return min(max(shifted, -top - 1), top)
