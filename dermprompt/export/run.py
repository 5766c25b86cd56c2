"""Exports for other programs: an arm, its samples, or its generator, each with a card."""

from __future__ import annotations

from pathlib import Path

from dermprompt.export.generator import export_generator
from dermprompt.export.nnunet import export_nnunet
from dermprompt.export.place import export_folder, replacing
from dermprompt.export.samples import export_imagefolder, export_isic
from dermprompt.pipeline import Pipeline


def export(pipeline: Pipeline, folder: Path) -> Path:
    """Write what ``config.export`` names below the run folder, and return where.

    Raises:
        ValueError: samples that copy an image of G, unless ``synthesis.export_copies`` allows them; or something is
            there that no export wrote.
    """
    writers = {
        "nnunet": export_nnunet,
        "imagefolder": export_imagefolder,
        "isic": export_isic,
        "generator": export_generator,
    }
    place = export_folder(pipeline.config, folder)
    with replacing(place) as root:
        writers[pipeline.config.export](pipeline, root)
    return place
