"""Tables with a column of labels: CSV by the standard library, Parquet by the extra ``parquet``.

Shapes: N rows, D features.
"""

from __future__ import annotations

import csv
import importlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from limbeck.data.arrays import Array
from limbeck.data.raw import Raw
from limbeck.data.readers.base import Reader
from limbeck.data.reading import Reading
from limbeck.errors import LimbeckError

_MISSING: Final = ("", "na", "n/a", "nan", "null", "none", "?")
_SEPARATORS: Final = (",", ";", "\t")
_MOST: Final = 10  # columns that an error lists


class FileOfColumns(Reader):
    """The path of a file of columns, one of which holds the labels."""

    endings: tuple[str, ...]
    """Of such files, in lower case."""
    options = frozenset({"label"})

    def can_read(self, source: object) -> bool:
        """Whether it has one of the endings, in either case."""
        return isinstance(source, str) and source.lower().endswith(self.endings)

    def data_name(self, source: str) -> str:
        """The file without its folder and ending."""
        return Path(source).stem

    def read(self, source: str, data_dir: Path | None) -> Raw:
        """The path is relative to the working directory, not to ``data_dir``."""
        return self.read_as(source, data_dir, Reading())


@final
class CsvReader(FileOfColumns):
    """The path of a ``.csv`` file whose first row names the columns; fields are separated by commas, semicolons or
    tabs, as the first row has them."""

    name = "csv"
    takes = "the path of a .csv file"
    endings = (".csv",)

    def read_as(self, source: str, data_dir: Path | None, reading: Reading) -> Raw:
        """With the column of the labels as it is named."""
        path = Path(source)
        try:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                separator = _separator(stream.readline())
                stream.seek(0)
                return _read_rows(csv.reader(stream, delimiter=separator, strict=True), path, reading)
        except FileNotFoundError as error:
            raise LimbeckError(f"There is no file {path}; give the path of a .csv file.") from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise LimbeckError(f"{path} is not a readable .csv file ({error}).") from error


@final
class ParquetReader(FileOfColumns):
    """The path of a Parquet file; needs the extra ``parquet``."""

    name = "parquet"
    takes = "the path of a .parquet file"
    endings = (".parquet", ".pq")

    def read_as(self, source: str, data_dir: Path | None, reading: Reading) -> Raw:
        """With the column of the labels as it is named."""
        path = Path(source)
        if not path.is_file():
            raise LimbeckError(f"There is no file {path}; give the path of a .parquet file.")
        try:
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise LimbeckError(
                f"Reading {path} needs pyarrow; install it by pip install 'limbeck[parquet]'."
            ) from error
        try:
            table = parquet.read_table(path)
            columns = {name: table.column(name).to_pylist() for name in table.column_names}
        except (OSError, ValueError) as error:  # pyarrow's errors are such
            raise LimbeckError(f"{path} is not a readable Parquet file ({error}).") from error
        return table_of(columns, path, reading)


def label_column(names: Sequence[str], reading: Reading, what: object) -> str:
    """The column of the labels.

    Raises:
        LimbeckError: none was named, or there is no such column; lists the columns.
    """
    listed = ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
    if reading.label is None:
        raise LimbeckError(
            f"{what} does not say which column has the labels; name it, as in {what},label={names[-1]}. It has the "
            f"columns {listed}."
        )
    if reading.label not in names:
        raise LimbeckError(f"{what} has no column {reading.label}; it has the columns {listed}.")
    return reading.label


def table_of(columns: Mapping[str, Sequence[Any]], what: object, reading: Reading) -> Raw:
    """A table from its columns: the labels, and all others as features.

    Raises:
        LimbeckError: no such label column, no other column, columns that are not numbers, or missing values.
    """
    label = label_column(list(columns), reading, what)
    pictures = [name for name, values in columns.items() if values and isinstance(values[0], Mapping)]
    if pictures and "bytes" in columns[pictures[0]][0]:
        raise LimbeckError(
            f"The column {pictures[0]} of {what} holds pictures as Hugging Face stores them; read it by the package "
            "datasets: load_dataset('parquet', data_files=PATH) gives a data set that limbeck takes."
        )
    features: dict[str, Array] = {}
    wrong, missing = [], {}
    for name, values in columns.items():
        if name == label:
            continue
        try:
            column = np.array([np.nan if value is None else value for value in values], np.float64)
        except (TypeError, ValueError):
            wrong.append(name)
            continue
        if column.ndim > 2:
            wrong.append(name)
            continue
        if np.isnan(column).any():
            missing[name] = int(np.isnan(column).sum())
        features[name] = column[:, None] if column.ndim == 1 else column  # lists of one length are several features
    _refuse_columns(what, wrong, missing)
    if not features:
        raise LimbeckError(f"{what} has no column besides the labels; a table needs at least one feature.")
    return Raw(
        train=(np.concatenate([*features.values()], 1), np.array(list(columns[label]), object)), kind=reading.kind
    )


def _refuse_columns(what: object, wrong: Sequence[str], missing: Mapping[str, int]) -> None:
    if wrong:
        raise LimbeckError(
            f"{what} has columns that are not numbers: {', '.join(wrong)}; leave them out, or write numbers instead."
        )
    if missing:
        counts = ", ".join(f"{name} ({count})" for name, count in missing.items())
        raise LimbeckError(f"{what} has missing values in the columns {counts}; fill them in, or leave out these rows.")


def _separator(head: str) -> str:
    return max(_SEPARATORS, key=head.count)


def _read_rows(rows: Any, path: Path, reading: Reading) -> Raw:
    names = [name.strip() for name in next(rows, [])]
    if not names:
        raise LimbeckError(f"{path} is empty; its first row must name the columns.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LimbeckError(f"{path} has two columns called '{twice}'; its first row must name each column once.")
    place = names.index(label_column(names, reading, path))
    features = [name for name in names if name != names[place]]
    numbers, labels = array("d"), []
    wrong: dict[str, None] = {}
    missing: dict[str, int] = {}
    for row in rows:
        if not row:  # an empty line
            continue
        if len(row) != len(names):
            raise LimbeckError(f"{path} has {len(row)} fields in line {rows.line_num}, but {len(names)} columns.")
        labels.append(row.pop(place).strip())
        for name, text in zip(features, row, strict=True):
            if text.strip().lower() in _MISSING:
                missing[name] = missing.get(name, 0) + 1
                continue
            try:
                numbers.append(float(text))
            except ValueError:
                wrong[name] = None
    _refuse_columns(path, [*wrong], missing)
    unlabelled = sum(label.lower() in _MISSING for label in labels)
    if unlabelled:
        raise LimbeckError(
            f"{path} has {unlabelled} rows without a label in {names[place]}; fill them in, or leave them out."
        )
    if not labels or not features:
        raise LimbeckError(
            f"{path} has {len(labels)} rows and {len(features)} features; it needs at least one of each."
        )
    x = np.frombuffer(numbers, np.float64).reshape(len(labels), len(features))
    return Raw(train=(x, _as_numbers(labels)), kind=reading.kind)


def _as_numbers(labels: list[str]) -> Array:
    """Whole numbers where all are such; otherwise the texts."""
    try:
        return np.array([int(label) for label in labels])
    except (ValueError, OverflowError):
        return np.array(labels)
