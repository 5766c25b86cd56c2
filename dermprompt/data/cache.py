"""The decoded images and masks of one data set at one size, as references to records of a library."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermprompt.data.findings import Finding, listed
from dermprompt.data.index import Index
from dermprompt.data.library import Pair, grow_library, library_name, open_records, read_entries, record_sha256
from dermprompt.data.reading import Reading
from dermprompt.files import sha256, write_json
from dermprompt.mapped import Rows

PICTURES = "pictures.json"


@dataclass(frozen=True, eq=False)
class Cache:
    """The pairs of ``ids``: ``images`` uint8 (N, size, size, 3) in [0, 255], RGB, and ``masks`` uint8 (N, size, size)
    in {0, 1}. Both stay on the disk until they are indexed.
    """

    ids: tuple[str, ...]
    images: Rows
    masks: Rows


def build_cache(
    index: Index, size: int, reading: Reading, libraries: Path, folder: Path, progress: Callable[[int], None]
) -> str:
    """Decode the pairs of ``index`` that the library below ``libraries`` lacks, and write ``pictures.json``.

    Returns a digest (16 hex digits) of pixels and ids; ``progress`` is told how many pairs were decoded.
    """
    library = libraries / library_name(size, reading)
    pairs = {one.id: Pair(one.image, one.mask, *index.contents[one.id]) for one in index.lesions}
    grow_library(library, size, list(pairs.values()), reading, progress)
    entries = read_entries(library)
    found = {id: entries[pair.key] for id, pair in pairs.items()}
    good = {id: {"row": one.row, "sha256": one.sha256} for id, one in found.items() if one.row is not None}
    names = {"image": {one.id: one.image.name for one in index.lesions}}
    names["mask"] = {one.id: one.mask.name for one in index.lesions if one.mask is not None}
    findings = [
        {"verdict": verdict, "what": names[kind][id], "detail": detail, "id": id}
        for id, one in found.items()
        for verdict, kind, detail in one.verdicts
    ]
    place = os.path.relpath(library, folder.parent)
    write_json(folder / PICTURES, {"library": place, "size": size, "records": good, "findings": findings})
    content = [[id, one["sha256"]] for id, one in good.items()]
    return sha256(json.dumps([size, content]))[:16]


def read_findings(folder: Path) -> list[Finding]:
    """The findings about a cache's images and masks."""
    return [Finding(**row) for row in json.loads((folder / PICTURES).read_text())["findings"]]


def load_cache(folder: Path, ids: Iterable[str]) -> Cache:
    """Open the pairs of ``ids``, in that order, after verifying the hashes of their pixels.

    Raises:
        ValueError: an id is unknown, or a record does not match its hash; names the library to delete.
    """
    raw = json.loads((folder / PICTURES).read_text())
    wanted, records, library = tuple(ids), raw["records"], (folder.parent / raw["library"]).resolve()
    unknown = [id for id in wanted if id not in records]
    if unknown:
        raise ValueError(f"{listed(unknown)} not among the {len(records)} pictures of {folder}")
    images, masks = open_records(library, raw["size"])
    rows = np.array([records[id]["row"] for id in wanted], dtype=np.int64)
    for id, row in zip(wanted, rows, strict=True):
        if row >= min(len(images), len(masks)) or record_sha256(images[row], masks[row]) != records[id]["sha256"]:
            raise ValueError(f"the cached pixels of {id} were damaged; delete {library} and {folder}, and run again")
    return Cache(wanted, Rows(images, rows), Rows(masks, rows))
