"""Which file of near-duplicate clusters is meant."""

from __future__ import annotations

from pathlib import Path

SHIPPED = {"isic2018": Path(__file__).with_name("isic2018_clusters.json")}


def clusters_path(name: str) -> Path:
    """The file of a name in ``SHIPPED``, or of a path."""
    return SHIPPED.get(name, Path(name).expanduser())
