"""Reads what a W&B run keeps on disk: a log of records in LevelDB's format, behind a header of 7 bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file, up to where a process was interrupted."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def logged(path: Path) -> list[dict[str, Any]]:
    """Metrics by name, a dict a call of the logger."""
    found = [one.history for one in records(path) if one.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in h.item} for h in found]


def artifacts(path: Path) -> list[tuple[str, str, bool]]:
    """Name, type, and whether the run uses it (otherwise it has made it)."""
    found = [one.artifact for one in records(path) if one.WhichOneof("record_type") == "artifact"]
    return [(one.name, one.type, one.use_after_commit) for one in found]
