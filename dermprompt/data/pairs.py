"""Pairs images with masks by file name alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dermprompt.data.findings import Finding, listed
from dermprompt.data.folders import Picture, fold
from dermprompt.files import sha256
from dermprompt.lesion import Lesion

# What a mask's name may add to its image's, in the order in which the suffixes are tried.
SUFFIXES = ("", "_segmentation", "_mask", "-mask", "_label", "_GT")


@dataclass(frozen=True)
class Files:
    """All files of a data set, found by their names.

    ``suffixes``: of masks' names; the first is the usual one. ``together``: images and masks share a folder, and
    ``masks`` lists all its files. ``unlabelled``: images without a mask are expected.
    """

    images: tuple[Picture, ...]
    masks: tuple[Picture, ...]
    labels: tuple[Path, ...]
    suffixes: tuple[str, ...] = SUFFIXES
    together: bool = False
    unlabelled: bool = False
    findings: tuple[Finding, ...] = ()


def pair(files: Files, suffix: str | None = None, pool: bool = False) -> tuple[list[Lesion], list[Finding]]:
    """One lesion for each id with one image and one mask, sorted by id; ids are matched ignoring case.

    A mask has its image's name plus ``suffix`` or, if None, one of ``files.suffixes``, tried from the most to the least
    frequent; the id is the image's. An id without an image or a mask, or with several different ones, is bad; files of
    equal content count once. With ``pool``, an image without a mask is expected, and a lesion without one.
    """
    images, masks, findings = _told_apart(files, suffix)
    lesions: list[Lesion] = []
    alone: list[Picture] = []
    for key in sorted(images.keys() | masks.keys()):
        own = [_once(images[key], findings), _once(masks[key], findings)]
        problem = _problem(*own)
        if problem is not None and problem.verdict == "no_mask" and (files.unlabelled or pool):
            alone += own[0]
        elif problem is not None:
            findings.append(problem)
        else:
            (image,), (mask,) = own
            if image.id != mask.id:
                findings.append(Finding("id_case", mask.path.name, f"taken for {image.id}"))
            lesions.append(Lesion(image.id, image.path, mask.path, part=image.part))
    if pool:
        lesions += [Lesion(one.id, one.path, None, part=one.part) for one in alone]
    if alone:
        findings.append(Finding("unlabelled", f"{len(alone)} images", listed(one.path.name for one in alone)))
    return sorted(lesions, key=lambda one: one.id), [*files.findings, *findings]


Groups = defaultdict[str, list[Picture]]


def _told_apart(files: Files, given: str | None) -> tuple[Groups, Groups, list[Finding]]:
    """Images and masks by id; in a shared folder, a file whose name marks it as a mask is not an image."""
    tried = files.suffixes if given is None else (given,)
    tried = tuple(one for one in tried if one or not files.together)
    ids = {fold(one.id) for one in files.images}
    pairing = {end: sum(_without(one.id, end, ids) is not None for one in files.masks) for end in tried}
    order = sorted(tried, key=lambda end: -pairing[end])
    masks, ends = [], Counter[str]()
    for one in files.masks:
        end = next((end for end in order if _without(one.id, end, ids) is not None), None)
        if end is not None:
            masks.append(replace(one, id=one.id[: len(one.id) - len(end)]))
            ends[end] += 1
        elif not files.together:
            masks.append(replace(one, id=_stripped(one.id, order[0])))
    taken = {one.path for one in masks} if files.together else set()
    images = [one for one in files.images if one.path not in taken]
    said = [] if set(ends) <= {files.suffixes[0]} else [_say(ends)]
    return _by_id(images), _by_id(masks), said


def _without(stem: str, end: str, ids: set[str]) -> str | None:
    """The id of the image whose mask has this stem, given the suffix ``end``; None if there is none."""
    id = fold(_stripped(stem, end))
    return id if fold(stem) == id + fold(end) and id in ids else None


def _stripped(stem: str, end: str) -> str:
    return stem[: len(stem) - len(end)] if stem.casefold().endswith(end.casefold()) else stem


def _say(ends: Counter[str]) -> Finding:
    counts = (f"{number} masks are called ID{end}" for end, number in ends.most_common())
    return Finding("mask_suffix", "masks", f"{', '.join(counts)}; data.mask_suffix sets it")


def _by_id(pictures: Iterable[Picture]) -> Groups:
    groups: Groups = defaultdict(list)
    for one in pictures:
        groups[fold(one.id)].append(one)
    return groups


def _once(several: list[Picture], findings: list[Finding]) -> list[Picture]:
    """The first of several files of equal content; all of them if contents differ."""
    if len(several) < 2 or any(one.problem for one in several) or len({sha256(one.path) for one in several}) > 1:
        return several
    findings.append(Finding("repeated_file", several[0].path.name, _named(several)))
    return several[:1]


def _problem(images: Sequence[Picture], masks: Sequence[Picture]) -> Finding | None:
    id = (images or masks)[0].id
    for several in (images, masks):
        if len(several) > 1:
            return Finding("duplicate_id", id, _named(several), id)
    for one in (*images, *masks):
        if one.problem is not None:
            return Finding(one.problem[0], one.path.name, one.problem[1], id if images else None)
    if not masks:
        return Finding("no_mask", images[0].path.name, id=id)
    if not images:
        return Finding("no_image", masks[0].path.name)
    return None


def _named(several: Sequence[Picture]) -> str:
    """The files' names, with their folders if the names alone are ambiguous."""
    names = [one.path.name for one in several]
    if len(set(names)) < len(names):
        names = [f"{one.path.parent.name}/{one.path.name}" for one in several]
    return " and ".join(names)
