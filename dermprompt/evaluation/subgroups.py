"""Subgroups of test images: by diagnosis, attribute, lesion size, and contact with the border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dermprompt.evaluation.scores import Scores
from dermprompt.lesion import Lesion

# Upper bounds of the lesion's share of the image.
SIZES = ((0.1, "below 10 %"), (0.3, "10 to 30 %"), (1.01, "above 30 %"))


def subgroups(lesions: Sequence[Lesion], scores: Mapping[str, Scores]) -> dict[tuple[str, str], list[str]]:
    """Ids by (kind, name); an image is in one group of each kind, but in one for each of its attributes.

    ``scores`` has each image's true area and contact with the border.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for one in sorted(lesions, key=lambda lesion: lesion.id):
        for group in _groups_of(one, scores[one.id]):
            groups.setdefault(group, []).append(one.id)
    kinds = ("diagnosis", "size", "border", "attribute")
    return dict(sorted(groups.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1])))


def size_of(area: float) -> str:
    """The size group of a mask by its share of the image."""
    return next(name for bound, name in SIZES if area < bound)


def _groups_of(lesion: Lesion, score: Scores) -> list[tuple[str, str]]:
    return [
        ("diagnosis", lesion.diagnosis or "unknown"),
        ("size", size_of(score.area)),
        ("border", "touches" if score.border else "inside"),
        *(("attribute", name) for name in lesion.attributes or ()),
    ]
