"""Parts of the data and synthetic samples as arrays, for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dermprompt.data.cache import load_cache
from dermprompt.files import read_json
from dermprompt.generator.batches import TrainingImages
from dermprompt.lesion import Lesion
from dermprompt.mapped import Rows
from dermprompt.prompts.template import TEMPLATES
from dermprompt.stages.prepare import load_generator_set, load_lesions, load_pool, real_ids
from dermprompt.stages.settings import HeldOut
from dermprompt.synthesis.samples import Sample, image_path, mask_path, read_file, read_records


@dataclass(frozen=True)
class Part:
    """Lesions of one part of the split, with images uint8 NSS3 and masks uint8 NSS in {0, 1} in the same order.

    Pixels stay on the disk until they are indexed: a data set may be larger than memory.
    """

    lesions: tuple[Lesion, ...]
    images: Rows
    masks: Rows

    def only(self, rows: np.ndarray) -> Part:
        """The part restricted to these rows."""
        return Part(tuple(self.lesions[row] for row in rows), self.images.only(rows), self.masks.only(rows))

    def without(self, rows: np.ndarray) -> Part:
        """The part without these rows."""
        return self.only(np.setdiff1d(np.arange(len(self.lesions)), rows))

    def prompts(self, template: str | None) -> tuple[str, ...]:
        """The prompt that describes each lesion; empty prompts without a template."""
        if template is None:
            return ("",) * len(self.lesions)
        return tuple(TEMPLATES[template].compose(one.diagnosis, one.attributes) for one in self.lesions)


def load_part(prepared: Path, cache: Path, name: str, num_real: int | None = None) -> Part:
    """Load ``generator``, ``train``, ``val`` or ``test``; ``num_real`` reduces S.train and S.val to an arm's share."""
    lesions, split = load_lesions(prepared)
    return load_lesions_of([lesions[id] for id in real_ids(split, name, num_real)], cache)


def load_generator_part(generator_set: Path, cache: Path, pool: Path | None = None) -> Part:
    """Load the images that generators, masks and prompts may see; then those of the ``pool``, which only a base sees,
    with masks of zeros.
    """
    alone = [] if pool is None else load_pool(pool)
    return load_lesions_of([*load_generator_set(generator_set), *alone], cache)


def load_lesions_of(lesions: list[Lesion], cache: Path) -> Part:
    """Load the images and masks of ``lesions``, in their order."""
    pictures = load_cache(cache, [one.id for one in lesions])
    return Part(tuple(lesions), pictures.images, pictures.masks)


def training_images(
    held_out: HeldOut, generator_set: Path, cache: Path, template: str | None = None, pool: Path | None = None
) -> TrainingImages:
    """A generator's training images without the few of G held out for validation; with prompts if a template is given,
    and with the ``pool`` if that is given.
    """
    part = load_generator_part(generator_set, cache, pool)
    in_g = sum(one.mask is not None for one in part.lesions)  # the pool comes after G
    part = part.without(held_out_rows(held_out, in_g))
    ids = tuple(one.id for one in part.lesions)
    return TrainingImages(part.images, part.masks, part.prompts(template), ids)


def held_out_rows(held_out: HeldOut, number: int) -> np.ndarray:
    """The rows that are held out of training, of a generator's training set of ``number`` images."""
    order = np.random.default_rng([held_out.seed, 2]).permutation(number)
    return np.sort(order[: num_held_out(held_out.num_images, number)])


def num_held_out(asked: int, number: int) -> int:
    """How many of ``number`` images are held out of training: ``asked``, but at most a tenth and at least one."""
    return max(1, min(asked, number // 10))


@dataclass(frozen=True)
class Samples:
    """Synthetic samples in memory: rows of the index, images uint8 NSS3, masks uint8 NSS in {0, 1}."""

    rows: tuple[Sample, ...]
    images: np.ndarray
    masks: np.ndarray


def load_samples(folder: Path, count: int, size: int, decisions: Path | None = None) -> Samples:
    """The first ``count`` samples at ``size`` pixels, after curation if there are ``decisions``."""
    drawn = _decoded(folder, read_records(folder, count), size)
    if decisions is None:
        return drawn
    rows, images, masks = drawn.rows, drawn.images, drawn.masks
    decided = read_json(decisions / "decisions.json")
    verdicts = [row["decision"] for row in decided["rows"]]
    if "relabel" in verdicts:
        relabelled = relabelled_masks(decisions)
        masks = np.stack([r if v == "relabel" else m for v, r, m in zip(verdicts, relabelled, masks, strict=True)])
    kept = np.array([verdict != "drop" for verdict in verdicts])
    return Samples(tuple(r for r, k in zip(rows, kept, strict=True) if k), images[kept], masks[kept])


def relabelled_masks(decisions: Path) -> np.ndarray:
    """The masks that a curation's reference segmenters predicted, uint8 NSS in {0, 1} at the segmenter's size."""
    return np.load(decisions.parent / read_json(decisions / "decisions.json")["predictions"], mmap_mode="r")


def pick_samples(folder: Path, indices: list[int], size: int) -> Samples:
    """The samples of these indices, at ``size`` pixels."""
    every = read_records(folder, max(indices) + 1)
    return _decoded(folder, [every[i] for i in indices], size)


def _decoded(folder: Path, rows: list[Sample], size: int) -> Samples:
    images = [_image(image_path(folder, row.id), row.image_sha256, size) for row in rows]
    masks = [_mask(mask_path(folder, row.id), row.mask_sha256, size) for row in rows]
    return Samples(tuple(rows), np.stack(images), np.stack(masks))


def _image(path: Path, expected: str, size: int) -> np.ndarray:
    image = _decode(path, expected, cv2.IMREAD_COLOR)[..., ::-1]
    return image if len(image) == size else cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _decode(path: Path, expected: str, flags: int) -> np.ndarray:
    """The pixels of a file with the expected sha256 (hex). Raises ValueError if it differs or is damaged."""
    return np.asarray(cv2.imdecode(np.frombuffer(read_file(path, expected), np.uint8), flags))


def _mask(path: Path, expected: str, size: int) -> np.ndarray:
    mask = _decode(path, expected, cv2.IMREAD_GRAYSCALE)
    if len(mask) != size:
        mask = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(mask > 127, np.uint8)
