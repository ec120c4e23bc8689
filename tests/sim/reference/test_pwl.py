"""The specification against its definition in exact rational arithmetic, and every error message of the table file."""

import dataclasses
import json
from bisect import bisect_right
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.reference import InputError, PwlTable
from sim.reference import pwl as pwl_module
from sim.reference.arithmetic import code_range


def random_table(rng: np.random.Generator, in_bits: int = 8, coef_bits: int = 8, signed: bool = True) -> PwlTable:
    """Any valid table: breakpoints anywhere in their range, so many are equal or beyond every code."""
    entries = int(rng.integers(2, 65))
    b = int(rng.integers(0, in_bits))
    frac = sorted((int(v) for v in rng.integers(-in_bits, coef_bits + 5, 2)), reverse=True)
    limit = 1 << (in_bits - signed + b)
    low, high = code_range(coef_bits, True)
    spread = int(rng.integers(1, limit + 1))
    return PwlTable(
        function="random",
        domain=(-4, 4),
        scales=tuple(range(b + 1)),
        slope_frac_bits=frac[0],
        intercept_frac_bits=frac[1],
        bp_frac_bits=b,
        slopes=tuple(rng.integers(low, high + 1, entries)),
        intercepts=tuple(rng.integers(low, high + 1, entries)),
        breakpoints=tuple(np.sort(rng.integers(-spread, spread + 1, entries - 1))),
        in_bits=in_bits,
        in_signed=signed,
        coef_bits=coef_bits,
    )


def assert_equals_definition(table: PwlTable, scale: int, codes: np.ndarray) -> None:
    """slopes[i] * x + intercepts[i] with i = #{j : x >= p_j}, in rationals, straight from the real-valued meaning."""
    lowered = table.lower(scale)
    two = Fraction(2)
    points = [Fraction(p, 2**table.bp_frac_bits) for p in table.breakpoints]
    slopes = [k * two**-table.slope_frac_bits for k in table.slopes]
    intercepts = [b * two**-table.intercept_frac_bits for b in table.intercepts]
    unit = two ** -(table.slope_frac_bits + scale)
    bound = 1 << (lowered.acc_bits - 1)
    for q, acc in zip(codes.tolist(), lowered.accumulate(codes).tolist(), strict=True):
        x = Fraction(q, 2**scale)
        i = bisect_right(points, x)  # the points are sorted: how many are at or below x
        assert acc * unit == slopes[i] * x + intercepts[i], (table, scale, q)
        assert -bound <= acc < bound


def test_a_thousand_random_tables_equal_the_definition_in_rationals_on_every_code():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        table = random_table(rng)
        scale = int(rng.integers(0, 8))
        assert_equals_definition(table, scale, table.lower(scale).codes())


def test_all_codes_of_all_scales_equal_the_definition_for_some_tables():
    rng = np.random.default_rng(1)
    for signed in (True, False):
        table = random_table(rng, signed=signed)
        for scale in range(8):
            assert_equals_definition(table, scale, table.lower(scale).codes())


@pytest.mark.parametrize("in_bits, coef_bits", [(4, 4), (16, 16), (32, 32), (32, 4), (4, 32)])
def test_other_widths_equal_the_definition_and_never_wrap(in_bits, coef_bits):
    rng = np.random.default_rng(2)
    for signed in (True, False):
        for _ in range(20):
            table = random_table(rng, in_bits, coef_bits, signed)
            low, high = code_range(in_bits, signed)
            codes = np.unique([low, low + 1, 0, high - 1, high, *rng.integers(low, high + 1, 20)])
            for scale in (0, in_bits // 2, in_bits - 1):
                assert_equals_definition(table, scale, codes)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.integers(0, 7), back=st.integers(-4, 20))
def test_the_output_is_round_half_up_then_saturate(seed, scale, back):
    table = random_table(np.random.default_rng(seed))
    shift = table.slope_frac_bits + scale + back
    if back < 0 or shift < 0:
        return
    lowered = table.lower(scale, table.slope_frac_bits + scale - back)
    codes = lowered.codes()
    for acc, y in zip(lowered.accumulate(codes).tolist(), lowered.output(codes).tolist(), strict=True):
        rounded = (Fraction(acc, 2**back) + Fraction(1, 2)).__floor__()
        assert y == min(max(rounded, -128), 127)


