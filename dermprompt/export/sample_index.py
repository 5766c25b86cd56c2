"""The first N samples as rows of the index, with the paths of their files in the store or in an export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dermprompt.config.generators import Sampler
from dermprompt.config.schema import take
from dermprompt.files import read_json, sha256
from dermprompt.pipeline import Pipeline
from dermprompt.synthesis.index import index_row, write_index
from dermprompt.synthesis.samples import image_path, mask_path, read_records


def sample_rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    """One row per sample: provenance, sampler, distance to G, curation decision, and the paths of its files."""
    config, root, curated = pipeline.config, pipeline.samples.path, pipeline.curated
    distances = read_json(pipeline.memorised.path / "nearest.json")["distances"]
    rows = read_records(root, config.synthesis.count)
    used = [{"decision": "keep", "score": ""}] * len(rows)
    decided = read_json(curated.path / "decisions.json")["rows"] if curated else used
    sampling = asdict(take(Sampler, config.generator)) if isinstance(config.generator, Sampler) else {}
    return [
        index_row(
            row,
            str(image_path(root, row.id)),
            str(mask_path(root, row.id)),
            **sampling,
            distance=distance,
            decision=found["decision"],
            score=found["score"],
        )
        for row, distance, found in zip(rows, distances, decided, strict=True)
    ]


def write_sample_index(pipeline: Pipeline, path: Path) -> None:
    """Write ``samples.csv`` of a run."""
    write_index(path, sample_rows(pipeline))


def placed(row: dict[str, Any], root: Path, image: Path, mask: Path) -> dict[str, Any]:
    """A row with the paths and hashes of its files below the root of an export."""
    files = {"image": image, "mask": mask}
    names = {key: path.relative_to(root).as_posix() for key, path in files.items()}
    sums = {f"{key}_sha256": sha256(path) for key, path in files.items()}
    return {**row, **names, **sums}
