"""Label sources, and how they are joined to images: nothing is lost or decided silently."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path, PureWindowsPath
from typing import Any

from dermprompt.data.findings import Finding, listed
from dermprompt.data.folders import ENDINGS, fold
from dermprompt.data.tables import Fields, Table, put
from dermprompt.lesion import Lesion

_LABELS = {one.name for one in fields(Lesion)} - {"id", "image", "mask", "negative"}
# A table that has fewer than this share of the images is reported.
_FEW = 0.5


@dataclass(frozen=True)
class Source:
    """The labels from one source: for each id, the fields of :class:`~dermprompt.lesion.Lesion` that it knows.

    ``num_rows`` counts the rows of its files, including those left out.
    """

    name: str
    files: tuple[str, ...]
    rows: dict[str, Fields]
    num_rows: int
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        unknown = {name for row in self.rows.values() for name in row} - _LABELS
        assert not unknown, (self.name, unknown)


@dataclass(frozen=True)
class Coverage:
    """How a source covers the images: ids with a row, ids without, number of rows without image, ids in conflict."""

    source: str
    files: tuple[str, ...]
    num_rows: int
    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    num_foreign: int
    conflicting: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """A source's tables: patterns of their file names, ignoring case, and the function that reads one."""

    patterns: tuple[str, ...]
    read: Callable[[Path], Table]

    def files(self, folder: Path) -> list[Path]:
        """The tables in a folder, sorted by name."""
        there = sorted(folder.iterdir()) if folder.is_dir() else []
        low = [pattern.casefold() for pattern in self.patterns]
        return [one for one in there if any(fnmatchcase(one.name.casefold(), pattern) for pattern in low)]


def read_sources(folder: Path, known: Mapping[str, Tables]) -> list[Source]:
    """Read every source in ``known`` (tables by the source's name) that has tables in ``folder``."""
    found = {name: tables.files(folder) for name, tables in known.items()}
    return [
        source_of(name, {path.name: known[name].read(path) for path in paths}) for name, paths in found.items() if paths
    ]


def source_of(name: str, tables: dict[str, Table]) -> Source:
    """Combine several files of one source, such as a training and a validation table."""
    rows: dict[str, Fields] = {}
    findings = [finding for table in tables.values() for finding in table.findings]
    for file, table in tables.items():
        for id, row in table.rows.items():
            findings += [one for one in put(rows, file, id, row) if one.bad]
    return Source(name, tuple(tables), rows, sum(table.num_rows for table in tables.values()), tuple(findings))


def join(
    lesions: Sequence[Lesion], sources: Sequence[Source], on_conflict: str
) -> tuple[list[Lesion], list[Coverage], list[Finding]]:
    """Give every lesion its labels from the sources; ids are matched ignoring case.

    If sources disagree on a field, ``on_conflict`` says which one counts: the ``first`` or the ``last`` in the order
    of ``sources``, or none (``unknown``).

    Raises:
        ValueError: sources disagree and ``on_conflict`` is ``error``; names all the ids.
    """
    found, odd = [], []
    for source in sources:
        rows, more = _by_image(source, lesions)
        found.append(rows)
        odd += [*more, *source.findings]
    joined, conflicts = [], {}
    for lesion in lesions:
        said = {s.name: rows[fold(lesion.id)][1] for s, rows in _knowing(sources, found, lesion.id)}
        known, disputed = _settle(said, on_conflict)
        joined.append(replace(lesion, **known))
        conflicts.update({(lesion.id, name): values for name, values in disputed.items()})
    if conflicts and on_conflict == "error":
        raise ValueError(_describe(conflicts))
    in_conflict = {(source, id) for (id, _), values in conflicts.items() for source in values}
    coverages = [_coverage(s, rows, lesions, in_conflict) for s, rows in zip(sources, found, strict=True)]
    return joined, coverages, odd


Rows = dict[str, tuple[str, Fields]]


