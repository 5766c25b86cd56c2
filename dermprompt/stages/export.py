"""An arm as a data set of nnU-Net, so that another program may be trained on the same pairs and scored on S.test.

The layout is nnU-Net 2's raw one for natural images: ``imagesTr/ID_0000.png`` in RGB, ``labelsTr/ID.png`` in {0, 1},
``imagesTs`` and ``labelsTs`` (S.test), ``dataset.json``, and ``splits_final.json``, whose one fold validates on S.val.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from dermprompt.data.findings import listed
from dermprompt.files import read_json, write_json
from dermprompt.pipeline import Pipeline
from dermprompt.stages.curate import copied
from dermprompt.stages.parts import Part, load_part, load_samples
from dermprompt.stages.trained import through_codec
from dermprompt.synthesis.samples import read_records

NUMBER = 500  # nnU-Net leaves the numbers from 500 on to users

Pairs = Iterable[tuple[str, np.ndarray, np.ndarray]]


def export_nnunet(pipeline: Pipeline, folder: Path) -> Path:
    """Write the data set below ``folder`` at the segmenter's size, and return its folder.

    Raises:
        ValueError: samples that copy an image of G, unless ``synthesis.export_copies`` allows them.
    """
    drawn = _drawn(pipeline)
    root = folder / f"Dataset{NUMBER}_{pipeline.rules.name}"
    shutil.rmtree(root, ignore_errors=True)
    train = [id for pairs in (*_real(pipeline), drawn) for id in write_pairs(root, "Tr", pairs)]
    val = write_pairs(root, "Tr", _pairs(_part(pipeline, "val")))
    write_pairs(root, "Ts", _pairs(_part(pipeline, "test")))
    about = {
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": len(train) + len(val),
        "file_ending": ".png",
        "name": f"{pipeline.config.name}: {pipeline.rules.name}",
        "description": "Ids that begin with SYN_ are synthetic images.",
    }
    write_json(root / "dataset.json", about)
    write_json(root / "splits_final.json", [{"train": train, "val": val}])
    return root


def write_pairs(root: Path, part: str, pairs: Pairs) -> list[str]:
    """Write images uint8 SS3 RGB and masks uint8 SS in {0, 1}, and return their ids."""
    images, labels = (root / f"{name}{part}" for name in ("images", "labels"))
    ids = []
    for id, image, mask in pairs:
        for place, name, pixels in ((images, f"{id}_0000.png", image[..., ::-1]), (labels, f"{id}.png", mask)):
            place.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / name), pixels)
        ids.append(id)
    return ids


def _part(pipeline: Pipeline, name: str) -> Part:
    cache = pipeline.cache(pipeline.config.segmenter.image_size)
    return load_part(pipeline.prepared.path, cache.path, name, pipeline.rules.num_real)


def _pairs(part: Part) -> Pairs:
    return ((one.id, image, mask) for one, image, mask in zip(part.lesions, part.images, part.masks, strict=True))


def _real(pipeline: Pipeline) -> list[Pairs]:
    """The real pairs of the arm."""
    if pipeline.rules.real == "s_decoded":
        part, base = _part(pipeline, "train"), pipeline.base
        assert base is not None
        decoded = through_codec(pipeline.config, base.path, part.images)
        return [_pairs(Part(part.lesions, decoded, part.masks))]
    names = {"s": ["train"], "s_and_g": ["train", "generator"], "none": []}[pipeline.rules.real]
    return [_pairs(_part(pipeline, name)) for name in names]


def _drawn(pipeline: Pipeline) -> Pairs:
    """The samples of the arm, as a curation left them."""
    config = pipeline.config
    if not config.synthesis.count:
        return ()
    curated = pipeline.curated
    drawn = load_samples(
        pipeline.samples.path, config.synthesis.count, config.segmenter.image_size, curated.path if curated else None
    )
    ids = [row.id for row in drawn.rows]
    _refuse_copies(pipeline, ids)
    return zip(ids, drawn.images, drawn.masks, strict=True)


def _refuse_copies(pipeline: Pipeline, ids: list[str]) -> None:
    config = pipeline.config
    found = read_json(pipeline.memorised.path / "nearest.json")
    rows = read_records(pipeline.samples.path, config.synthesis.count)
    ones = {row.id for row, one in zip(rows, copied(found, config.curation.quantile), strict=True) if one} & set(ids)
    if ones and not config.synthesis.export_copies:
        raise ValueError(
            f"{len(ones)} of {len(ids)} samples count as copies of real images: {listed(sorted(ones))}; "
            "leave them out with curation=memorisation, or export them with synthesis.export_copies=true"
        )
