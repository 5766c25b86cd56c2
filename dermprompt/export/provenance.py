"""What an export was made from, for its card; also copies the source's licence files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dermprompt
from dermprompt.config.generators import FolderSamples
from dermprompt.data.licences import find_licences, first_line
from dermprompt.export.cards import DatasetFacts, dataset_card
from dermprompt.files import read_json, write_bytes
from dermprompt.pipeline import Pipeline
from dermprompt.stages.arrays import num_held_out
from dermprompt.stages.prepare import load_generator_set, load_pool


def write_dataset_card(
    pipeline: Pipeline, root: Path, rows: Sequence[Mapping[str, Any]], layout: str, real: Mapping[str, int]
) -> None:
    """Write ``README.md`` and ``licences/``. ``rows``: of the index; ``real``: how many real images are included."""
    config = pipeline.config
    decided = [row["decision"] for row in rows]
    counts = {"synthetic images": len(rows), "of them with a reference segmenter's mask": decided.count("relabel")}
    counts["samples that the curation left out"] = config.synthesis.count - len(rows)
    facts = DatasetFacts(
        title=f"{config.name}: {pipeline.rules.name}, {config.generator.name}",
        layout=layout,
        counts={**counts, **real},
        made_from=(_drawn_from(pipeline) if rows else {}) | source_facts(pipeline),
        licences=carry_licences(pipeline, root),
        from_elsewhere=isinstance(config.generator, FolderSamples),
    )
    write_bytes(root / "README.md", dataset_card(facts, rows).encode())


def source_facts(pipeline: Pipeline) -> dict[str, str]:
    """The data set with its digest and split, and the program's version."""
    config, split = pipeline.config, read_json(pipeline.prepared.path / "split.json")["parts"]
    parts = ", ".join(f"{name} {len(ids)}" for name, ids in split.items())
    rules = config.data.split
    return {
        "data": f"{config.data.name}, index {pipeline.indexed.digest}",
        "split": f"{rules.protocol}, seed {rules.seed}, {pipeline.prepared.digest}: {parts}",
        "program": f"dermprompt {dermprompt.__version__}",
    }


def generator_facts(pipeline: Pipeline) -> dict[str, str]:
    """The trained generator with its digest and settings, and its base."""
    config, base = pipeline.config, pipeline.base
    known = len(load_generator_set(pipeline.generator_set.path))
    number = known - num_held_out(config.generator.validation.num_images, known)
    facts = {
        "generator": pipeline.generator.path.name,
        "settings": _own_settings(pipeline),
        "trained on": f"{number} images, {pipeline.rules.world} world, seed {config.seed}",
    }
    if base is not None:
        facts["words of its prompts"] = f"template {config.prompts.template}, dropout {config.prompts.dropout}"
        facts["base"] = f"{config.generator.base.name}, {base.digest}"
        if pipeline.base_pool:
            number = len(load_pool(pipeline.base_pool["pool"].path))
            facts["the base also trained on"] = f"{number} images without a mask"
        facts["settings of the base"] = settings_text(asdict(config.generator.base))
    return facts


def _own_settings(pipeline: Pipeline) -> str:
    """The generator's settings without its base's."""
    return settings_text({key: value for key, value in asdict(pipeline.config.generator).items() if key != "base"})


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings on one line; files and folders only by name, because a card is public and paths are private."""
    shown = {key: Path(value).name if _is_local(value) else value for key, value in settings.items()}
    return json.dumps(shown)


def carry_licences(pipeline: Pipeline, root: Path) -> dict[str, str]:
    """Copy the source's licence files; return their first lines by their paths below ``root``."""
    found = {}
    for number, path in enumerate(find_licences(_source_folders(pipeline))):
        (root / "licences").mkdir(exist_ok=True)
        copy = root / "licences" / f"{number}-{path.name}"
        shutil.copyfile(path, copy)
        found[copy.relative_to(root).as_posix()] = first_line(path)
    return found


def _drawn_from(pipeline: Pipeline) -> dict[str, str]:
    """The generator, and masks, prompts and curation if they affect its samples."""
    config, kind = pipeline.config, pipeline.config.generator
    facts = generator_facts(pipeline) if kind.is_trained else {"generator": _own_settings(pipeline)}
    if kind.is_drawn_from:
        facts["masks"] = settings_text(asdict(config.masks))
    if kind.has_text:
        facts["prompts"] = settings_text(asdict(config.prompts))
    facts["synthesis"] = f"{pipeline.samples.path.name}, seed {config.seed}, {config.image_size} pixels"
    if config.curation.name != "none":
        facts["curation"] = settings_text(asdict(config.curation))
    return facts


def _source_folders(pipeline: Pipeline) -> list[Path]:
    """The folders that images and labels came from; none for a phantom, which was painted here."""
    config = pipeline.config
    given = [config.data.root, config.data.labels]
    if isinstance(config.generator, FolderSamples):
        given.append(config.generator.path)
    folders = [Path(path).expanduser() for path in given if path]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _is_local(value: Any) -> bool:
    return isinstance(value, str) and Path(value).expanduser().is_absolute()
