"""Rows of results as pandas DataFrames and Parquet files."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.common.errors import InputError
from sim.common.files import write_whole
from sim.common.results import read_results

if TYPE_CHECKING:
    import pandas as pd


def table(rows: Sequence[Mapping[str, Any]] | str | Path) -> "pd.DataFrame":
    """Rows of results, or those of a file of results, as a DataFrame: a row a record, units in the columns' names.

    What is not a number, a text or a flag is given as JSON.

    Raises
    ------
    InputError
        If the file is no file of results, or pandas is not installed.
    """
    records = read_results(rows)["rows"] if isinstance(rows, (str, Path)) else rows
    return _pandas().DataFrame([{key: _cell(value) for key, value in row.items()} for row in records])


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a Parquet file, whole or not at all. Raises `InputError` if it cannot be written."""
    buffer = io.BytesIO()
    try:
        table(rows).to_parquet(buffer, index=False)
    except ImportError:
        raise InputError("Parquet needs pyarrow: pip install 'bitwright[explore]'") from None
    return write_whole(path, buffer.getvalue())


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise InputError("DataFrames need pandas: pip install 'bitwright[explore]'") from None
    return pandas
