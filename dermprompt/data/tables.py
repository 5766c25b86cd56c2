"""Reads label tables, tolerant of their format but strict about their content, and reports what was odd."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dermprompt.data.findings import Finding, listed

Fields = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Fields by id, as written in the table; ``num_rows`` includes rows that were left out."""

    rows: dict[str, Fields]
    num_rows: int
    findings: tuple[Finding, ...]


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read_table(
    path: Path,
    key: str,
    columns: tuple[str, ...],
    parse: Callable[[Mapping[str, str]], Fields | None],
    known: tuple[str, ...] = (),
) -> Table:
    """Parse each row of a table to fields, by the id in column ``key``.

    The text is UTF-8 or UTF-16; the delimiter is the one that yields the most of these columns, ignoring case. A row
    that parses to None has no labels; if ``parse`` raises ValueError, the row is a ``bad_row`` and left out. ``known``
    are optional columns; any others are ``extra_columns``.
    """
    wanted = (key, *columns, *known)
    try:
        text, findings = read_text(path)
        header, delimiter = _header(text, wanted)
    except (UnicodeError, csv.Error) as error:
        return Table({}, 0, (Finding("unreadable_table", path.name, f"{error}; save it in UTF-8"),))
    names, more = _names(path, header, wanted)
    missing = sorted({key, *columns} - set(names))
    if missing:
        detail = f"no column {', '.join(missing)}; found {listed(header) or 'none'}"
        more.append(Finding("missing_columns", path.name, detail))
    if any(one.bad for one in more):
        return Table({}, 0, tuple(one for one in more if one.bad))
    if delimiter != ",":
        findings.append(Finding("delimiter", path.name, DELIMITERS[delimiter]))
    rows: dict[str, Fields] = {}
    num_rows = 0
    for line, cells in _rows(text, delimiter):
        num_rows += 1
        more += _add(rows, f"{path.name}, line {line}", _Row(cells, names, delimiter), key, parse)
    return Table(rows, num_rows, (*findings, *more))


def read_text(path: Path) -> tuple[str, list[Finding]]:
    """The text of a table in UTF-8, or in UTF-16 if it has a byte order mark, and findings about its format.

    Raises:
        UnicodeError: it is neither.
    """
    if not path.is_file():
        raise UnicodeError("no regular file")
    data, findings = path.read_bytes(), []
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        findings.append(Finding("utf_16", path.name))
        text = data.decode("utf-16")
    else:
        text = data.decode("utf-8-sig")
        if data.startswith(codecs.BOM_UTF8):
            findings.append(Finding("byte_order_mark", path.name))
    if "\r\n" in text:
        findings.append(Finding("crlf", path.name))
    return text, findings


def _header(text: str, wanted: tuple[str, ...]) -> tuple[list[str], str]:
    """The cells of the first non-blank line, and the delimiter that yields the most of the wanted columns."""
    found = {}
    for delimiter in DELIMITERS:
        header = next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), [])
        plain = {name.strip().casefold() for name in header}
        found[delimiter] = (sum(name.casefold() in plain for name in wanted), len(header) > 1, header)
    delimiter = max(found, key=lambda one: found[one][:2])
    return found[delimiter][2], delimiter


def _names(path: Path, header: list[str], wanted: tuple[str, ...]) -> tuple[list[str], list[Finding]]:
    """The header in our spelling of the columns that are read, and findings about it."""
    ours = {name.casefold(): name for name in wanted}
    names = [ours.get(name.strip().casefold(), name.strip()) for name in header]
    found = []
    twice = sorted(name for name, number in Counter(names).items() if number > 1 and name in wanted)
    if twice:
        found.append(Finding("duplicate_columns", path.name, listed(twice)))
    respelt = [there for there, name in zip(header, names, strict=True) if name in wanted and there != name]
    if respelt:
        found.append(Finding("header_case", path.name, listed(respelt)))
    extra = [name for name in names if name not in wanted]
    if extra:
        found.append(Finding("extra_columns", path.name, listed(sorted(extra))))
    return names, found


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """The non-blank rows below the header, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = True
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, error
            header = False
            continue
        if cells and not header:
            yield line, cells
        header = header and not cells


@dataclass(frozen=True)
class _Row:
    """The cells of a row under the names of their columns."""

    cells: list[str] | csv.Error
    names: list[str]
    delimiter: str

    def read(self) -> dict[str, str]:
        """The cells by column name. Raises ValueError if they do not match the header."""
        if isinstance(self.cells, csv.Error):
            what = "a quote that is opened there is never closed" if "unexpected end" in str(self.cells) else self.cells
            raise ValueError(str(what))
        if len(self.cells) != len(self.names):
            raise ValueError(f"{len(self.cells)} cells under {len(self.names)} columns")
        return dict(zip(self.names, self.cells, strict=True))

    def lines(self) -> Iterator[Finding]:
        """Findings about cells of several lines; a line with as many delimiters as a row was swallowed by a quote."""
        for name, cell in zip(self.names, self.cells if isinstance(self.cells, list) else (), strict=False):
            inner = cell.splitlines()[1:]
            if inner:
                rows = any(one.count(self.delimiter) >= max(1, len(self.names) - 1) for one in inner)
                yield Finding("swallowed_rows" if rows else "multiline_cell", name, f"{len(inner) + 1} lines")


def _add(
    rows: dict[str, Fields], place: str, row: _Row, key: str, parse: Callable[[Mapping[str, str]], Fields | None]
) -> list[Finding]:
    found = [replace(one, what=place, detail=f"column {one.what}, {one.detail}") for one in row.lines()]
    if bad := [one for one in found if one.bad]:
        return bad[:1]  # a row is refused once, whichever of its cells swallowed others
    try:
        cells = row.read()
        id, fields = cells[key].strip(), parse(cells)
        if not id:
            raise ValueError(f"column {key} is empty")
    except ValueError as error:
        return [*found, Finding("bad_row", place, str(error))]
    return found if fields is None else [*found, *put(rows, place, id, fields)]


def put(rows: dict[str, Fields], place: str, id: str, fields: Fields) -> list[Finding]:
    """Add a row of a table; a repeated id is a finding, and has no labels if the rows differ."""
    if id not in rows:
        rows[id] = fields
        return []
    if rows[id] == fields:
        return [Finding("repeated_row", place, id)]
    before, rows[id] = rows[id], {}
    return [Finding("duplicate_row", place, f"{id} was {before}, now {fields}")]


def number(row: Mapping[str, str], column: str) -> float:
    """The finite number in a cell. Raises ValueError, naming column and value, if it is not one."""
    try:
        value = float(row[column] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"column {column} is {row[column]!r}, not a number")
    return value


def flags(row: Mapping[str, str], columns: tuple[str, ...]) -> list[str]:
    """The ``columns`` whose cell is 1. Raises ValueError for a cell that is neither 0 nor 1."""
    values = {column: number(row, column) for column in columns}
    for column, value in values.items():
        if value not in (0, 1):
            raise ValueError(f"column {column} is {value:g}; allowed are 0 and 1")
    return [column for column, value in values.items() if value]


def only_flag(row: Mapping[str, str], columns: tuple[str, ...]) -> str:
    """The one of ``columns`` whose cell is 1. Raises ValueError unless it is exactly one."""
    present = flags(row, columns)
    if len(present) != 1:
        raise ValueError(f"{len(present)} of the columns {', '.join(columns)} are 1; exactly one must be")
    return present[0]
