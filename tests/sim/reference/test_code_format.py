"""`CodeFormat`: its ranges, its checks, and that tables and units have it."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from rtl.pwl import PwlConfig
from sim.reference import InputError, LoweredTable, PwlTable
from sim.reference.code_format import CodeFormat

OTHER = CodeFormat(in_bits=4, in_signed=False, coef_bits=6, out_bits=5, out_signed=False)


def _table(**widths: object) -> PwlTable:
    return PwlTable("gelu", (-1, 1), (0,), 0, 0, 0, (0, 1), (0, 0), (0,), **widths)  # pyright: ignore


def _lowered(**widths: object) -> LoweredTable:
    return LoweredTable((0,), (0, 1), (0, 0), 0, 0, 0, **widths)  # pyright: ignore


def _unit(**widths: object) -> PwlConfig:
    return PwlConfig(entries=2, **widths)  # pyright: ignore


MAKERS = (CodeFormat, _table, _lowered, _unit)


def test_ranges_are_those_of_the_widths_and_signs() -> None:
    usual = CodeFormat()
    assert {usual.in_range, usual.slope_range, usual.intercept_range, usual.out_range} == {(-128, 127)}
    assert (OTHER.in_range, OTHER.slope_range, OTHER.intercept_range) == ((0, 15), (-32, 31), (-32, 31))
    assert OTHER.out_range == (0, 31)
    own = CodeFormat(intercept_bits=4, slope_sign="unsigned", intercept_sign="negative")
    assert (own.slope_range, own.intercept_range) == ((0, 255), (-15, 0))


def test_of_and_from_dict_take_its_fields_and_ignore_others() -> None:
    assert CodeFormat.of(SimpleNamespace(**asdict(OTHER), entries=2)) == OTHER
    assert CodeFormat.from_dict(asdict(OTHER) | {"entries": 2}) == OTHER
    assert CodeFormat.from_dict({"out_bits": 12}) == CodeFormat(out_bits=12)


@pytest.mark.parametrize("make", MAKERS[1:])
def test_tables_and_units_have_the_default_format_and_the_one_they_are_given(make) -> None:
    assert make().code_format == CodeFormat()
    assert make(**OTHER.to_dict()).code_format == OTHER


def test_lowering_and_wiring_in_keep_the_format() -> None:
    lowered = _table(**OTHER.to_dict()).lower(0, 0)
    assert lowered.code_format == PwlConfig.hard_wired(lowered).code_format == OTHER


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "field, value, message",
    [
        ("in_bits", 3, "in_bits must be in 4..32, not 3"),
        ("coef_bits", 33, "coef_bits must be in 4..32, not 33"),
        ("out_bits", 0, "out_bits must be in 4..32, not 0"),
        ("in_signed", 1, "in_signed must be true or false, not 1"),
        ("out_signed", 0, "out_signed must be true or false, not 0"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(make, field: str, value: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        make(**{field: value})
    assert str(refused.value) == message
