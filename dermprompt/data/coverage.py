"""The coverage report: what the data hold, what the label sources cover, what was odd, and the split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dermprompt.data.findings import ACCEPTED, BAD, Finding, listed
from dermprompt.data.index import Index
from dermprompt.data.split import PARTS, Split
from dermprompt.lesion import Lesion

# Entries of each kind in the text; coverage.json lists all.
SHOWN = 10


def coverage(
    lesions: Sequence[Lesion],
    split: Split,
    index: Index,
    findings: Sequence[Finding],
    pool: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compile the report, as plain values.

    ``lesions`` are those in use; ``pool``: the ids of its ``images``, and those ``left_out`` by reason. In the report,
    ``with_attributes`` counts those whose attributes are known, even if all are absent; ``several_images`` has each
    lesion or patient with several images, and the part of each image.
    """
    diagnoses = Counter(one.diagnosis for one in lesions if one.diagnosis is not None)
    attributes = Counter(name for one in lesions for name in one.attributes or ())
    return {
        "images": index.num_images,
        "masks": index.num_masks,
        "pairs": len(lesions),
        "diagnosis": dict(diagnoses.most_common()),
        "unknown_diagnosis": len(lesions) - diagnoses.total(),
        "attributes": dict(sorted(attributes.items())),
        "with_attributes": sum(one.attributes is not None for one in lesions),
        "sources": [asdict(one) for one in index.coverages],
        "findings": [{**asdict(one), "bad": one.bad} for one in findings],
        "skipped": sorted({one.id for one in findings if one.bad and one.id is not None}),
        "protocol": split.protocol,
        "seed": split.seed,
        "split": {part: len(getattr(split, part)) for part in PARTS},
        "unused_parts": _unused_parts(index, split),
        "folders": _folders(index),
        "several_images": _several_images(lesions, split),
        **({} if pool is None else {"pool": pool}),
    }


def digest_for_page(report: dict[str, Any]) -> dict[str, Any]:
    """The report's counts, short enough for a results page."""
    kept = ("images", "masks", "pairs", "diagnosis", "unknown_diagnosis", "attributes", "with_attributes")
    labelled = {one["source"]: len(one["matched"]) for one in report["sources"]}
    verdicts = dict(Counter(one["verdict"] for one in report["findings"]).most_common())
    counts = {"labelled by": labelled, "odd files": verdicts, "skipped": len(report["skipped"])}
    torn = {"lesions of several images": len(report["several_images"]), "torn apart": len(_torn(report))}
    pool = {"pool without masks": len(report["pool"]["images"])} if "pool" in report else {}
    return {key: report[key] for key in (*kept, "protocol", "split")} | counts | torn | pool


def format_coverage(report: dict[str, Any]) -> str:
    """The report as fixed-width text."""
    lines = [f"{report['images']:,} images, {report['masks']:,} masks, {report['pairs']:,} pairs in use", ""]
    lines[1:1] = [f"{kind:12}{places}" for kind, places in report["folders"].items()]
    lines += _format_sources(report["sources"])
    counts = {**report["diagnosis"], "unknown": report["unknown_diagnosis"]}
    lines += ["", "diagnosis   " + _counted({name: n for name, n in counts.items() if n})]
    with_attributes = f" (known of {report['with_attributes']:,})"
    lines.append("attributes  " + _counted(report["attributes"]) + with_attributes)
    lines.append(f"split       {report['protocol']}, seed {report['seed']}: " + _counted(report["split"]))
    lines += [
        f"            {number:,} images of the {part} folder are not used; data/split=official uses them"
        for part, number in report["unused_parts"].items()
    ]
    lines += _format_several(report)
    if "pool" in report:
        lines += _format_pool(**report["pool"])
    lines += ["", *_format_findings(report["findings"])]
    return "\n".join(lines)


def _several_images(lesions: Sequence[Lesion], split: Split) -> dict[str, dict[str, str]]:
    part_of = split.part_of()
    groups: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one in lesions:
        for group in (one.lesion_id, one.patient_id):
            if group is not None and one.id in part_of:
                groups[group][one.id] = part_of[one.id]
    return {lesion: images for lesion, images in sorted(groups.items()) if len(images) > 1}


def _unused_parts(index: Index, split: Split) -> dict[str, int]:
    """How many images of the validation and test folders the split leaves out, by part."""
    used = split.part_of()
    return dict(Counter(one.part for one in index.lesions if one.part != "training" and one.id not in used))


def _folders(index: Index) -> dict[str, str]:
    """The folders in which images and masks were found, with counts."""
    places = {"images from": Counter(one.image.parent.name for one in index.lesions)}
    places["masks from"] = Counter(one.mask.parent.name for one in index.lesions if one.mask is not None)
    return {kind: listed(f"{name}/ {number:,}" for name, number in found.items()) for kind, found in places.items()}


def _torn(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {id: images for id, images in report["several_images"].items() if len(set(images.values())) > 1}


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or "none"


def _format_sources(sources: list[dict[str, Any]]) -> list[str]:
    if not sources:
        return ["no label files"]
    width = max(len(one["source"]) for one in sources)
    lines = [f"{'label source':{width}}     rows  matched  unmatched  conflicting  rows without image"]
    for one in sources:
        numbers = (len(one["matched"]), len(one["unmatched"]), len(one["conflicting"]), one["num_foreign"])
        lines.append(
            "{0:{width}} {1:8,} {2:8,} {3:10,} {4:12,} {5:19,}".format(
                one["source"], one["num_rows"], *numbers, width=width
            )
        )
    return lines


def _format_several(report: dict[str, Any]) -> list[str]:
    torn, several = _torn(report), report["several_images"]
    lines = [
        f"            {len(several)} lesions or persons have several images; {len(torn)} lie in more than one part"
    ]
    named = {**torn, **several}
    lines += [
        f"              {group}: " + listed(f"{id} in {part}" for id, part in named[group].items())
        for group in list(named)[:SHOWN]
    ]
    return lines + _rest(len(named), 14)


def _format_pool(images: list[str], left_out: dict[str, list[str]]) -> list[str]:
    lines = [
        f"pool        {len(images):,} images without a mask, from which the base learns besides G (only "
        "generator/base=scratch, only in an open world)"
    ]
    return lines + [f"            {len(ids):,} left out: {why}" for why, ids in left_out.items() if ids]


def _rest(number: int, indent: int) -> list[str]:
    """A line that says how many entries there are, if not all are shown."""
    return [f"{' ' * indent}… ({number:,} in all, which coverage.json lists)"] if number > SHOWN else []


def _format_findings(findings: list[dict[str, Any]]) -> list[str]:
    if not findings:
        return ["nothing odd in the files"]
    lines = []
    for verdict, meaning in (BAD | ACCEPTED).items():
        found = [one for one in findings if one["verdict"] == verdict]
        if found:
            fate = "left out" if verdict in BAD else "accepted"
            lines.append(f"{verdict}: {len(found)}, {fate} ({meaning})")
            lines += [f"  {one['what']}" + (f": {one['detail']}" if one["detail"] else "") for one in found[:SHOWN]]
            lines += _rest(len(found), 2)
    return lines
