"""Exports an arm as an nnU-Net data set, so that nnU-Net can be trained on the same pairs and scored on S.test.

The layout is nnU-Net 2's raw format for natural images: ``imagesTr/ID_0000.png`` in RGB, ``labelsTr/ID.png`` in
{0, 1}, ``imagesTs`` and ``labelsTs`` (S.test), ``dataset.json``, and ``splits_final.json``, whose single fold
validates on S.val.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dermprompt.export.place import new_path
from dermprompt.export.provenance import write_dataset_card
from dermprompt.export.sample_index import placed
from dermprompt.export.samples import used_rows
from dermprompt.files import write_bytes, write_json
from dermprompt.mapped import Rows
from dermprompt.pipeline import Pipeline
from dermprompt.stages.arrays import Part, load_part, load_samples
from dermprompt.stages.networks import through_codec
from dermprompt.synthesis.index import write_index


@dataclass(frozen=True)
class Pair:
    """An image uint8 SS3 RGB, its mask uint8 SS in {0, 1}, and a comment for the image's metadata."""

    id: str
    image: np.ndarray
    mask: np.ndarray
    comment: str = ""


Pairs = Iterable[Pair]


def export_nnunet(pipeline: Pipeline, root: Path) -> None:
    """Write the data set to ``root`` at the segmenter's size.

    Raises:
        ValueError: samples are copies of images of G, and ``synthesis.export_copies`` does not allow them.
    """
    rows = used_rows(pipeline)
    real = [id for pairs in _real(pipeline) for id in write_pairs(root, "Tr", pairs)]
    drawn = write_pairs(root, "Tr", _drawn(pipeline, rows))
    val = write_pairs(root, "Tr", _pairs(_part(pipeline, "val")))
    test = write_pairs(root, "Ts", _pairs(_part(pipeline, "test")))
    assert not {*real, *drawn} & {*val, *test}, "training, validation and test share images"
    about = {
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": len(real) + len(drawn) + len(val),
        "file_ending": ".png",
        "name": f"{pipeline.config.name}: {pipeline.rules.name}",
        "description": "Ids that begin with SYN_ are synthetic images.",
    }
    write_json(root / "dataset.json", about)
    write_json(root / "splits_final.json", [{"train": real + drawn, "val": val}])
    index = [placed(row, root, *_files(root, "Tr", row["id"])) for row in rows]
    write_index(root / "samples.csv", index)
    layout = "A raw data set of nnU-Net 2: `…Tr` to train and validate on (`splits_final.json`), `…Ts` to test on."
    counts = {"real images for training": len(real), "for validation": len(val), "for the test": len(test)}
    write_dataset_card(pipeline, root, index, layout, counts)


def write_pairs(root: Path, part: str, pairs: Pairs) -> list[str]:
    """Write images and masks; return their ids."""
    ids = []
    for pair in pairs:
        image, label = (new_path(root, path) for path in _files(root, part, pair.id))
        said = PngInfo()
        if pair.comment:
            said.add_text("Comment", pair.comment)
        Image.fromarray(pair.image).save(image, pnginfo=said, compress_level=1)
        write_bytes(label, cv2.imencode(".png", pair.mask)[1].tobytes())
        ids.append(pair.id)
    return ids


def _files(root: Path, part: str, id: str) -> tuple[Path, Path]:
    return root / f"images{part}" / f"{id}_0000.png", root / f"labels{part}" / f"{id}.png"


def _part(pipeline: Pipeline, name: str) -> Part:
    cache = pipeline.cache(pipeline.config.segmenter.image_size)
    return load_part(pipeline.prepared.path, cache.path, name, pipeline.rules.num_real)


def _pairs(part: Part) -> Pairs:
    ids = (_real_id(one.id) for one in part.lesions)
    return (Pair(id, image, mask) for id, image, mask in zip(ids, part.images, part.masks, strict=True))


def _real_id(id: str) -> str:
    """The id of a real image, renamed if it begins with SYN_, which marks samples here."""
    return f"REAL_{id}" if id.upper().startswith("SYN_") else id


def _real(pipeline: Pipeline) -> list[Pairs]:
    """The real pairs of the arm."""
    if pipeline.rules.real == "s_decoded":
        part, base = _part(pipeline, "train"), pipeline.base
        assert base is not None
        decoded = through_codec(pipeline.runtime, base.path, part.images)
        return [_pairs(Part(part.lesions, Rows(decoded), part.masks))]
    names = {"s": ["train"], "s_and_g": ["train", "generator"], "none": []}[pipeline.rules.real]
    return [_pairs(_part(pipeline, name)) for name in names]


def _drawn(pipeline: Pipeline, rows: list[dict[str, Any]]) -> Pairs:
    """The arm's samples after curation, each with the comment of its JPEG."""
    config, curated = pipeline.config, pipeline.curated
    if not rows:
        return ()
    decisions = curated.path if curated else None
    drawn = load_samples(pipeline.samples.path, config.synthesis.count, config.segmenter.image_size, decisions)
    said = (Image.open(row["image"]).info["comment"].decode() for row in rows)
    pairs = zip(rows, drawn.images, drawn.masks, said, strict=True)
    return (Pair(row["id"], image, mask, comment) for row, image, mask, comment in pairs)