def _by_image(source: Source, lesions: Sequence[Lesion]) -> tuple[Rows, list[Finding]]:
    """The source's rows by image id; the source may write ids in another case, with a path or with a file extension."""
    ids = {fold(one.id): one.id for one in lesions}
    rows: Rows = {}
    findings: list[Finding] = []
    odd: dict[str, list[str]] = {"id_case": [], "id_form": []}
    for id, row in source.rows.items():
        key = _key(id, ids)
        if key in rows:
            known = {key: rows[key][1]}
            findings += put(known, source.name, key, row)
            rows[key] = (id, known[key])
            continue
        rows[key] = (id, row)
        if key in ids and id != ids[key]:
            odd["id_case" if fold(id) == key else "id_form"].append(f"{id} for {ids[key]}")
    findings += [Finding(verdict, source.name, listed(ones)) for verdict, ones in odd.items() if ones]
    return rows, [*findings, *_few_matches(source, rows, ids)]


def _key(id: str, ids: Mapping[str, str]) -> str:
    """The id in lower case, without path or extension if only then it matches an image."""
    key = fold(id)
    bare = PureWindowsPath(key).name  # handles Windows and Unix paths
    stem, ending = os.path.splitext(bare)
    return next((one for one in (key, bare, stem if ending in ENDINGS else key) if one in ids), key)


def _few_matches(source: Source, rows: Rows, ids: Mapping[str, str]) -> Iterator[Finding]:
    matched = sum(key in ids for key in rows)
    if ids and rows and matched < _FEW * len(ids):
        without, foreign = (
            [id for key, id in ids.items() if key not in rows],
            [id for key, (id, _) in rows.items() if key not in ids],
        )
        detail = f"{matched} of {len(ids)} images; images without a row: {', '.join(without[:3])}"
        yield Finding(
            "few_matches", source.name, f"{detail}; rows without an image: {', '.join(foreign[:3]) or 'none'}"
        )


def _knowing(sources: Sequence[Source], found: Sequence[Rows], id: str) -> Iterator[tuple[Source, Rows]]:
    return ((s, rows) for s, rows in zip(sources, found, strict=True) if fold(id) in rows)


def _settle(said: dict[str, Fields], rule: str) -> tuple[Fields, dict[str, dict[str, Any]]]:
    """The fields that count, and the disputed fields with each source's value."""
    known: Fields = {}
    disputed = {}
    for name in {name for row in said.values() for name in row}:
        values = {source: row[name] for source, row in said.items() if row.get(name) is not None}
        if not values:
            continue
        ordered = list(values.values())
        if any(value != ordered[0] for value in ordered):
            disputed[name] = values
            known[name] = {"first": ordered[0], "last": ordered[-1]}.get(rule)
        else:
            known[name] = ordered[0]
    return known, disputed


def _describe(conflicts: dict[tuple[str, str], dict[str, Any]]) -> str:
    lines = [
        f"{id} ({', '.join(f'{source}: {value}' for source, value in values.items())})"
        for (id, _), values in conflicts.items()
    ]
    fields = sorted({name for _, name in conflicts})
    return (
        f"label sources disagree on the {' and '.join(fields)} of {len({id for id, _ in conflicts})} images: "
        f"{', '.join(lines)}; mend the files, or set data.on_conflict to first, last or unknown"
    )


def _coverage(source: Source, rows: Rows, lesions: Sequence[Lesion], conflicts: set[tuple[str, str]]) -> Coverage:
    matched = tuple(one.id for one in lesions if fold(one.id) in rows)
    return Coverage(
        source=source.name,
        files=source.files,
        num_rows=source.num_rows,
        matched=matched,
        unmatched=tuple(one.id for one in lesions if fold(one.id) not in rows),
        num_foreign=len(rows) - len(matched),
        conflicting=tuple(one.id for one in lesions if (source.name, one.id) in conflicts),
    )
