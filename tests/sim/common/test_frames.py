"""Rows become a DataFrame of plain columns, and Parquet gives them back."""

import pytest

from sim.common.errors import InputError
from sim.common.frames import table, write_parquet
from sim.common.results import write_results

pandas = pytest.importorskip("pandas", reason="the extra explore")
ROWS = [{"name": "a", "area_um2": 1.5, "parts": {"x": 1}, "ok": True}, {"name": "b", "area_um2": None, "ok": False}]


def test_a_frame_has_a_row_a_record_and_no_objects_inside(tmp_path) -> None:
    frame = table(ROWS)
    assert list(frame.columns) == ["name", "area_um2", "parts", "ok"] and len(frame) == 2
    assert frame.parts[0] == '{"x": 1}' and frame.area_um2[0] == 1.5 and pandas.isna(frame.area_um2[1])
    write_results(tmp_path / "rows.json", "a command", ROWS)
    assert table(tmp_path / "rows.json").equals(frame)
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        table(tmp_path / "none.json")


def test_parquet_gives_the_rows_back(tmp_path) -> None:
    pytest.importorskip("pyarrow", reason="the extra explore")
    write_parquet(tmp_path / "rows.parquet", ROWS)
    assert pandas.read_parquet(tmp_path / "rows.parquet").area_um2.tolist()[0] == 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
