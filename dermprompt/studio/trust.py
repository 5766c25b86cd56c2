"""Whether a generated image copies a training image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermprompt.curation.memorisation import copy_threshold, nearest_known, thumbnails
from dermprompt.data.index import load_index
from dermprompt.files import read_json
from dermprompt.mapped import Rows
from dermprompt.pipeline import Pipeline
from dermprompt.stages.arrays import load_generator_part, load_lesions_of
from dermprompt.stages.evaluate_distribution import held_out_part
from dermprompt.studio.offers import BOX_SIZE, Offer
from dermprompt.weights.box import BOX


@dataclass(frozen=True)
class Seen:
    """A generator's training images uint8 NSS3, their ids and thumbnails, and the distance that defines copies."""

    ids: tuple[str, ...]
    images: Rows
    known: np.ndarray
    threshold: float | None


class Copies:
    """Finds the nearest training image, for every generator whose training set is available."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._seen: dict[str, Seen | None] = {}

    def of(self, offer: Offer, image: np.ndarray) -> tuple[dict[str, Any], np.ndarray | None]:
        """The findings about an image uint8 SS3, and its nearest training image, if known."""
        if offer.id not in self._seen:
            self._seen[offer.id] = self._find(offer)
        seen = self._seen[offer.id]
        if seen is None:
            return {"distance": None, "why": "no training images here"}, None
        distances, rows = nearest_known(image[None], seen.known)
        distance, row = float(distances[0]), int(rows[0])
        near = seen.threshold is not None and distance < seen.threshold
        said = {"distance": round(distance, 4), "threshold": seen.threshold, "nearest": seen.ids[row], "is_copy": near}
        return said, seen.images[row]

    def _find(self, offer: Offer) -> Seen | None:
        if offer.training is not None:
            paths = {key: Path(value) for key, value in vars(offer.training).items() if value}
            if not all(path.is_dir() for path in paths.values()):
                return None
            seen = load_generator_part(paths["known"], paths["cache"], paths.get("pool"))
            # As in curation, S.test must not influence what counts as a copy.
            unseen = held_out_part(paths["prepared"], paths["cache"], seen, ("generator", "train", "val")).images
            return self._calibrated(tuple(one.id for one in seen.lesions), seen.images, unseen)
        return self._in_box(offer)

    def _in_box(self, offer: Offer) -> Seen | None:
        """The training set of the package's generators, if the configuration's data include all of it."""
        if offer.image_size != BOX_SIZE or not offer.id.startswith("box-"):
            return None
        wanted = set(read_json(BOX / "trained_on.json"))
        lesions = load_index(self.pipeline.indexed.path / "index.json").lesions
        if not wanted <= {one.id for one in lesions}:
            return None
        part = load_lesions_of(list(lesions), self.pipeline.cache(BOX_SIZE).path)
        inside = np.array([one.id in wanted for one in part.lesions])
        ids = tuple(one.id for one in part.lesions if one.id in wanted)
        return self._calibrated(ids, part.images.only(inside), part.images.only(~inside))

    def _calibrated(self, ids: tuple[str, ...], images: Rows, unseen: Rows) -> Seen:
        """Set the threshold so that a share ``curation.quantile`` of unseen real images would count as copies."""
        quantile = self.pipeline.config.curation.quantile
        known = thumbnails(images)
        held_out = nearest_known(unseen, known)[0] if len(unseen) else np.zeros(0, np.float32)
        return Seen(ids, images, known, copy_threshold(held_out, quantile))
