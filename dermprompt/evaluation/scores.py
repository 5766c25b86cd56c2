"""All measures of predicted masks, per image, and their csv file."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermprompt.evaluation.boundary import hd95, surface_dice
from dermprompt.evaluation.overlap import dice, iou, sensitivity, specificity, thresholded_jaccard
from dermprompt.files import reading, write_csv

Mask = NDArray[np.bool_] | NDArray[np.uint8]

# An image with a lower Dice counts as a failure.
FAILURE = 0.5


@dataclass(frozen=True)
class Scores:
    """Measures of one image, at the resolution of its true mask.

    ``hd95`` is a share of the diagonal; its best value is 0, that of all other measures 1. If both masks are empty,
    all values are best; if one is, Dice, IoU and the distances are worst.

    ``common`` and ``total``: pixels in both masks, and the sum of both areas, for the pooled Dice. ``area``: the
    true mask's share of the image; ``border``: 1 if it touches the image's border, else 0.
    """

    dice: float
    iou: float
    jaccard65: float
    sensitivity: float
    specificity: float
    hd95: float
    surface_dice: float
    common: int
    total: int
    area: float
    border: int


MEASURES = ("dice", "iou", "jaccard65", "sensitivity", "specificity", "hd95", "surface_dice")


def score(pred: Mask, target: Mask) -> Scores:
    """Compare a predicted mask with the true one, both HW.

    Raises:
        ValueError: their sizes differ.
    """
    if pred.shape != target.shape:
        raise ValueError(f"a prediction of {pred.shape} pixels (height, width) for a mask of {target.shape}")
    one, other = pred[None].astype(bool), target[None].astype(bool)
    return Scores(
        dice=float(dice(one, other)[0]),
        iou=float(iou(one, other)[0]),
        jaccard65=float(thresholded_jaccard(one, other)[0]),
        sensitivity=float(sensitivity(one, other)[0]),
        specificity=float(specificity(one, other)[0]),
        hd95=hd95(one[0], other[0]),
        surface_dice=surface_dice(one[0], other[0]),
        common=int(np.count_nonzero(one & other)),
        total=int(one.sum() + other.sum()),
        area=float(target.mean()),
        border=int(any(edge.any() for edge in (target[0], target[-1], target[:, 0], target[:, -1]))),
    )


def pooled(scores: Sequence[Scores]) -> float:
    """Dice over the pixels of all images together, so that large masks count for more."""
    total = sum(one.total for one in scores)
    return 2 * sum(one.common for one in scores) / total if total else 1.0


def save_scores(scores: dict[str, Scores], path: Path) -> None:
    """Write a csv with a row for each image id."""
    columns = ["id", *(field.name for field in dataclasses.fields(Scores))]
    write_csv(path, columns, ({"id": id, **dataclasses.asdict(one)} for id, one in scores.items()))


def load_scores(path: Path) -> dict[str, Scores]:
    """Read what :func:`save_scores` wrote. Raises ValueError, naming the file, if it is damaged or repeats an image."""
    types = {field.name: {"float": float, "int": int}[str(field.type)] for field in dataclasses.fields(Scores)}
    with reading(path):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {row["id"]: Scores(**{name: kind(row[name]) for name, kind in types.items()}) for row in rows}
        if not rows or len(found) < len(rows):
            raise ValueError(f"{len(rows)} rows of {len(found)} images")
    return found
