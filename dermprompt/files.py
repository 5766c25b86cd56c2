"""Atomic files: complete or absent, even after a power failure; and safe reading of untrusted files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

NAME = re.compile(r"(?!\.)[\w.-]{1,100}")
NAME_IN_WORDS = "a name of at most 100 letters, digits, _, - and dots, the first no dot"


def is_name(value: Any) -> bool:
    """Whether the value is safe as a part of a path: it names one file or folder and cannot lead elsewhere."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def check_name(what: str, value: Any) -> str:
    """Return a name that comes from an untrusted file, after checking it.

    Raises:
        ValueError: it is not a safe name; ``what`` says where it is from.
    """
    if not is_name(value):
        raise ValueError(f"{what} {value!r}: not {NAME_IN_WORDS}")
    return str(value)


def printable(text: str, kept: str = "\n\t") -> str:
    """The text, safe for a terminal: characters that control or reorder it are escaped, except those in ``kept``."""
    odd = (one for one in set(text) - set(kept) if unicodedata.category(one) in ("Cc", "Cf", "Cs"))
    return text.translate({ord(one): one.encode("unicode_escape").decode() for one in odd})


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file next to its target, flush it to the disk, then move it into place. No link is followed."""
    write_pieces(path, [data])


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], end: str = "\n") -> None:
    """Write rows below a header of ``columns``, as UTF-8, compressed if the name ends in ``.gz``."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Like :func:`write_bytes`, for content that is produced while writing."""
    staged = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    with new_file(staged) as file:
        file.writelines(pieces)
    os.replace(staged, path)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write, flushed to the disk at the end, and removed if writing fails.

    Raises:
        FileExistsError: a file or link of that name exists.
        OSError: always names the file, even if the system does not, as on a full disk.
    """
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)
        raise


def flush_folder(folder: Path) -> None:
    """Flush all files in a folder and the directory entries to the disk."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            opened = os.open(path, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def sha256(content: bytes | str | Path) -> str:
    """The sha256 (hex) of bytes, of a text in UTF-8, or of a file's content."""
    if isinstance(content, Path):
        with open(content, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def stamp(file: Path, root: Path) -> tuple[str, int, int]:
    """Name, size and modification time of a file; the name is relative to ``root`` if the file is below it."""
    found = os.stat(file)
    return str(file.relative_to(root) if file.is_relative_to(root) else file), found.st_size, found.st_mtime_ns


def stamps(path: str) -> list[tuple[str, int, int]]:
    """The stamps of a local file or of all files in a folder; empty if there is neither, as for a hub id."""
    assert path, "an empty path is the working directory"
    root = Path(path).expanduser()
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    return [stamp(file, root) for file in files]


def write_json(path: Path, value: Any) -> None:
    """Write JSON with :func:`write_pieces`."""
    write_pieces(path, map(str.encode, json.JSONEncoder(indent=1).iterencode(value)))


def json_array(rows: Iterable[Any]) -> Iterator[str]:
    """The text of ``json.dumps`` for a list, row by row, because the whole text may be large; paths become strings."""
    return joined("[", ([json.dumps(row, default=str)] for row in rows), "]")


def joined(first: str, parts: Iterable[Iterable[str]], last: str) -> Iterator[str]:
    """``first``, the pieces of all ``parts``, with commas between the parts, and ``last``."""
    yield first
    for number, part in enumerate(parts):
        yield ", " if number else ""
        yield from part
    yield last


@contextmanager
def reading(path: Path, remedy: str = "") -> Iterator[None]:
    """A context for reading a file or folder that may be untrusted or damaged; all errors become ValueErrors.

    Raises:
        ValueError: anything was wrong; names the path, the reason and the ``remedy``.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError("a pipe or a device, not a file")
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error) and remedy in str(error):
            raise
        said = " ".join(str(error).split())[:300].removeprefix(f"{path}: ") or type(error).__name__
        reason = f"no {said} in it" if isinstance(error, KeyError) else said
        raise ValueError(f"{path}: {reason}{f'; {remedy}' if remedy else ''}") from error


def read_json(path: Path, kind: type | tuple[type, ...] = (dict, list), remedy: str = "") -> Any:
    """The content of a JSON file, which must be of type ``kind``; fails like :func:`reading`."""
    with reading(path, remedy):
        content = json.loads(path.read_bytes())
        if not isinstance(content, kind):
            raise ValueError(f"JSON of another kind, {type(content).__name__}")
    return content
