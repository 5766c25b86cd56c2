"""The file of near-duplicate pairs, with the evidence for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dermprompt.files import read_json, write_json

SHIPPED = {"isic2018": Path(__file__).with_name("isic2018_clusters.json")}


@dataclass(frozen=True)
class Duplicate:
    """A pair of ids in sorted order, and the orientation in which the images match.

    ``hash_distance``: differing bits of 64; ``correlation``: of the aligned fine structures, in [-1, 1]; ``mirrored``:
    the second image is mirrored left to right, then given this many quarter ``turns``.
    """

    first: str
    second: str
    hash_distance: int
    correlation: float
    turns: int = 0
    mirrored: bool = False


def clusters_path(name: str) -> Path:
    """The file of a name in ``SHIPPED``, otherwise ``name`` as a path."""
    return SHIPPED.get(name, Path(name).expanduser())


def save_clusters(path: Path, pairs: Sequence[Duplicate], about: str) -> None:
    """Write pairs as JSON, with a sentence on how they were found."""
    write_json(path, {"about": about, "pairs": [asdict(pair) for pair in pairs]})


def load_clusters(path: Path) -> list[tuple[str, str]]:
    """Read the pairs of ids that belong together. Raises ValueError if the file is of another kind."""
    try:
        return [(str(pair["first"]), str(pair["second"])) for pair in read_json(path, dict)["pairs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of clusters: {error!r}; stage=find_duplicates writes one") from None
