"""The split: G trains generators; S trains, validates and tests segmenters (paper, section 3.1).

Three protocols:

- ``paper``: the paper's sizes, image by image;
- ``official``: S.val and S.test are the data set's own folders; G and S.train share its training folder;
- ``grouped``: the paper's sizes, with all images of a group (one lesion, near-duplicates) in one part.

In every protocol, files of equal content stay in one part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from dermprompt.data.findings import listed
from dermprompt.files import read_json, sha256, write_json

PARTS = ("generator", "train", "val", "test")
NUM_FOLDS = 5
MIN_IMAGES = 8

Groups = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Split:
    """Four disjoint sets of ids, each sorted; protocol and seed of the draw; and each image's sha256 (hex) by id."""

    generator: tuple[str, ...]
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    protocol: str
    seed: int
    contents: Mapping[str, str]

    @property
    def hash(self) -> str:
        """The sha256 (hex) of the ids and contents of the four parts."""
        return sha256(json.dumps(self._parts()))

    def save(self, path: Path) -> None:
        """Write parts, contents, protocol, seed and hash as JSON; :func:`load_split` reads it back."""
        write_json(path, {"protocol": self.protocol, "seed": self.seed, "hash": self.hash, "parts": self._parts()})

    def part_of(self) -> dict[str, str]:
        """The part of each id."""
        return {id: part for part in PARTS for id in getattr(self, part)}

    def check(self, contents: Mapping[str, str]) -> None:
        """Raise ValueError, listing the differences, unless ``contents`` has exactly the split's images."""
        missing, extra = sorted(self.contents.keys() - contents), sorted(contents.keys() - self.contents)
        changed = sorted(id for id in contents.keys() & self.contents if contents[id] != self.contents[id])
        counts = (("missing", missing), ("not in the split", extra), ("of another content", changed))
        differences = [f"{len(ids)} {what}: {listed(ids)}" for what, ids in counts if ids]
        if differences:
            raise ValueError(f"the split is of {len(self.contents)} other images; {'; '.join(differences)}")

    def _parts(self) -> dict[str, dict[str, str]]:
        return {part: {id: self.contents[id] for id in getattr(self, part)} for part in PARTS}


def draw_split(
    contents: Mapping[str, str],
    protocol: str,
    seed: int,
    sizes: tuple[int, int, int, int] = (1594, 700, 100, 200),
    groups: Groups = (),
    folders: Mapping[str, str] | None = None,
) -> Split:
    """Draw G, S.train, S.val and S.test; the result depends only on the arguments, not on the order of ids.

    With enough images, the parts have exactly ``sizes``, and G also gets the rest. With fewer, they keep the
    proportions of ``sizes``. A group that does not fit into the rest of a part goes to a later one, so a part's size
    deviates only if groups are large.

    Args:
        contents: sha256 (hex) of the image by id.
        protocol: ``paper``, ``official`` or ``grouped``.
        seed: of the draw.
        sizes: of G, S.train, S.val and S.test; ``official`` uses the proportion of the first two.
        groups: ids that ``grouped`` keeps together; groups that share an id are merged, ids without image ignored.
        folders: each id's folder: ``training`` (the default), ``validation`` or ``test``. Protocols other than
            ``official`` use only the training folder.

    Raises:
        ValueError: there are fewer than ``MIN_IMAGES`` training images, or too few groups to fill four
            parts; with ``official``, no validation or test images, or equal files in two folders.
    """
    place = {id: (folders or {}).get(id, "training") for id in contents}
    if protocol == "official":
        parts = _official(contents, place, seed, sizes)
    else:
        training = {id: contents[id] for id in contents if place[id] == "training"}
        parts = _fill(units_of(training, groups if protocol == "grouped" else ()), seed, sizes)
    used = {id: contents[id] for part in parts for id in part}
    return _split_of(parts, protocol, seed, used)


