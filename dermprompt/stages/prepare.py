"""Data preparation: index, decoded images, near-duplicates, split, coverage and the generators' training set."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from dermprompt.data.cache import PICTURES, build_cache, load_cache, read_findings
from dermprompt.data.clusters import load_clusters, save_clusters
from dermprompt.data.coverage import coverage, format_coverage
from dermprompt.data.datasets.phantom import IMAGES, write_phantom
from dermprompt.data.findings import Finding, check_findings
from dermprompt.data.index import Index, load_index, read_index, read_lesions
from dermprompt.data.split import Split, draw_split, load_split, rotate, subset, units_of
from dermprompt.distributed.processes import Runtime
from dermprompt.files import json_array, read_json, sha256, write_bytes, write_json, write_pieces
from dermprompt.lesion import Lesion
from dermprompt.stages.settings import (
    CachePictures,
    IndexData,
    ListGeneratorSet,
    Nothing,
    PaintPhantom,
    SplitData,
    Usable,
)
from dermprompt.store.artifacts import makes, read_recipe


@makes(IMAGES)
def paint_phantom(settings: PaintPhantom, runtime: Runtime, folder: Path) -> None:
    """Paint a data set in ISIC's layout."""
    # Start afresh: files of an interrupted run may be incomplete.
    shutil.rmtree(folder)
    folder.mkdir()
    write_phantom(folder, settings.num_images, settings.size, settings.seed)


@makes("index.json")
def index_data(settings: IndexData, runtime: Runtime, files: Path, folder: Path) -> str:
    """Write ``index.json``: names, labels and content hashes of the ``files``; the digest covers all three."""
    labels = Path(settings.labels) if settings.labels else files
    reading = (settings.on_conflict, settings.mask_suffix, settings.without_mask)
    index = read_index(settings.name, files, labels, *reading)
    index.save(folder / "index.json")
    return index.digest


@makes(PICTURES)
def cache_pictures(settings: CachePictures, runtime: Runtime, indexed: Path, folder: Path) -> str:
    """Decode, check and resize all pairs not yet cached; the digest covers the pixels."""
    size, libraries = settings.size, folder.parents[1] / "pictures"
    index = load_index(indexed / "index.json")
    if settings.with_pool:
        index = dataclasses.replace(index, lesions=index.every)
    with tqdm(total=len(index.lesions), desc=f"   decode to {size} px", unit=" pairs", disable=None) as bar:
        return build_cache(index, size, settings, libraries, folder, bar.update)


@makes("clusters.json")
def find_near_duplicates(settings: Nothing, runtime: Runtime, indexed: Path, cache: Path, folder: Path) -> None:
    """Write ``clusters.json``, for ``data.clusters``."""
    # Slow to import, and needed by no other stage.
    from dermprompt.data.duplicates import MAX_HASH_DISTANCE, ORIENTATIONS, THRESHOLD, find_duplicates

    index = load_index(indexed / "index.json")
    bad = {one.id for one in read_findings(cache) if one.bad}
    pictures = load_cache(cache, [one.id for one in index.every if one.id not in bad])
    number = len(pictures.ids)
    with tqdm(total=number * len(ORIENTATIONS), desc="   near-duplicates", unit=" images", disable=None) as bar:
        pairs = find_duplicates(pictures.ids, pictures.images, bar.update)
    about = (
        f"Near-duplicates among {number} images, turned by quarters and mirrored ones included: perceptual hashes "
        f"at most {MAX_HASH_DISTANCE} of 64 bits apart, and fine structures that correlate by at least {THRESHOLD} "
        "once aligned."
    )
    save_clusters(folder / "clusters.json", pairs, about)


@makes("lesions.json", "split.json")
def split_data(
    settings: SplitData,
    runtime: Runtime,
    indexed: Path,
    cache: Path,
    folder: Path,
    file: Path | None = None,
    clusters: Path | None = None,
) -> str:
    """Write ``lesions.json`` and ``split.json``; the digest covers labels and split.

    ``file``: a given split; ``clusters``: near-duplicates.
    """
    index = load_index(indexed / "index.json")
    findings = [*index.findings, *read_findings(cache)]
    lesions = _good(settings, index, findings)
    for one in findings:
        if one.verdict == "few_matches":
            print(f"warning: {one}")
    groups, contents = _groups(lesions, clusters), {one.id: index.contents[one.id][0] for one in lesions}
    split = _split(settings, lesions, contents, groups, file)
    split.save(folder / "split.json")
    used = split.part_of()
    negatives = {one.id for one in findings if one.verdict == "negative"}
    lesions = [dataclasses.replace(one, negative=one.id in negatives) for one in lesions if one.id in used]
    _save_lesions(folder / "lesions.json", lesions)
    known = [[one.id, one.diagnosis, one.attributes, *(["negative"] if one.negative else [])] for one in lesions]
    return sha256(json.dumps([known, split.hash]))[:16]


def _save_lesions(path: Path, lesions: Iterable[Lesion]) -> None:
    write_pieces(path, (piece.encode() for piece in json_array(map(dataclasses.asdict, lesions))))


@makes("coverage.json", "coverage.txt")
def report_coverage(
    settings: Nothing,
    runtime: Runtime,
    indexed: Path,
    cache: Path,
    prepared: Path,
    folder: Path,
    pool: Path | None = None,
) -> None:
    """Write the coverage report, ``coverage.json`` and ``coverage.txt``."""
    index = load_index(indexed / "index.json")
    lesions, split = load_lesions(prepared)
    pooled = None
    if pool is not None:
        left_out = read_json(pool / "left_out.json", dict)
        pooled = {"images": [one.id for one in load_pool(pool)], "left_out": left_out}
    report = coverage(list(lesions.values()), split, index, [*index.findings, *read_findings(cache)], pooled)
    write_json(folder / "coverage.json", report)
    write_bytes(folder / "coverage.txt", (format_coverage(report) + "\n").encode())


