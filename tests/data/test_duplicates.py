from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from real_data import REAL

from dermprompt.data import duplicates
from dermprompt.data.clusters import Duplicate, clusters_path, load_clusters, save_clusters
from dermprompt.data.datasets.phantom import make_phantom
from dermprompt.data.duplicates import ORIENTATIONS, find_duplicates, orient, perceptual_hash

# Found at 180 degrees, and one of them mirrored.
ORIENTED = {("ISIC_0000189", "ISIC_0015161"), ("ISIC_0000228", "ISIC_0014964"), ("ISIC_0015102", "ISIC_0015353")}

ORIGINALS = [make_phantom(0, index, 256).image for index in range(8)]


def recoloured(image: np.ndarray) -> np.ndarray:
    return (255 * (image / 255) ** np.array([0.8, 1.1, 1.4])).astype(np.uint8)


def turned_and_magnified(image: np.ndarray) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((128, 128), 4, 1.05)
    matrix[:, 2] += (3, -4)
    return cv2.warpAffine(image, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)


def photographed_again(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From elsewhere, in another light, a little blurred."""
    size = len(image)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-10, 10), rng.uniform(0.9, 1.15))
    matrix[:, 2] += rng.uniform(-0.09, 0.09, 2) * size
    matrix[:, :2] += rng.normal(0, 0.015, (2, 2))
    moved = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT) / 255
    lit = moved ** rng.uniform(0.75, 1.35) * rng.uniform(0.8, 1.2, 3)
    return (255 * cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.3, 1.2)).clip(0, 1)).astype(np.uint8)


def compressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)


@pytest.mark.parametrize("change", [recoloured, turned_and_magnified, compressed])
def test_a_second_photograph_is_found_among_others(change: Callable[[np.ndarray], np.ndarray]) -> None:
    ids = [*(f"id{i}" for i in range(8)), "again"]
    (pair,) = find_duplicates(ids, [*ORIGINALS, change(ORIGINALS[3])])
    assert (pair.first, pair.second) == ("again", "id3")
    assert pair.correlation > 0.6


@pytest.mark.parametrize(("turns", "mirrored"), ORIENTATIONS)
def test_a_turned_or_mirrored_photograph_is_found_with_its_orientation(turns: int, mirrored: bool) -> None:
    """``orient`` with the orientation that is found lays the second image over the first."""
    changed = recoloured(orient(ORIGINALS[3], turns, mirrored))
    (pair,) = find_duplicates(["again", *(f"id{i}" for i in range(8))], [changed, *ORIGINALS])
    assert (pair.first, pair.second) == ("again", "id3")
    assert (pair.turns, pair.mirrored) == (turns, mirrored)
    assert np.abs(orient(ORIGINALS[3], pair.turns, pair.mirrored) - changed.astype(float)).mean() < 40


def test_the_order_of_the_images_does_not_matter() -> None:
    images = [*ORIGINALS[:4], recoloured(ORIGINALS[1]), compressed(ORIGINALS[1])]
    ids, backwards = list("abcdef"), [5, 4, 3, 2, 1, 0]
    found = find_duplicates(ids, images)
    assert [(one.first, one.second) for one in found] == [("b", "e"), ("b", "f"), ("e", "f")]
    assert find_duplicates([ids[i] for i in backwards], [images[i] for i in backwards]) == found


def test_one_ruler_and_one_vignette_do_not_make_one_lesion() -> None:
    def framed(image: np.ndarray) -> np.ndarray:
        framed = image.copy()
        y, x = np.mgrid[:256, :256] - 127.5
        framed[np.hypot(y, x) > 120] //= 8
        for tick in range(40, 210, 8):
            cv2.line(framed, (tick, 225), (tick, 232), (20, 20, 20), 1)
        return framed

    assert find_duplicates(list("abcdefgh"), [framed(image) for image in ORIGINALS]) == []


def test_the_hash_does_not_see_light() -> None:
    darker = (ORIGINALS[0] * 0.7).astype(np.uint8)
    assert np.count_nonzero(perceptual_hash(ORIGINALS[0]) != perceptual_hash(darker)) <= 2
    assert np.count_nonzero(perceptual_hash(ORIGINALS[0]) != perceptual_hash(ORIGINALS[1])) > 4


def test_clusters_come_back(tmp_path: Path) -> None:
    pairs = [Duplicate("a", "b", 3, 0.9), Duplicate("b", "c", 12, 0.5)]
    save_clusters(tmp_path / "clusters.json", pairs, "by hand")
    assert load_clusters(tmp_path / "clusters.json") == [("a", "b"), ("b", "c")]
    assert json.loads((tmp_path / "clusters.json").read_text())["about"] == "by hand"


@pytest.mark.parametrize("text", ["", "[]", '{"pairs": [{"first": "a"}]}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "clusters.json").write_text(text)
    with pytest.raises(ValueError, match=r"clusters.json is not a file of clusters.*find_duplicates"):
        load_clusters(tmp_path / "clusters.json")


def test_the_shipped_clusters_hold_the_known_pair() -> None:
    pairs = load_clusters(clusters_path("isic2018"))
    assert ("ISIC_0000183", "ISIC_0015311") in pairs
    assert set(pairs) >= ORIENTED
    assert len(pairs) == 59


@pytest.mark.real_data("isic2018_256")
def test_the_shipped_clusters_are_what_comes_out() -> None:
    """On the images of every third pair, and as many that are in none."""
    pairs = load_clusters(clusters_path("isic2018"))[::3]
    known = {id for pair in load_clusters(clusters_path("isic2018")) for id in pair}
    folder = REAL / "isic2018_256" / "ISIC2018_Task1-2_Training_Input"
    others = [path.stem for path in sorted(folder.glob("*.jpg"))[::70] if path.stem not in known]
    ids = sorted({id for pair in pairs for id in pair} | set(others))
    images = [cv2.imread(str(folder / f"{id}.jpg"))[..., ::-1] for id in ids]
    found = {(one.first, one.second) for one in find_duplicates(ids, [np.ascontiguousarray(one) for one in images])}
    assert set(pairs) <= found
    assert found <= set(load_clusters(clusters_path("isic2018")))


@pytest.mark.real_data("isic2018_256")
def test_small_copies_lose_no_pair_that_a_full_comparison_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """On photographs that the limits for small copies were not chosen on."""
    rng = np.random.default_rng(0)
    paths = sorted((REAL / "isic2018_256" / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))[::26]
    images = [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]
    images += [photographed_again(image, rng) for image in images]
    ids = [f"{kind}{k:03}" for kind in ("first", "second") for k in range(len(paths))]
    found = find_duplicates(ids, images)
    monkeypatch.setattr(duplicates, "MIN_SMALL", -1)
    monkeypatch.setattr(duplicates, "ROUGH_STEPS", ())
    in_full = find_duplicates(ids, images)
    assert len(in_full) > 30
    assert set(found) <= set(in_full)
    assert len(found) >= 0.98 * len(in_full)
