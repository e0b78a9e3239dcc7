"""Columns of CSV and Parquet files. Text is kept as codes into its distinct values: millions of rows stay small."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np

from .errors import DataError
from .files import MAX_EXPANSION, head, open_lines

__all__ = ["Columns", "csv_header", "parquet_header", "read_csv", "read_parquet"]

_CHUNK = 100_000


@dataclass(frozen=True)
class Columns:
    """R rows of a table."""

    texts: dict[str, tuple[np.ndarray, list[str]]]
    """(R,) codes and the distinct values"""
    numbers: dict[str, np.ndarray]
    """(R,) float64, NaN where a cell is empty or no number"""

    def text(self, name: str) -> list[str]:
        """A column of text, cell by cell."""
        codes, values = self.texts[name]
        return [values[code] for code in codes.tolist()]


def csv_header(path: Path) -> tuple[list[str], str] | None:
    """Column names, stripped, and the separator of a CSV file; None where the first line is no such thing."""
    start = head(path, 1 << 16)
    if not start or b"\0" in start:
        return None
    text = start.splitlines()[0].decode("utf-8", "replace").removeprefix("\ufeff")
    separator = max(",;\t", key=text.count)
    try:
        names = [name.strip() for name in next(csv.reader([text], delimiter=separator), [])]
    except csv.Error:
        return None
    return (names, separator) if len(names) > 1 else None


def read_csv(path: Path, texts: Iterable[str], numbers: Iterable[str]) -> Columns:
    """Columns of a CSV file by their names as `csv_header` gives them."""
    header, separator = csv_header(path)
    place = {name: header.index(name) for name in (*texts, *numbers)}
    found: dict[str, dict[str, int]] = {name: {} for name in texts}
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in place}
    for rows in _chunks(path, separator, len(header)):
        for name, values in found.items():
            codes = [values.setdefault(row[place[name]].strip(), len(values)) for row in rows]
            parts[name].append(np.array(codes))
        for name in numbers:
            parts[name].append(_numbers([row[place[name]] for row in rows]))
    columns = {name: np.concatenate(part) for name, part in parts.items()}
    return Columns(
        {name: (columns[name].astype(np.int64), list(values)) for name, values in found.items()},
        {name: columns[name].astype(np.float64) for name in numbers},
    )


def _chunks(path: Path, separator: str, width: int) -> Iterator[list[list[str]]]:
    """Rows below the header, many at a time, each filled up to the width of the table; empty lines left out."""
    with open_lines(path) as file:
        reader = csv.reader(file, delimiter=separator)
        try:
            next(reader)
            while rows := list(islice(reader, _CHUNK)):
                yield [row + [""] * (width - len(row)) for row in rows if row]
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num}: not valid CSV: {error}") from error


def _numbers(cells: list[str]) -> np.ndarray:
    try:
        return np.array(cells, np.float64)
    except ValueError:
        return np.array([_number(cell) for cell in cells], np.float64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def parquet_header(path: Path) -> list[str]:
    """Column names of a Parquet file. Raises DataError for files that unpack to absurdly many rows."""
    with _parquet(path) as parquet:
        described = parquet.read_metadata(path)
        if described.num_rows * 8 > max(1 << 26, MAX_EXPANSION * os.path.getsize(path)):
            raise DataError(f"{path}: the Parquet file unpacks to over {MAX_EXPANSION} times its size; not read")
        return described.schema.to_arrow_schema().names


def read_parquet(path: Path, texts: Iterable[str], numbers: Iterable[str]) -> Columns:
    """Columns of a Parquet file."""
    with _parquet(path) as parquet:
        table = parquet.read_table(path, columns=[*texts, *numbers])
        coded = {name: table[name].cast("string").fill_null("").combine_chunks() for name in texts}
        coded = {name: column.dictionary_encode() for name, column in coded.items()}
        return Columns(
            {name: (np.asarray(c.indices, np.int64), c.dictionary.to_pylist()) for name, c in coded.items()},
            {name: np.asarray(table[name].cast("float64", safe=False).to_numpy(), np.float64) for name in numbers},
        )


@contextmanager
def _parquet(path: Path) -> Iterator[ModuleType]:
    """pyarrow.parquet, with its errors made DataErrors."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs pyarrow; install it with: pip install 'detbalance[parquet]'") from error
    try:
        yield parquet
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