def _good(usable: Usable, index: Index, findings: Sequence[Finding]) -> list[Lesion]:
    """The lesions without bad files; raises ValueError if bad files may not be skipped."""
    skipped = check_findings(findings, usable.on_bad, usable.max_bad_fraction, index.num_images)
    return [one for one in index.lesions if one.id not in skipped]


def usable_lesions(usable: Usable, indexed: Path, cache: Path) -> list[Lesion]:
    """All lesions of a data set that is not split, without bad ones.

    Raises:
        ValueError: bad files may not be skipped, or no lesion is left.
    """
    index = load_index(indexed / "index.json")
    lesions = _good(usable, index, [*index.findings, *read_findings(cache)])
    if not lesions:
        root = read_recipe(indexed).settings["root"]
        raise ValueError(f"no usable image with a mask in {root}")
    return lesions


def _split(
    settings: SplitData,
    lesions: list[Lesion],
    contents: dict[str, str],
    groups: list[tuple[str, ...]],
    file: Path | None,
) -> Split:
    """The split from a file, or one drawn as configured; rotated if a fold is set."""
    drawn = settings.split
    if file is not None:
        split = load_split(file)
        split.check(contents)
    else:
        folders = {one.id: one.part for one in lesions}
        sizes = tuple(drawn.sizes)
        split = draw_split(contents, drawn.protocol, drawn.seed, sizes, groups, folders)  # type: ignore[arg-type]
    return split if drawn.fold is None else rotate(split, drawn.fold, groups)


def _groups(lesions: list[Lesion], clusters: Path | None) -> list[tuple[str, ...]]:
    """Groups of ids that must stay together: images of one lesion or one patient, and near-duplicates."""
    same: dict[tuple[str, str], list[str]] = {}
    for one in lesions:
        for kind, group in (("lesion", one.lesion_id), ("patient", one.patient_id)):
            if group is not None:
                same.setdefault((kind, group), []).append(one.id)
    near = [] if clusters is None else load_clusters(clusters)
    return [*map(tuple, same.values()), *near]


@makes("known.json")
def list_generator_set(settings: ListGeneratorSet, runtime: Runtime, prepared: Path, folder: Path) -> str:
    """Write the lesions that generators, masks and prompts may see; the digest covers only these, not S.test.

    Images without a lesion are excluded.
    """
    lesions, split = load_lesions(prepared)
    ids = split.generator if settings.world == "open" else real_ids(split, "train", settings.num_real)
    known = [lesions[id] for id in ids if not lesions[id].negative]
    _save_lesions(folder / "known.json", known)
    return _digest(known, split.contents)


def _digest(lesions: Iterable[Lesion], contents: Mapping[str, str]) -> str:
    """Hash (16 hex digits) of what a training learns from; ``contents``: sha256 (hex) of the images by id."""
    return sha256(json.dumps([[one.id, one.diagnosis, one.attributes, contents[one.id]] for one in lesions]))[:16]


@makes("pool.json", "left_out.json")
def list_pool(
    settings: Usable,
    runtime: Runtime,
    indexed: Path,
    cache: Path,
    prepared: Path,
    folder: Path,
    clusters: Path | None = None,
) -> str:
    """Write ``pool.json``, the images without a mask that a base may see besides G, and ``left_out.json``, the others'
    ids by reason: no image, lesion or person is both in the pool and in S. The digest covers only the pool.

    Raises:
        ValueError: bad files may not be skipped.
    """
    index, (lesions, split) = load_index(indexed / "index.json"), load_lesions(prepared)
    findings = [*index.findings, *read_findings(cache)]
    skipped = check_findings(findings, settings.on_bad, settings.max_bad_fraction, index.num_images)
    alone = [one for one in index.pool if one.id not in skipped]
    contents = {**split.contents, **{one.id: index.contents[one.id][0] for one in alone}}
    units = units_of(contents, _groups([*lesions.values(), *alone], clusters))
    in_s = {*split.train, *split.val, *split.test}
    tied = {id for unit in units if not in_s.isdisjoint(unit) for id in unit}
    pool = [one for one in alone if one.id not in tied and one.part == "training"]
    left_out = {
        "of an image, lesion or person of S": [one.id for one in alone if one.id in tied],
        "of the validation or test folder": [one.id for one in alone if one.id not in tied and one.part != "training"],
    }
    _save_lesions(folder / "pool.json", pool)
    write_json(folder / "left_out.json", left_out)
    return _digest(pool, contents)


def load_pool(pool: Path) -> list[Lesion]:
    """The lesions that :func:`list_pool` wrote."""
    return read_lesions(pool / "pool.json")


def real_ids(split: Split, part: str, num_real: int | None) -> tuple[str, ...]:
    """The ids of a part; ``num_real`` limits S.train to that many, and S.val in proportion."""
    ids: tuple[str, ...] = getattr(split, part)
    if num_real is None or part not in ("train", "val"):
        return ids
    if num_real > len(split.train):
        raise ValueError(f"arm.num_real={num_real}: S.train has {len(split.train)} images")
    number = num_real if part == "train" else max(1, round(len(ids) * num_real / len(split.train)))
    return subset(ids, number, split.seed)


def load_generator_set(generator_set: Path) -> list[Lesion]:
    """The lesions that :func:`list_generator_set` wrote."""
    return read_lesions(generator_set / "known.json")


def load_lesions(prepared: Path) -> tuple[dict[str, Lesion], Split]:
    """The lesions in use by id, and the split."""
    return {one.id: one for one in read_lesions(prepared / "lesions.json")}, load_split(prepared / "split.json")
