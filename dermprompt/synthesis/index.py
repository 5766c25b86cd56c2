"""The index of a synthetic set: a row per sample, as CSV (UTF-8, RFC 4180); an empty cell means unknown or unused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dermprompt.files import write_csv
from dermprompt.synthesis.samples import Sample

# Every column, and what it contains.
COLUMNS = {
    "image": "the image's file",
    "mask": "the mask's file",
    "id": "the sample's name; its number is the sample's index",
    "prompt": "the text that it was drawn from; empty for none",
    "diagnosis": "the diagnosis that was asked for",
    "attributes": "the attributes that were asked for, separated by semicolons; `none` for none of them",
    "mask_id": "the set of masks and the mask's number in it, or the mask's name in its data set",
    "source_mask_id": "the image whose mask was transformed into this one",
    "seed": "of the sample's noise",
    "generator": "the trained generator: its kind, and a hash of its settings, data and base",
    "sampler": "ddim, dpm (DPM-Solver++) or unipc; empty for a generator that draws in one pass",
    "num_steps": "of the sampler",
    "guidance_scale": "weight of classifier-free guidance; 1 is none",
    "conditioning_scale": "weight of the control copy's residuals",
    "guidance_start": "the share of the steps after which guidance begins",
    "guidance_end": "the share of the steps after which it ends",
    "cache_interval": "the control copy and the U-Net's deep levels ran at every n-th step, n being this number",
    "eta": "share of fresh noise at every step; 0 is none",
    "image_sha256": "of the image's file",
    "mask_sha256": "of the mask's file",
    "distance": "to the nearest image that the generator has seen, or of the study where that is not known",
    "decision": "of the curation: keep, relabel (a reference segmenter's mask takes the mask's place) or drop",
    "score": "what the curation decided by",
}


def index_row(sample: Sample, image: str, mask: str, **more: Any) -> dict[str, Any]:
    """A row: the sample's provenance, its files, and more values of :data:`COLUMNS`."""
    row = {"image": image, "mask": mask, **asdict(sample), **more}
    if sample.attributes is not None:
        row["attributes"] = ";".join(sample.attributes) or "none"
    return row


def write_index(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows from :func:`index_row`."""
    write_table(path, list(COLUMNS), rows)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV; a text that a spreadsheet would interpret as a formula gets a leading apostrophe."""
    write_csv(path, columns, ({key: _defused(value) for key, value in row.items()} for row in rows), end="\r\n")


def _defused(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