def test_a_threshold_no_code_can_reach_is_clamped_and_its_entries_repeat_the_last_reachable():
    table = small_table(breakpoints=(-9000 // 2, 128 * 64), slopes=(1, 2, 3), intercepts=(4, 5, 6))
    lowered = table.lower(6)
    assert lowered.thresholds == (-128, 127)
    assert lowered.slopes == (1, 2, 2)
    assert lowered.accumulate(np.array([127])) == 2 * 127 + (5 << 6)
    assert table.lower(0).thresholds == (-70, 127)  # ceil(-4500 / 64), and 128 clamped


def small_table(**changes) -> PwlTable:
    values: dict[str, Any] = dict(
        function="f", domain=(-4, 4), scales=(0, 6), slope_frac_bits=6, intercept_frac_bits=6, bp_frac_bits=6,
        slopes=(1, 2, 3), intercepts=(4, 5, 6), breakpoints=(-64, 64),
    )  # fmt: skip
    return PwlTable(**{**values, **changes})


def test_json_keeps_the_table_and_its_bytes():
    rng = np.random.default_rng(3)
    for _ in range(50):
        table = dataclasses.replace(random_table(rng), provenance={"seed": 1})
        again = PwlTable.from_json(table.to_json())
        assert again == table and again.to_json() == table.to_json() and again.digest == table.digest


def test_every_field_of_the_table_is_in_the_file_and_in_the_hash_but_provenance():
    table = small_table(intercept_bits=9, slope_sign="unsigned", intercept_sign="unsigned")
    assert set(table.to_dict()) == {f.name for f in dataclasses.fields(PwlTable)} | {"format", "version"}
    assert dataclasses.replace(table, provenance={"a": 1}).digest == table.digest
    changed = [
        small_table(**c)
        for c in (
            {"function": "g"}, {"domain": (-4, 5)}, {"scales": (0, 5)}, {"slopes": (1, 2, 4)}, {"out_signed": False},
            {"intercepts": (4, 5, 7)}, {"breakpoints": (-64, 65)}, {"normaliser_step": 3}, {"objective": "inside"},
            {"intercept_bits": 9}, {"slope_sign": "unsigned"}, {"intercept_sign": "unsigned"},
        )
    ]  # fmt: skip
    assert len({t.digest for t in [table, *changed]}) == len(changed) + 1


def test_the_table_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_table().slopes = (0, 0, 0)  # pyright: ignore[reportAttributeAccessIssue]


FUNCTION_MESSAGE = "function must be a name or package.module:callable of at most 200 letters, digits and _ - . :"
BAD_FIELDS = [
    ({"slopes": (1,), "intercepts": (1,), "breakpoints": ()}, "entries must be in 2..64, not 1"),
    ({"slopes": (1,) * 65, "intercepts": (1,) * 65, "breakpoints": (0,) * 64}, "entries must be in 2..64, not 65"),
    ({"slopes": (1, 2, 128)}, "slopes[2] must be in -128..127, not 128"),
    ({"intercepts": (1, 2)}, "intercepts must have 3 integers, not 2"),
    ({"breakpoints": (1, 0)}, "breakpoints must be sorted, but breakpoints[0] = 1 > breakpoints[1] = 0"),
    ({"breakpoints": (0, 8193)}, "breakpoints[1] must be in -8192..8192, not 8193"),
    ({"slope_frac_bits": 13}, "slope_frac_bits must be in -8..12, not 13"),
    ({"intercept_frac_bits": 7}, "intercept_frac_bits must be at most slope_frac_bits (6), not 7"),
    ({"domain": (4, -4)}, "domain must be two finite numbers, low below high, not [4.0, -4.0]"),
    ({"scales": (6, 0)}, "scales must be distinct and ascending, not [6, 0]"),
    ({"scales": (8,)}, "scales must be in 0..7, not 8"),
    ({"in_bits": 3}, "in_bits must be in 4..32, not 3"),
    ({"symmetry": "even"}, "symmetry must be one of none, odd, complement, gated, not 'even'"),
    ({"objective": "best"}, 'objective must be "full", "inside", "both" or "weights", not \'best\''),
    ({"slopes": (1, 2.5, 3)}, "slopes[1] must be an integer, not 2.5"),
    *(
        ({"function": name}, f"{FUNCTION_MESSAGE}, not {json.dumps(name)[:60]}")
        for name in ("", "..", "../gelu", "/gelu", "a\nb", "gelu\n", "a\"b", "a;b", "a b", "*/", "a:b:c", "f" * 201)
    ),
    ({"function": 3}, "function must be a string, not 3"),
    ({"in_bits": 8.0}, "in_bits must be an integer, not 8.0"),
    ({"slope_frac_bits": "6"}, 'slope_frac_bits must be an integer, not "6"'),
    ({"in_signed": "no"}, 'in_signed must be true or false, not "no"'),
    ({"slopes": 3}, "slopes must be a list of integers, not 3"),
    ({"domain": ("a", 1)}, 'domain must be two numbers, not ["a", 1]'),
    ({"provenance": None}, "provenance must be an object of JSON values, not null"),
    ({"provenance": {"a": float("nan")}}, "provenance must be an object of JSON values, not {\"a\": NaN}"),
]  # fmt: skip


@pytest.mark.parametrize("changes, message", BAD_FIELDS, ids=lambda v: "" if isinstance(v, dict) else v[:40])
def test_a_bad_field_is_named_with_what_it_must_be(changes, message):
    with pytest.raises(InputError) as error:
        small_table(**changes)
    assert str(error.value) == message


BAD_FILES = [
    (lambda d: d.pop("slopes"), "missing key 'slopes'"),
    (lambda d: d.update(extra=1), "unknown key 'extra'"),
    (lambda d: d.update(version=2), "version must be 1, not 2"),
    (lambda d: d.update(version=True), "version must be 1, not True"),
    (lambda d: d.update(format="other"), "format must be \"bitwright-pwl\", not 'other'"),
    (lambda d: d.update(slopes="12"), 'slopes must be a list of integers, not "12"'),
    (lambda d: d.update(slopes=[1, 2, 3.0]), "slopes[2] must be an integer, not 3.0"),
    (lambda d: d.update(slopes=[1, True, 3]), "slopes[1] must be an integer, not True"),
    (lambda d: d.update(in_bits="8"), 'in_bits must be an integer, not "8"'),
    (lambda d: d.update(in_signed=1), "in_signed must be true or false, not 1"),
    (lambda d: d.update(domain=[0]), "domain must be two numbers, not [0]"),
    (lambda d: d.update(domain=[0, 10**400]), "domain must be two finite numbers, low below high, not [0.0, inf]"),
    (lambda d: d.update(provenance=None), "provenance must be an object of JSON values, not null"),
    (lambda d: d.update(normaliser_step=1.5), "normaliser_step must be an integer or null, not 1.5"),
]


@pytest.mark.parametrize("damage, message", BAD_FILES, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_a_bad_file_is_refused_with_its_name_and_key(damage, message, tmp_path):
    content = json.loads(small_table().to_json())
    damage(content)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        PwlTable.load(path)
    assert str(error.value) == f"{path}: {message}"


def test_numpy_integers_are_taken_and_stored_as_plain_ones():
    table = small_table(slope_frac_bits=np.int64(6), slopes=np.array([1, 2, 3]), in_signed=np.bool_(True))
    assert table == small_table() and table.to_json() == small_table().to_json()


def test_codes_that_are_no_integers_are_refused():
    with pytest.raises(InputError, match="codes must be integers, not float64"):
        small_table().lower(0).accumulate(np.array([1.9]))


@pytest.mark.parametrize("key", ["function", "slopes", "provenance"])
def test_a_key_that_occurs_twice_is_refused(key):
    text = small_table().to_json()
    line = next(line for line in text.splitlines() if line.startswith(f' "{key}"')).rstrip(",")
    with pytest.raises(InputError, match=f"t.json: .*duplicate key '{key}'"):
        PwlTable.from_json(text.replace("{\n", "{\n" + line + ",\n", 1), "t.json")


@pytest.mark.parametrize("name", ["gelu", "gelu-tanh", "numpy:arctan", "my.module:Class.method", "_x9"])
def test_names_of_functions_are_kept(name):
    assert PwlTable.from_json(small_table(function=name).to_json()).function == name


@pytest.mark.parametrize("text", ["NaN", '{"format": Infinity}', "", "[]", "{", '{"format": ', "\x00", "[" * 5000])
def test_text_that_is_no_table_is_one_line(text):
    with pytest.raises(InputError) as error:
        PwlTable.from_json(text, "t.json")
    assert "\n" not in str(error.value) and str(error.value).startswith("t.json: ")


@pytest.mark.parametrize("cut", range(0, 560, 7))
def test_a_truncated_file_is_refused(cut):
    text = small_table().to_json()
    with pytest.raises(InputError):
        PwlTable.from_json(text[: min(cut, len(text) - 3)])


def test_a_missing_or_binary_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        PwlTable.load(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        PwlTable.load(tmp_path / "b.json")


def test_negative_shifts_and_foreign_codes_are_refused():
    table = small_table(slope_frac_bits=-2, intercept_frac_bits=-3)
    with pytest.raises(InputError, match="output_scale must be at most -2 at scale 0"):
        table.lower(0, 1)
    with pytest.raises(InputError, match=r"codes must be in -128\.\.127, not 0\.\.128"):
        table.lower(0).accumulate(np.array([0, 128]))
    with pytest.raises(InputError, match="output_scale"):
        table.lower(0).output(np.array([0]))


def test_the_definition_check_can_fail(monkeypatch):
    table = small_table(breakpoints=(-63, 65))
    monkeypatch.setattr(  # nearest rounding of breakpoints instead of the ceiling
        PwlTable, "thresholds", lambda self, s: tuple(round(p * 2.0 ** (s - 6)) for p in self.breakpoints)
    )
    with pytest.raises(AssertionError):
        assert_equals_definition(table, 1, np.arange(-128, 128))
    assert pwl_module.default_scales(8) == tuple(range(7)) and pwl_module.default_scales(16) == tuple(range(8, 15))
