"""Exports the samples of an arm after curation, in ISIC's layout or as Hugging Face's image folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dermprompt.data.findings import listed
from dermprompt.export.place import new_path
from dermprompt.export.provenance import write_dataset_card
from dermprompt.export.sample_index import placed, sample_rows
from dermprompt.files import read_json, write_bytes
from dermprompt.pipeline import Pipeline
from dermprompt.stages.arrays import relabelled_masks
from dermprompt.stages.curate import copied
from dermprompt.synthesis.index import write_index, write_table
from dermprompt.synthesis.samples import image_path, mask_path, read_file, sample_index

Row = dict[str, Any]
Place = Callable[[str], tuple[Path, Path]]


def export_isic(pipeline: Pipeline, root: Path) -> None:
    """Write ISIC's two folders with ``samples.csv`` and a card below ``root``."""
    rows = _copy(pipeline, root, lambda id: (image_path(root, id), mask_path(root, id)))
    layout = "Images and masks are in two folders with ISIC's names; `samples.csv` says where each came from."
    write_dataset_card(pipeline, root, rows, layout, {})


def export_imagefolder(pipeline: Pipeline, root: Path) -> None:
    """Write ``train/images``, ``train/masks`` and ``train/metadata.csv``, which ``load_dataset`` reads, below ``root``.

    ``load_dataset`` takes columns ending in ``file_name`` for images: ``file_name`` becomes ``image``,
    ``mask_file_name`` becomes ``mask``; paths are relative to the table.
    """
    train = root / "train"
    rows = _copy(pipeline, root, lambda id: (train / "images" / f"{id}.jpg", train / "masks" / f"{id}.png"))
    _write_metadata(train / "metadata.csv", rows)
    layout = (
        '`datasets.load_dataset("imagefolder", data_dir=…)` gives `image`, `mask` and the columns of `samples.csv`.'
    )
    write_dataset_card(pipeline, root, rows, layout, {})


def used_rows(pipeline: Pipeline) -> list[Row]:
    """The rows of the index that an arm uses.

    Raises:
        ValueError: samples are copies of images of G, and ``synthesis.export_copies`` does not allow them.
    """
    if not pipeline.config.synthesis.count:
        return []
    every = sample_rows(pipeline)
    rows = [row for row in every if row["decision"] != "drop"]
    _refuse_copies(pipeline, every, {row["id"] for row in rows})
    return rows


def _refuse_copies(pipeline: Pipeline, every: list[Row], used: set[str]) -> None:
    config = pipeline.config
    found = copied(read_json(pipeline.memorised.path / "nearest.json"), config.curation.quantile)
    ones = {row["id"] for row, one in zip(every, found, strict=True) if one} & used
    if ones and not config.synthesis.export_copies:
        raise ValueError(
            f"{len(ones)} of {len(used)} samples count as copies of real images: {listed(sorted(ones))}; "
            "leave them out with curation=memorisation, or export them with synthesis.export_copies=true"
        )


def _copy(pipeline: Pipeline, root: Path, place: Place) -> list[Row]:
    """Copy the samples byte for byte, with the reference segmenter's mask if relabelled; write the index."""
    rows, curated = used_rows(pipeline), pipeline.curated
    copies = []
    for row in rows:
        image, mask = (new_path(root, path) for path in place(row["id"]))
        for kind, path in (("image", image), ("mask", mask)):
            write_bytes(path, read_file(Path(row[kind]), row[f"{kind}_sha256"]))
        if curated and row["decision"] == "relabel":
            _write_mask(mask, relabelled_masks(curated.path)[sample_index(row["id"])], pipeline.config.image_size)
        copies.append(placed(row, root, image, mask))
    write_index(root / "samples.csv", copies)
    return copies


def _write_mask(path: Path, mask: np.ndarray, size: int) -> None:
    resized = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
    write_bytes(path, cv2.imencode(".png", resized * 255)[1].tobytes())


def _write_metadata(path: Path, rows: list[Row]) -> None:
    """Write the index with the two column names that mark images."""
    renamed = {"image": "file_name", "mask": "mask_file_name"}
    table = [{renamed.get(key, key): value for key, value in row.items()} for row in rows]
    for row in table:
        for key in renamed.values():
            row[key] = row[key].removeprefix("train/")
    write_table(path, list(table[0]), table)
