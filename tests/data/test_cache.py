from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermprompt.data.cache import build_cache, load_cache, read_findings
from dermprompt.data.datasets.phantom import write_phantom
from dermprompt.data.index import Index, read_index
from dermprompt.data.reading import PLAIN, Reading

IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_phantom(tmp_path / "root", 4, 32, seed=0)
    return tmp_path / "root"


@pytest.fixture
def index(root: Path) -> Index:
    return read_index("isic", root, root)


def build(index: Index, folder: Path, size: int = 16, reading: Reading = PLAIN) -> str:
    """Build a cache beside its libraries, as a store has them."""
    folder.mkdir(parents=True)
    return build_cache(index, size, reading, folder.parent / "pictures", folder, lambda _: None)


def test_ids_in_the_order_asked_for(index: Index, tmp_path: Path) -> None:
    build(index, tmp_path / "cache")
    ids = [one.id for one in index.lesions]
    whole, some = load_cache(tmp_path / "cache", ids), load_cache(tmp_path / "cache", [ids[3], ids[0]])
    assert some.ids == (ids[3], ids[0])
    np.testing.assert_array_equal(some.images[:], whole.images[[3, 0]])
    np.testing.assert_array_equal(some.masks[:], whole.masks[[3, 0]])
    assert load_cache(tmp_path / "cache", []).images.shape == (0, 16, 16, 3)
    with pytest.raises(ValueError, match=r"id7 not among the 4 pictures"):
        load_cache(tmp_path / "cache", ["id7"])


def test_digest_is_of_content_whatever_the_row(index: Index, root: Path, tmp_path: Path) -> None:
    first = build(index, tmp_path / "a" / "cache")
    # Another library, where a pair that came first takes the first row.
    build(replace(index, lesions=index.lesions[2:]), tmp_path / "b" / "other")
    assert build(index, tmp_path / "b" / "cache") == first
    assert build(index, tmp_path / "b" / "larger", size=32) != first
    (root / IMAGES / "ISIC_0000001.jpg").write_bytes((root / IMAGES / "ISIC_0000000.jpg").read_bytes())
    assert build(read_index("isic", root, root), tmp_path / "b" / "changed") != first


def test_damaged_pixels_are_noticed_when_they_are_opened(index: Index, tmp_path: Path) -> None:
    build(index, tmp_path / "cache")
    path = next((tmp_path / "pictures").glob("*/masks.bin"))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    ids = [one.id for one in index.lesions]
    load_cache(tmp_path / "cache", ids[:3])
    with pytest.raises(ValueError, match=rf"cached pixels of {ids[3]} were damaged; delete .*pictures"):
        load_cache(tmp_path / "cache", ids)


def test_a_bad_pair_is_a_finding_and_not_in_the_cache(index: Index, root: Path, tmp_path: Path) -> None:
    (root / MASKS / "ISIC_0000002_segmentation.png").write_bytes(b"")
    build(read_index("isic", root, root), tmp_path / "cache")
    (finding,) = read_findings(tmp_path / "cache")
    assert (finding.verdict, finding.what, finding.id, finding.bad) == (
        "unreadable",
        "ISIC_0000002_segmentation.png",
        "ISIC_0000002",
        True,
    )
    with pytest.raises(ValueError, match="ISIC_0000002 not among the 3 pictures"):
        load_cache(tmp_path / "cache", ["ISIC_0000002"])
