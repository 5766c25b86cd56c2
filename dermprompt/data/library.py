"""A library of decoded images: every pair is decoded once per size, and found by the content of its files.

A library is a folder for one size, decoder version and way of reading: ``images.bin`` and ``masks.bin`` hold
consecutive uint8 records, ``entries.jsonl`` a line for each pair of files ever requested. A line is written after its
record, so records without a line, left by an interrupted run, are cut off. Data sets and jobs share libraries.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.data.decode import BadPicture, Decoded, decode_image, upright
from dermprompt.data.findings import DECODER
from dermprompt.data.fit import fit_image, fit_mask
from dermprompt.data.masks import decode_mask
from dermprompt.data.reading import PLAIN, Reading
from dermprompt.files import sha256
from dermprompt.mapped import slices
from dermprompt.store.locks import hold

IMAGES, MASKS, ENTRIES = "images.bin", "masks.bin", "entries.jsonl"

# A full-resolution pair takes up to 0.3 GB while it is resized, so the threads are bounded.
_NUM_THREADS = min(8, os.cpu_count() or 1)
_PAIRS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of an image and its mask, with the sha256 (hex) of each; for an image alone, None and "" for the mask.

    The record of an image alone has a mask of zeros.
    """

    image: Path
    mask: Path | None
    image_sha256: str
    mask_sha256: str

    @property
    def key(self) -> str:
        """The pair's key, which depends on the content of its files and not on their location."""
        return f"{self.image_sha256}-{self.mask_sha256}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A pair's entry: its row and the sha256 of its record, or None and "" if the pair is bad.

    ``verdicts``: (verdict, ``image`` or ``mask``, detail) for each finding.
    """

    key: str
    row: int | None
    sha256: str
    verdicts: tuple[tuple[str, str, str], ...]


def library_name(size: int, reading: Reading) -> str:
    """The name of a library's folder."""
    changed = {one.name: getattr(reading, one.name) for one in fields(PLAIN)}
    changed = {name: value for name, value in changed.items() if value != getattr(PLAIN, name)}
    parts = [f"{name}-{_word(value)}" for name, value in changed.items()]
    return "-".join([f"{size}-decoder{DECODER}", *parts])


def _word(value: Any) -> str:
    """A setting as part of a folder's name."""
    return "-".join(f"{key}.{name}" for key, name in value.items()) if isinstance(value, Mapping) else str(value)


def grow_library(
    folder: Path, size: int, pairs: Sequence[Pair], reading: Reading, progress: Callable[[int], None]
) -> None:
    """Decode, check and resize those of ``pairs`` that the library lacks; ``progress`` is told how many.

    Pairs that are not square are squeezed, as in the paper's code, unless ``reading`` says otherwise. After an
    interruption, the same call continues.

    Raises:
        ValueError: a file does not match its hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / ".lock", f"the library {folder}"):
        known = read_entries(folder)
        wanted = list({pair.key: pair for pair in pairs if pair.key not in known}.values())
        row = sum(entry.row is not None for entry in known.values())
        _cut(folder, row, size, known)
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            load = partial(_load_pair, size=size, reading=reading)
            for part in slices(len(wanted), _PAIRS_AT_ONCE):
                chunk = wanted[part]
                row = _append(folder, row, zip(chunk, pool.map(load, chunk), strict=True))
                progress(len(chunk))


def read_entries(folder: Path) -> dict[str, Entry]:
    """The entries of a library by key; an incomplete last line is ignored."""
    path = folder / ENTRIES
    if not path.exists():
        return {}
    with path.open() as lines:
        rows = (json.loads(line) for line in lines if line.endswith("\n"))
        return {row["key"]: Entry(**{**row, "verdicts": tuple(map(tuple, row["verdicts"]))}) for row in rows}


def open_records(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, size, size, 3) in [0, 255], RGB, and masks uint8 (N, size, size) in {0, 1}, both as read-only
    memory maps.
    """
    images = np.memmap(folder / IMAGES, np.uint8, "r").reshape(-1, size, size, 3)
    masks = np.memmap(folder / MASKS, np.uint8, "r").reshape(-1, size, size)
    return images, masks


def record_sha256(image: np.ndarray, mask: np.ndarray) -> str:
    """The hash of a record's pixels."""
    digest = hashlib.sha256(np.ascontiguousarray(image).data)
    digest.update(np.ascontiguousarray(mask).data)
    return digest.hexdigest()


