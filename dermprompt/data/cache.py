"""Every image and mask decoded, checked and resized once, into two arrays that training maps to memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from dermprompt.data.labels import listed
from dermprompt.lesion import Lesion

IMAGES, MASKS, IDS, IMAGES_SHA256 = "images.npy", "masks.npy", "ids.json", "images_sha256.json"

# A full-resolution pair takes up to 0.3 GB while it is resized, so the threads are bounded.
_NUM_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class Cache:
    """The pairs of ``ids``, in that order; the arrays are mapped to memory and read-only.

    images: uint8 (N, size, size, 3) in [0, 255], RGB. masks: uint8 (N, size, size) in {0, 1}.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Return the int64 indices (M,) of ``ids`` in the arrays.

        Raises:
            ValueError: an id that is not in the cache.
        """
        row_of = {id: row for row, id in enumerate(self.ids)}
        wanted = list(ids)
        unknown = [id for id in wanted if id not in row_of]
        if unknown:
            raise ValueError(f"{listed(unknown)} not among the {len(self.ids)} images of the cache")
        return np.array([row_of[id] for id in wanted], dtype=np.int64)


def build_cache(
    lesions: Sequence[Lesion], size: int, folder: Path, progress: Callable[[int], None] | None = None
) -> None:
    """Decode, check and resize every pair to ``size`` x ``size`` pixels, and write them to ``folder``.

    Pairs that are not square are squeezed, as in the paper's code; orientation tags are ignored, because
    the masks were drawn on the stored pixels. A mask pixel is lesion where at least half of its area is.
    ``progress`` is called with the number of pairs done. ``images_sha256.json`` has the hash of each
    image file by id. ``ids.json`` is written last: a folder without it is incomplete.

    Raises:
        ValueError: naming the files that cannot be decoded, and the masks that have another size than
            their image or values other than 0 and 255; all files are looked at first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / IDS).unlink(missing_ok=True)
    hashes: dict[str, str] = {}
    problems: list[str] = []
    for pair in _write_arrays(lesions, size, folder):
        hashes[pair.id] = pair.sha256
        problems += pair.problems
        if progress is not None:
            progress(len(hashes))
    if problems:
        raise ValueError(f"{len(problems)} bad files in {len(lesions)} pairs: {listed(problems, '; ')}")
    (folder / IMAGES_SHA256).write_text(json.dumps(hashes, indent=0) + "\n")
    (folder / IDS).write_text(json.dumps(list(hashes)) + "\n")


def load_cache(folder: Path) -> Cache:
    """Open what :func:`build_cache` wrote, without reading the pixels.

    Raises:
        ValueError: the folder holds no complete cache.
    """
    if not (folder / IDS).is_file():
        raise ValueError(f"{folder} holds no complete cache: no {IDS}")
    ids = tuple(json.loads((folder / IDS).read_text()))
    images = np.load(folder / IMAGES, mmap_mode="r")
    masks = np.load(folder / MASKS, mmap_mode="r")
    assert len(ids) == len(images) == len(masks), f"{folder}: {len(ids)} ids, {len(images)} images"
    return Cache(ids, images, masks)


def digest(folder: Path) -> str:
    """Hash (sha256, hex) the content of a cache: pixels of images and masks, and ids."""
    return hashlib.sha256("".join(_sha256(folder / name) for name in (IMAGES, MASKS, IDS)).encode()).hexdigest()


@dataclass(frozen=True)
class _Pair:
    """The resized pixels in C order, empty where anything is wrong with the files."""

    id: str
    image: bytes
    mask: bytes
    sha256: str
    problems: list[str]


def _write_arrays(lesions: Sequence[Lesion], size: int, folder: Path) -> Iterator[_Pair]:
    with (
        ThreadPoolExecutor(_NUM_THREADS) as pool,
        (folder / IMAGES).open("wb") as images,
        (folder / MASKS).open("wb") as masks,
    ):
        _write_header(images, (len(lesions), size, size, 3))
        _write_header(masks, (len(lesions), size, size))
        for pair in pool.map(partial(_load_pair, size=size), lesions):
            # Written in order and not through a memory map, where a full disk would kill the process.
            images.write(pair.image)
            masks.write(pair.mask)
            yield pair


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _load_pair(lesion: Lesion, size: int) -> _Pair:
    # From a buffer: cv2.imread takes a truncated JPEG for good and leaves the rest of it grey.
    data = lesion.image.read_bytes()
    image = _decode(data, cv2.IMREAD_COLOR)
    mask = _decode(lesion.mask.read_bytes(), cv2.IMREAD_GRAYSCALE)
    sha256 = hashlib.sha256(data).hexdigest()
    problems = _problems(lesion, image, mask)
    if image is None or mask is None or problems:
        return _Pair(lesion.id, b"", b"", sha256, problems)
    pixels = _resize_image(image, size).tobytes(), _resize_mask(mask, size).tobytes()
    return _Pair(lesion.id, *pixels, sha256, [])


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # an empty file, or one that claims more than 2^30 pixels
        return None


def _problems(lesion: Lesion, image: np.ndarray | None, mask: np.ndarray | None) -> list[str]:
    """Say what is wrong with either file, one line for each."""
    pair = ((lesion.image, image), (lesion.mask, mask))
    problems = [f"{path} cannot be decoded" for path, pixels in pair if pixels is None]
    if mask is None:
        return problems
    if np.any((mask != 0) & (mask != 255)):
        values = [str(value) for value in np.unique(mask)]
        problems.append(f"{lesion.mask} has the values {listed(values)}; allowed are 0 and 255")
    elif image is not None and image.shape[:2] != mask.shape:
        problems.append(f"{lesion.mask} is {mask.shape} pixels (height, width), its image {image.shape[:2]}")
    return problems


def _resize_image(image: np.ndarray, size: int) -> np.ndarray:
    shrinks = min(image.shape[:2]) >= size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.cvtColor(cv2.resize(image, (size, size), interpolation=interpolation), cv2.COLOR_BGR2RGB)


def _resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    share = cv2.resize(mask.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    return (share >= 0.5).astype(np.uint8)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