def rotate(split: Split, fold: int, groups: Groups = ()) -> Split:
    """Keep G and divide S into five folds: one is S.test; of the others, S.val keeps its size and S.train is the rest.

    Over the five folds, each image of S is tested once. Images that stay together in the split stay together here.

    Raises:
        ValueError: S has too few images or groups for five folds.
    """
    assert 0 <= fold < NUM_FOLDS, fold
    ids = {*split.train, *split.val, *split.test}
    own = {id: split.contents[id] for id in ids}
    groups = groups if split.protocol == "grouped" else ()
    folds = _fill(units_of(own, groups), split.seed, (len(ids) // NUM_FOLDS or 1,) * NUM_FOLDS)
    rest = {id: own[id] for id in ids.difference(folds[fold])}
    val_size = min(len(split.val), len(rest) // 2)
    train, val = _fill(units_of(rest, groups), split.seed, (len(rest) - val_size, val_size))
    parts = [list(split.generator), train, val, folds[fold]]
    return _split_of(parts, split.protocol, split.seed, split.contents)


def subset(ids: Sequence[str], number: int, seed: int) -> tuple[str, ...]:
    """The first ``number`` ids in a seeded order, returned sorted; smaller subsets are contained in larger ones."""
    order = np.random.default_rng([seed, 1]).permutation(len(ids))
    return tuple(sorted(ids[i] for i in order[:number]))


def load_split(path: Path) -> Split:
    """Read what :meth:`Split.save` wrote.

    Raises:
        ValueError: the file is not a split, or its parts do not match its hash.
    """
    try:
        raw = read_json(path, dict)
        parts = [list(raw["parts"][part]) for part in PARTS]
        contents = {id: str(content) for part in PARTS for id, content in raw["parts"][part].items()}
        split, stored = _split_of(parts, str(raw["protocol"]), int(raw["seed"]), contents), raw["hash"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a split file: {error!r}") from None
    if stored != split.hash:
        raise ValueError(f"{path} was edited: its parts hash to {split.hash}, its hash is {stored}")
    return split


def _split_of(parts: Sequence[list[str]], protocol: str, seed: int, contents: Mapping[str, str]) -> Split:
    generator, train, val, test = (tuple(sorted(part)) for part in parts)
    return Split(generator, train, val, test, protocol, seed, contents)


def merge(groups: Iterable[Iterable[str]]) -> list[tuple[str, ...]]:
    """Merge groups that share an id; groups and their ids are sorted."""
    groups = [list(group) for group in groups]
    united = DisjointSet(id for group in groups for id in group)
    for first, *others in groups:
        for id in others:
            united.merge(first, id)
    return sorted(tuple(sorted(ids)) for ids in united.subsets())


def units_of(contents: Mapping[str, str], groups: Groups) -> list[tuple[str, ...]]:
    """The units that stay together: images of equal content, and groups."""
    same: dict[str, list[str]] = {}
    for id, content in contents.items():
        same.setdefault(content, []).append(id)
    present = [tuple(id for id in group if id in contents) for group in groups]
    return merge([*same.values(), *(group for group in present if group)])


def _fill(units: Groups, seed: int, sizes: tuple[int, ...]) -> list[list[str]]:
    remaining = [units[i] for i in np.random.default_rng([seed, 0]).permutation(len(units))]
    parts: list[list[str]] = []
    for count in _counts(sum(map(len, units)), sizes):
        part: list[str] = []
        rest = []
        for unit in remaining:
            if len(part) + len(unit) <= count:
                part += unit
            else:
                rest.append(unit)
        if rest and not part:  # a part smaller than every group takes the smallest group
            part = list(rest.pop(min(range(len(rest)), key=lambda i: len(rest[i]))))
        parts.append(part)
        remaining = rest
    parts[0] += [id for unit in remaining for id in unit]
    if not all(parts):
        raise ValueError(
            f"{sum(map(len, units))} images in {len(units)} groups, the largest of {max(map(len, units))}, "
            f"cannot fill parts in the proportions {tuple(sizes)}; no group may be torn apart"
        )
    return parts


def _official(
    contents: Mapping[str, str], place: Mapping[str, str], seed: int, sizes: tuple[int, ...]
) -> list[list[str]]:
    own = {name: {id for id in contents if place[id] == name} for name in ("training", "validation", "test")}
    empty = [name for name in ("validation", "test") if not own[name]]
    if empty:
        raise ValueError(f"data.split.protocol=official needs the folders of {' and '.join(empty)}; there are none")
    folder_of: dict[str, str] = {}
    for id, content in sorted(contents.items()):
        if folder_of.setdefault(content, place[id]) != place[id]:
            raise ValueError(f"{id} of the {place[id]} folder is the same file as one in {folder_of[content]}")
    shared = _fill(units_of({id: contents[id] for id in own["training"]}, ()), seed, tuple(sizes[:2]))
    return [*shared, list(own["validation"]), list(own["test"])]


def _counts(num_images: int, sizes: tuple[int, ...]) -> list[int]:
    if num_images < MIN_IMAGES:
        raise ValueError(f"{num_images} images are too few to split in four; at least {MIN_IMAGES} are needed")
    if num_images >= sum(sizes):
        return [num_images - sum(sizes[1:]), *sizes[1:]]
    share = num_images / sum(sizes)
    counts = [1] * len(sizes)
    while sum(counts) < num_images:
        deficits = [size * share - count for size, count in zip(sizes, counts, strict=True)]
        counts[int(np.argmax(deficits))] += 1
    return counts
