"""What users keep: the command that reproduces an image, and sets of images as labelled data sets."""

from __future__ import annotations

import io
import re
import shlex
import tempfile
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import dermprompt
from dermprompt.config.generators import Sampler
from dermprompt.config.schema import Config
from dermprompt.export.cards import DatasetFacts, dataset_card
from dermprompt.export.sample_index import placed
from dermprompt.studio.asked import Drawing
from dermprompt.studio.desk import Desk
from dermprompt.studio.offers import Offer, overrides
from dermprompt.synthesis.index import index_row, write_index
from dermprompt.synthesis.samples import Condition, image_path, mask_path, read_all_records, write_batch

_LAYOUT = (
    "Images that were chosen one by one in the studio. Images and masks are in two folders with ISIC's names, "
    "which `generator=folder` and `data=isic` read; `samples.csv` says where each came from."
)


def command(offer: Offer, asked: Drawing, sampler: Sampler | None, mask: Path, config: Config) -> str:
    """The command line that reproduces an image, byte for byte, as its first sample."""
    words = ["+experiment=studio", "stage=synthesize", *overrides(offer), "masks=folder", f"masks.path={mask}"]
    words += _prompt(asked, offer)
    words += [f"generator.{key}={value}" for key, value in (asdict(sampler) if sampler else {}).items()]
    words += [f"seed={asked.seed}", f"synthesis.precision={config.synthesis.precision}"]
    return "python -m dermprompt " + shlex.join(words)


def _prompt(asked: Drawing, offer: Offer) -> list[str]:
    """The overrides for the prompt, quoted where Hydra's grammar requires it."""
    if offer.template is None:
        return []
    if asked.text is not None and asked.text.strip():
        return ["prompts=fixed", "prompts.template=verbatim", f"prompts.diagnosis={_quoted(asked.text.strip())}"]
    if asked.text is not None or (asked.diagnosis is None and asked.attributes is None):
        return ["prompts=empty"]
    named = "null" if asked.diagnosis is None else _quoted(asked.diagnosis)
    attributes = ",".join(_quoted(one) for one in asked.attributes or ())
    words = ["prompts=fixed", f"prompts.template={offer.template}", f"prompts.diagnosis={named}"]
    return [*words, f"prompts.attributes=[{attributes}]"]


def _quoted(text: str) -> str:
    """A text quoted and escaped so that Hydra's grammar and OmegaConf's interpolations leave it unchanged."""
    if re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+)*", text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    plain_text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", plain_text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def write_set(desk: Desk, ids: list[str]) -> bytes:
    """A zip of images with their masks, an index and a card. Raises Unknown for an image that is not here."""
    records = [desk.record(id) for id in ids]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "studio_set"
        root.mkdir()
        rows = _write_pairs(desk, records, root)
        write_index(root / "samples.csv", rows)
        (root / "README.md").write_text(dataset_card(_facts(records), rows))
        return _zipped(root)


def _write_pairs(desk: Desk, records: list[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """Write images and masks as a synthetic set with one image per batch; return the rows of the index."""
    rows = []
    (root / "batches").mkdir()
    for index, record in enumerate(records):
        drawing = record["drawing"]
        image = np.asarray(cv2.imread(str(desk.picture_file(record["id"], ".png")), cv2.IMREAD_COLOR_RGB))
        attributes = drawing.get("attributes")
        labels = (drawing.get("diagnosis"), None if attributes is None else tuple(attributes))
        condition = Condition(
            desk.load_mask(drawing["mask"]), f"painted/{drawing['mask']}", None, record["prompt"], *labels
        )
        batch = [(index, record["sample_seed"], condition, image)]
        write_batch(root, root / "batches" / f"{index:05d}.json", batch, record["maker"])
    for sample, record in zip(read_all_records(root), records, strict=True):
        image_file, mask_file = image_path(root, sample.id), mask_path(root, sample.id)
        sampler = {one.name: record["drawing"].get(one.name) for one in fields(Sampler)}
        distance = (record.get("trust") or {}).get("copy", {}).get("distance")
        row = index_row(
            sample, str(image_file), str(mask_file), **sampler, distance=distance, decision="keep", score=""
        )
        rows.append(placed(row, root, image_file, mask_file))
    return rows


def _facts(records: list[dict[str, Any]]) -> DatasetFacts:
    made = {one["generator"]["digest"]: f"{one['generator']['title']}, {one['size']} pixels" for one in records}
    return DatasetFacts(
        title="A set from the studio",
        layout=_LAYOUT,
        counts={"synthetic images": len(records)},
        made_from={**{f"generator {key}": value for key, value in made.items()}, "dermprompt": dermprompt.__version__},
        licences={},
    )


def _zipped(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root.parent))
    return buffer.getvalue()
