"""The units around the piecewise-linear one: what is proved of the requantiser and of the normaliser."""

from collections.abc import Sequence

import numpy as np

from rtl.formal import beats, checkers
from rtl.formal.opened import Opened, opened
from rtl.formal.prove import Proof, cycles_to_load, handshake_proof
from rtl.normaliser import NormaliserConfig, NormaliserUnit
from rtl.requant import RequantConfig, Requantiser
from sim.reference import Normaliser, PwlTable
from sim.reference.arithmetic import code_range

# small enough for the solver, and every part of the unit is there: rounding, both clamps, a zero point
REQUANT = RequantConfig(in_bits=6, multiplier_bits=3, max_shift=9, out_bits=4, stages=3)
NORMALISER_BITS, NORMALISER_FRAC_BITS = 8, 4


def reciprocal() -> NormaliserConfig:
    """1/x of 8-bit numbers through two secants on [2, 4)."""
    content = {
        "format": "bitwright-pwl", "version": 1, "function": "div", "domain": [2, 4], "normaliser_step": 1,
        "scales": [4], "objective": "full", "in_bits": 8, "in_signed": True, "coef_bits": 8, "out_bits": 8,
        "out_signed": True, "slope_frac_bits": 8, "intercept_frac_bits": 6, "bp_frac_bits": 4, "symmetry": "none",
        "slopes": [-43, -21], "intercepts": [53, 37], "breakpoints": [48], "provenance": {},
    }  # fmt: skip
    table = PwlTable.from_dict(content, "the normaliser's table")
    return NormaliserConfig(Normaliser(table, 4, NORMALISER_BITS, NORMALISER_FRAC_BITS), output_scale=6, stages=4)


def scaling_proofs() -> list[Proof]:
    """Arithmetic and handshake of both units."""
    requantiser, normaliser = Requantiser(REQUANT), NormaliserUnit(reciprocal())
    unit = opened(requantiser)
    table = opened(normaliser).shown(checkers.words(normaliser.config.pwl))
    requantising = (
        f"{REQUANT.in_bits}-bit accumulator, {REQUANT.multiplier_bits}-bit multiplier, shifts to {REQUANT.max_shift}, "
        f"{REQUANT.out_bits}-bit codes"
    )
    normalising = f"{NORMALISER_BITS}-bit input, {normaliser.config.pwl.entries} entries, 1/x on one octave"
    return [
        Proof("requantiser", unit.text, requantised(unit, REQUANT), requantising),
        handshake_proof("requantiser's handshake", requantiser, REQUANT.stages, requantising),
        Proof(
            "normaliser",
            table.text,
            normalised(table, normaliser.config),
            normalising,
            cover=cycles_to_load(normaliser.config.pwl, normaliser.config.stages),
        ),
        handshake_proof("normaliser's handshake", normaliser, normaliser.config.stages, normalising),
    ]


def requantised(unit: Opened, config: RequantConfig) -> str:
    """Every beat leaves with round(A * m * 2**-k) + z, clamped."""
    n, a, m = config.stages, config.in_bits, config.multiplier_bits
    width = max(a + m + 1, config.max_shift + 1) + 2
    zero = "$signed(zero_point)" if config.out_signed else "$signed({1'b0, zero_point})"
    rounded = checkers.rounded("wide", "shift", width, *code_range(config.out_bits, config.out_signed), zero)
    body = f"""
  wire signed [{a - 1}:0] value = beat_at_{n}[{a - 1}:0];
  wire signed [{m}:0] multiplier = {{1'b0, beat_at_{n}[{a} +: {m}]}};
  wire [{config.max_shift.bit_length() - 1}:0] shift = beat_at_{n}[{a + m} +: {config.max_shift.bit_length()}];
  wire signed [{width - 1}:0] wide = value * multiplier;
{rounded}
{beats.quasi_static(["zero_point"])}
  always @* if (v[{n}] && shift <= {config.max_shift}) assert(o__payload == want);
  assign reached = v[{n}] && o__ready && stalled && want == 3 && zero_point == 1 && shift == 2;"""
    return beats.module(unit, n, {"beat": (0, "i__payload")}, body)


def normalised(unit: Opened, config: NormaliserConfig) -> str:
    """Loaded with its table, the unit answers every input as `sim.reference.Normaliser` does: the reference's own
    answers are listed, so nothing of it is written a second time."""
    reference, bits, n = config.reference, config.reference.input_bits, config.stages
    assert config.output_scale is not None
    low, high = code_range(bits, reference.input_signed)
    inputs = np.arange(low, high + 1)
    want = reference.output(inputs, config.output_scale, config.out_bits, config.out_signed)
    words = config.pwl.words(reference.lowered)
    body = f"""{checkers.loading(config.pwl, lambda word: str(words[word].data))}
{listed(inputs.tolist(), want.tolist(), bits, unit["o__payload"].width, f"beat_at_{n}")}
  always @* if (v[{n}]) assert($unsigned(o__payload) == want);
  assign reached = v[{n}] && o__ready && stalled && beat_at_{n} == {low + 1 if low else 1};"""
    return beats.module(unit, n, {"beat": (0, "i__payload")}, body)


def listed(inputs: Sequence[int], outputs: Sequence[int], in_bits: int, out_bits: int, wire: str) -> str:
    """`want`, the output of the input on `wire`, one case for each."""
    cases = "\n".join(
        f"      {in_bits}'d{x & ((1 << in_bits) - 1)}: want = {out_bits}'d{y & ((1 << out_bits) - 1)};"
        for x, y in zip(inputs, outputs, strict=True)
    )
    return f"""  reg [{out_bits - 1}:0] want;
  always @*
    case ({wire})
{cases}
      default: want = 0;
    endcase"""
