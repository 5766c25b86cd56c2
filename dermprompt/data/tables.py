"""Label tables in csv, forgiving in form and strict in content; what was odd about them is said."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermprompt.data.findings import Finding, listed

Fields = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Fields by id, as the ids are written; ``num_rows`` counts also those that were left out."""

    rows: dict[str, Fields]
    num_rows: int
    findings: tuple[Finding, ...]


def read_table(
    path: Path,
    key: str,
    columns: tuple[str, ...],
    parse: Callable[[Mapping[str, str]], Fields | None],
    known: tuple[str, ...] = (),
) -> Table:
    """Parse each row of a csv to fields, by the id in column ``key``.

    A row that parses to None says nothing; one whose ``parse`` raises ValueError is a ``bad_row`` and left
    out. ``known`` are columns that may be there or not; any others are ``extra_columns``.
    """
    findings: list[Finding] = []
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        header = list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        return Table({}, 0, (Finding("unreadable_table", path.name, str(error)),))
    missing = sorted({key, *columns} - set(header))
    if missing:
        detail = f"no column {', '.join(missing)}; found {listed(map(str, header)) or 'none'}"
        return Table({}, 0, (Finding("missing_columns", path.name, detail),))
    findings += _form(path, data, set(header) - {key, *columns, *known})
    rows: dict[str, Fields] = {}
    num_rows = 0
    for line, row in _lines(reader):
        num_rows += 1
        findings += _add(rows, f"{path.name}, line {line}", row, key, parse)
    return Table(rows, num_rows, tuple(findings))


def _form(path: Path, data: bytes, extra: set[str]) -> list[Finding]:
    found = []
    if data.startswith(b"\xef\xbb\xbf"):
        found.append(Finding("byte_order_mark", path.name))
    if b"\r\n" in data:
        found.append(Finding("crlf", path.name))
    if extra:
        found.append(Finding("extra_columns", path.name, listed(sorted(map(str, extra)))))
    return found


def _lines(reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, str] | csv.Error]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, error
            continue
        yield reader.line_num, row


def _add(
    rows: dict[str, Fields],
    place: str,
    row: dict[str, str] | csv.Error,
    key: str,
    parse: Callable[[Mapping[str, str]], Fields | None],
) -> list[Finding]:
    try:
        if isinstance(row, csv.Error):
            raise ValueError(str(row))
        if None in row:
            raise ValueError("more cells than columns")
        id, fields = (row[key] or "").strip(), parse(row)
        if not id:
            raise ValueError(f"column {key} is empty")
    except ValueError as error:
        return [Finding("bad_row", place, str(error))]
    if fields is None:
        return []
    if id not in rows:
        rows[id] = fields
        return []
    if rows[id] == fields:
        return [Finding("repeated_row", place, id)]
    before, rows[id] = rows[id], {}  # nothing is known of it
    return [Finding("duplicate_row", place, f"{id} was {before}, now {fields}")]


def number(row: Mapping[str, str], column: str) -> float:
    """The finite number in a cell. Raises ValueError that names the column and its value."""
    try:
        value = float(row[column] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"column {column} is {row[column]!r}, not a number")
    return value


def flags(row: Mapping[str, str], columns: tuple[str, ...]) -> list[str]:
    """Those of ``columns`` that are 1. Raises ValueError for a cell that is neither 0 nor 1."""
    values = {column: number(row, column) for column in columns}
    for column, value in values.items():
        if value not in (0, 1):
            raise ValueError(f"column {column} is {value:g}; allowed are 0 and 1")
    return [column for column, value in values.items() if value]
