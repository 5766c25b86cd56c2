"""Exports for other programs: an arm, its samples, or its generator, each with a card."""

from __future__ import annotations

from pathlib import Path

from dermprompt.export.generator import export_generator
from dermprompt.export.nnunet import export_nnunet
from dermprompt.export.place import export_folder, replacing
from dermprompt.export.samples import export_imagefolder, export_isic
from dermprompt.pipeline import Pipeline


def export(pipeline: Pipeline, folder: Path) -> Path:
    """Write the export that ``config.export`` names below the run folder; return its folder.

    Raises:
        ValueError: samples are copies of images of G, and ``synthesis.export_copies`` does not allow them; or the
            folder holds something that no export wrote.
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