def _cut(folder: Path, num_rows: int, size: int, entries: dict[str, Entry]) -> None:
    """Cut off the records that an interrupted run wrote without a line."""
    for name, record in ((IMAGES, size * size * 3), (MASKS, size * size)):
        with (folder / name).open("ab") as file:
            file.truncate(num_rows * record)
    with (folder / ENTRIES).open("w") as file:
        file.writelines(json.dumps(asdict(entry)) + "\n" for entry in entries.values())


Loaded = tuple[np.ndarray, np.ndarray] | None
Verdicts = tuple[tuple[str, str, str], ...]


def _append(folder: Path, row: int, results: Iterator[tuple[Pair, tuple[Loaded, Verdicts]]]) -> int:
    """Write records, then their lines; return the new number of rows."""
    lines = []
    with (folder / IMAGES).open("ab") as images, (folder / MASKS).open("ab") as masks:
        for pair, (loaded, verdicts) in results:
            entry = Entry(pair.key, None, "", verdicts)
            if loaded is not None:
                # Not through a memory map, where a full disk would kill the process.
                images.write(loaded[0].tobytes())
                masks.write(loaded[1].tobytes())
                entry = Entry(pair.key, row, record_sha256(*loaded), verdicts)
                row += 1
            lines.append(json.dumps(asdict(entry)) + "\n")
    with (folder / ENTRIES).open("a") as file:
        file.writelines(lines)
    return row


def _load_pair(pair: Pair, size: int, reading: Reading) -> tuple[Loaded, Verdicts]:
    verdicts: list[tuple[str, str, str]] = []
    image = _decode(
        pair.image, pair.image_sha256, "image", verdicts, lambda data: decode_image(data, size, reading.max_megapixels)
    )
    if pair.mask is None:
        return _alone(image, size, reading, verdicts), tuple(verdicts)
    mask = _decode(pair.mask, pair.mask_sha256, "mask", verdicts, lambda data: decode_mask(data, reading))
    pixels = _aligned(image, mask, verdicts) if image and mask else None
    if pixels is None or mask is None:
        return None, tuple(verdicts)
    small = fit_mask(mask.pixels, size, reading.fit)
    if reading.fit == "crop" and mask.pixels.any() and not small.any():
        return None, (*verdicts, ("cropped_away", "mask", ""))
    return (fit_image(pixels, size, reading.fit), small), tuple(verdicts)


def _alone(image: Decoded | None, size: int, reading: Reading, verdicts: list[tuple[str, str, str]]) -> Loaded:
    """The record of an image alone, as it is stored: most images with a mask are taken so too."""
    if image is None:
        return None
    if image.orientation != 1:
        verdicts.append(("rotated", "image", f"tag {image.orientation} ignored: there is no mask to tell which way up"))
    return fit_image(image.pixels, size, reading.fit), np.zeros((size, size), np.uint8)


def _decode(
    path: Path, expected: str, kind: str, verdicts: list[tuple[str, str, str]], decode: Callable[[bytes], Decoded]
) -> Decoded | None:
    data = path.read_bytes()
    if sha256(data) != expected:
        raise ValueError(f"{path} changed while this job ran; give the same command again")
    try:
        decoded = decode(data)
    except BadPicture as bad:
        verdicts.append((bad.verdict, kind, bad.detail))
        return None
    verdicts += [(verdict, kind, detail) for verdict, detail in decoded.notes]
    return decoded


def _aligned(image: Decoded, mask: Decoded, verdicts: list[tuple[str, str, str]]) -> np.ndarray | None:
    """The image's pixels in the mask's orientation: as stored, or upright if only that matches the mask's size."""
    if image.size == mask.size:
        if image.orientation != 1:
            verdicts.append(("rotated", "image", _ignored(image)))
        return image.pixels
    if image.orientation in (5, 6, 7, 8) and image.size == mask.size[::-1]:
        verdicts.append(("rotated", "image", f"turned as tag {image.orientation} says: so is its mask"))
        return upright(image.pixels, image.orientation)
    detail = f"{mask.size[0]} × {mask.size[1]} pixels (height × width), its image {image.size[0]} × {image.size[1]}"
    verdicts.append(("size_mismatch", "mask", detail))
    return None


def _ignored(image: Decoded) -> str:
    """Why an orientation tag is ignored; sizes are evidence only if the tag swaps height and width."""
    known = image.orientation in (5, 6, 7, 8) and image.size[0] != image.size[1]
    why = "the mask has the size of the stored pixels" if known else "sizes do not tell which way up the mask is; look"
    return f"tag {image.orientation} ignored: {why}"
