"""Index, labels and split of the data; every picture decoded once."""

from __future__ import annotations

import dataclasses
import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dermprompt.data.cache import build_cache, digest
from dermprompt.data.isic import coverage, read_isic
from dermprompt.data.phantom import write_phantom
from dermprompt.data.split import PARTS, Split, draw_split, load_split
from dermprompt.files import write_json
from dermprompt.lesion import Lesion
from dermprompt.schema import Config


def paint_phantom(config: Config, folder: Path) -> None:
    """Paint a data set in ISIC's layout."""
    assert config.data.num_images is not None
    # What an interrupted painting left is not trusted.
    shutil.rmtree(folder)
    folder.mkdir()
    write_phantom(folder, config.data.num_images, config.image_size, config.data.split.seed)


def index_and_split(config: Config, root: Path, labels: Path, folder: Path) -> str:
    """Write ``index.json``, ``coverage.json`` and ``split.json``; the digest is of labels and split."""
    lesions = read_isic(root, labels)
    sizes = config.data.split.sizes
    split = draw_split([one.id for one in lesions], config.data.split.seed, tuple(sizes))  # type: ignore[arg-type]
    split.save(folder / "split.json")
    rows = [{**dataclasses.asdict(one), "image": str(one.image), "mask": str(one.mask)} for one in lesions]
    write_json(folder / "index.json", rows)
    parts = {part: len(getattr(split, part)) for part in PARTS}
    write_json(folder / "coverage.json", {**coverage(lesions), "split": parts})
    known = [[one.id, one.diagnosis, one.attributes] for one in lesions]
    return sha256(json.dumps([known, split.hash]).encode()).hexdigest()[:16]


def load_index(prepared: Path) -> tuple[dict[str, Lesion], Split]:
    """The lesions by id, and the split."""
    rows = json.loads((prepared / "index.json").read_text())
    lesions = {row["id"]: _lesion(row) for row in rows}
    return lesions, load_split(prepared / "split.json")


def _lesion(row: dict[str, Any]) -> Lesion:
    attributes = None if row["attributes"] is None else tuple(row["attributes"])
    files = {"image": Path(row["image"]), "mask": Path(row["mask"])}
    return Lesion(**{**row, **files, "attributes": attributes})


def cache_pictures(config: Config, prepared: Path, size: int, folder: Path) -> str:
    """Decode, check and resize all pairs; the digest is of the pixels."""
    lesions, _ = load_index(prepared)
    ordered = [lesions[id] for id in sorted(lesions)]
    with tqdm(total=len(ordered), desc=f"   decode to {size} px", unit=" pairs", disable=None) as bar:
        build_cache(ordered, size, folder, lambda done: bar.update(done - bar.n) and None)
    return digest(folder)[:16]
