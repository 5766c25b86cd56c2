"""Clusters of near-duplicates as a file, with the evidence for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dermprompt.files import read_json, write_json

SHIPPED = {"isic2018": Path(__file__).with_name("isic2018_clusters.json")}


@dataclass(frozen=True)
class Duplicate:
    """A pair of ids, first before second, and the orientation in which they are alike.

    ``hash_distance``: bits of 64; ``correlation``: of the aligned fine structures, in [-1, 1]; ``turns``: quarter turns
    of the second image, which is first ``mirrored`` left to right.
    """

    first: str
    second: str
    hash_distance: int
    correlation: float
    turns: int = 0
    mirrored: bool = False


def clusters_path(name: str) -> Path:
    """The file of a name in ``SHIPPED``, or of a path."""
    return SHIPPED.get(name, Path(name).expanduser())


def save_clusters(path: Path, pairs: Sequence[Duplicate], about: str) -> None:
    """Write pairs as JSON, with a sentence on how they were found."""
    write_json(path, {"about": about, "pairs": [asdict(pair) for pair in pairs]})


def load_clusters(path: Path) -> list[tuple[str, str]]:
    """Read the pairs of ids that belong together. Raises ValueError for another file."""
    try:
        return [(str(pair["first"]), str(pair["second"])) for pair in read_json(path, dict)["pairs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of clusters: {error!r}; stage=find_duplicates writes one") from None
