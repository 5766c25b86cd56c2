from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from real_data import REAL

from dermprompt.data.datasets.isic_labels import ATTRIBUTES
from dermprompt.data.datasets.phantom import (
    ATTRIBUTE_PREVALENCE,
    ATTRIBUTE_TABLE,
    DIAGNOSIS_TABLE,
    IMAGES,
    MASKS,
    METADATA_TABLE,
    PREVALENCE,
    Phantom,
    make_phantom,
    read_diagnosis,
    write_phantom,
)
from dermprompt.data.datasets.phantom_paint import PIGMENTS, STRUCTURES, paint
from dermprompt.data.index import read_index

NUM_IMAGES = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, NUM_IMAGES, 64, seed=3)
    return root


@pytest.fixture(scope="module")
def held_out() -> list[Phantom]:
    return [make_phantom(2024, index, 64) for index in range(300)]


def _header(path: Path) -> str:
    return path.read_bytes().split(b"\n")[0].decode()


def _balanced_accuracy(phantoms: list[Phantom], images: list[np.ndarray]) -> float:
    truth = np.array([phantom.diagnosis for phantom in phantoms])
    pairs = zip(phantoms, images, strict=True)
    read = np.array([read_diagnosis(image, phantom.mask) for phantom, image in pairs])
    return float(np.mean([(read[truth == name] == name).mean() for name in PREVALENCE]))


def test_the_isic_loader_reads_what_was_drawn(root: Path) -> None:
    lesions = read_index("phantom", root, root).lesions
    assert len(lesions) == NUM_IMAGES
    for index, lesion in enumerate(lesions):
        phantom = make_phantom(3, index, 64)
        assert (lesion.id, lesion.diagnosis) == (phantom.id, phantom.diagnosis)
        assert lesion.attributes == phantom.attributes
        assert lesion.age == (float(phantom.age) if phantom.age else None)
        assert lesion.site == (phantom.site or None)
        assert lesion.sex == (phantom.sex or None)


def test_files_hold_the_exact_mask_and_nearly_the_exact_image(root: Path) -> None:
    for index in range(NUM_IMAGES):
        phantom = make_phantom(3, index, 64)
        with Image.open(root / MASKS / f"ISIC_{index:07d}_segmentation.png") as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.asarray(mask), phantom.mask * 255)
        with Image.open(root / IMAGES / f"ISIC_{index:07d}.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
            assert np.abs(np.asarray(image).astype(int) - phantom.image).mean() < 3
    assert len(list((root / IMAGES).iterdir())) == len(list((root / MASKS).iterdir())) == NUM_IMAGES


@pytest.mark.real_data("isic_labels")
@pytest.mark.parametrize("name", [DIAGNOSIS_TABLE, METADATA_TABLE, ATTRIBUTE_TABLE])
def test_tables_have_the_form_of_the_official_ones(root: Path, name: str) -> None:
    assert _header(root / name) == _header(REAL / "isic_labels" / name)


def test_table_cells(root: Path) -> None:
    with (root / DIAGNOSIS_TABLE).open() as file:
        diagnoses = list(csv.reader(file))[1:]
    assert all(sorted(row[1:]) == ["0.0"] * 8 + ["1.0"] for row in diagnoses)
    with (root / ATTRIBUTE_TABLE).open() as file:
        cells = {cell for row in list(csv.reader(file))[1:] for cell in row[1:]}
    assert cells == {"0", "1"}
    assert b"\r" not in (root / METADATA_TABLE).read_bytes()


def test_an_image_does_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, 3, 64, seed=3)
    written = [path for path in tmp_path.rglob("ISIC_*") if path.suffix in (".jpg", ".png")]
    assert len(written) == 6
    for path in written:
        assert path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes()
    first_rows = (tmp_path / METADATA_TABLE).read_text()
    assert (root / METADATA_TABLE).read_text().startswith(first_rows)


def test_seed_and_index_both_change_the_image() -> None:
    image = make_phantom(0, 0, 64).image
    assert np.abs(image.astype(int) - make_phantom(1, 0, 64).image).mean() > 5
    assert np.abs(image.astype(int) - make_phantom(0, 1, 64).image).mean() > 5


@pytest.mark.parametrize("index", range(6))
def test_labels_and_shape_are_the_same_at_every_size(index: int) -> None:
    small, large = make_phantom(5, index, 64), make_phantom(5, index, 256)
    assert (small.diagnosis, small.attributes, small.age) == (large.diagnosis, large.attributes, large.age)
    shrunk = cv2.resize(large.mask.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) > 0.5
    overlap = 2 * (shrunk & (small.mask > 0)).sum() / (shrunk.sum() + small.mask.sum())
    assert overlap > 0.95


@pytest.mark.parametrize("diagnosis", ["NV", "MEL"])
def test_the_painted_border_lies_on_the_edge_of_the_mask(diagnosis: str) -> None:
    """Half way between skin and lesion, in a band around the border (dark hairs would count outside)."""
    overlaps, areas = [], []
    for index in range(20):
        image, mask = paint(diagnosis, (), 128, np.random.default_rng([8, index]))
        green = image[..., 1].astype(float)
        kernel = np.ones((13, 13), np.uint8)
        inner, outer = cv2.erode(mask, kernel) > 0, cv2.dilate(mask, kernel) > 0
        ring = (cv2.dilate(mask, np.ones((25, 25), np.uint8)) > 0) & ~outer
        seen = inner | (outer & (green < (np.median(green[inner]) + np.median(green[ring])) / 2))
        overlaps.append(2 * (seen & (mask > 0)).sum() / (seen.sum() + mask.sum()))
        areas.append(seen.sum() / mask.sum())
    assert np.median(overlaps) > 0.97
    assert abs(np.median(areas) - 1) < 0.03


def test_masks_vary_in_size_place_and_elongation(held_out: list[Phantom]) -> None:
    areas = np.array([phantom.mask.mean() for phantom in held_out])
    assert areas.min() > 0.03
    assert areas.max() < 0.75
    assert np.quantile(areas, 0.9) > 3.5 * np.quantile(areas, 0.1)
    centres = np.array([np.argwhere(phantom.mask).mean(axis=0) / 64 for phantom in held_out])
    assert centres.std(axis=0).min() > 0.08
    spreads = [np.linalg.eigvalsh(np.cov(np.argwhere(phantom.mask).T)) for phantom in held_out]
    elongation = np.sqrt([large / small for small, large in spreads])
    assert np.quantile(elongation, 0.1) < 1.3
    assert np.quantile(elongation, 0.9) > 1.7


def test_skin_tones_vary(held_out: list[Phantom]) -> None:
    tones = np.array([np.median(phantom.image[phantom.mask == 0], axis=0) for phantom in held_out])
    assert tones.std(axis=0).min() > 12
    assert (tones[:, 0] > tones[:, 1]).all()
    assert (tones[:, 1] > tones[:, 2]).mean() > 0.9


def test_labels_have_the_stated_prevalence() -> None:
    phantoms = [make_phantom(1, index, 32) for index in range(800)]
    for diagnosis, share in PREVALENCE.items():
        group = [phantom for phantom in phantoms if phantom.diagnosis == diagnosis]
        assert len(group) / len(phantoms) == pytest.approx(share, abs=0.06)
        for name, expected in zip(STRUCTURES, ATTRIBUTE_PREVALENCE[diagnosis], strict=True):
            found = np.mean([name in phantom.attributes for phantom in group])
            # Four deviations of a share of at least a quarter of the images, at its largest.
            assert found == pytest.approx(expected, abs=0.14)
    shares = {name: sum(name in phantom.attributes for phantom in phantoms) for name in STRUCTURES}
    assert max(shares, key=shares.__getitem__) == "pigment_network"
    assert min(shares, key=shares.__getitem__) == "streaks"
    assert 0.1 < np.mean([not phantom.attributes for phantom in phantoms]) < 0.35


def test_the_paints_know_every_label() -> None:
    assert tuple(STRUCTURES) == ATTRIBUTES
    assert PIGMENTS.keys() == PREVALENCE.keys() == ATTRIBUTE_PREVALENCE.keys()


@pytest.mark.parametrize("diagnosis", list(PIGMENTS))
@pytest.mark.parametrize("attribute", list(STRUCTURES))
def test_an_attribute_is_seen_in_the_lesion_and_nowhere_else(diagnosis: str, attribute: str) -> None:
    """Sensor noise is the same with and without, so what differs is the structure alone."""
    changes = []
    for index in range(20):
        without, mask = paint(diagnosis, (), 64, np.random.default_rng([6, index]))
        shown, same_mask = paint(diagnosis, (attribute,), 64, np.random.default_rng([6, index]))
        np.testing.assert_array_equal(mask, same_mask)
        change = np.abs(shown.astype(float) - without).mean(axis=2)
        assert change[cv2.dilate(mask, np.ones((9, 9), np.uint8)) == 0].max() == 0
        changes.append((change[mask > 0].mean(), np.quantile(change[mask > 0], 0.95)))
    mean, strongest = np.median(changes, axis=0)
    assert mean > 3.5
    assert strongest > 20
    assert np.min(changes, axis=0)[0] > 1.2


@pytest.mark.parametrize(
    ("attribute", "sign"),
    [
        ("pigment_network", -1),
        ("globules", -1),
        ("streaks", -1),
        ("negative_network", 1),
        ("milia_like_cyst", 1),
    ],
)
def test_dark_structures_darken_and_pale_ones_lighten(attribute: str, sign: int) -> None:
    for index in range(5):
        without, mask = paint("NV", (), 64, np.random.default_rng([6, index]))
        shown, _ = paint("NV", (attribute,), 64, np.random.default_rng([6, index]))
        change = (shown.astype(float) - without).mean(axis=2)[mask > 0]
        assert sign * change.mean() > 0


def test_streaks_lie_at_the_rim() -> None:
    without, mask = paint("NV", (), 128, np.random.default_rng([6, 1]))
    shown, _ = paint("NV", ("streaks",), 128, np.random.default_rng([6, 1]))
    change = np.abs(shown.astype(float) - without).mean(axis=2)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    assert change[depth > 0.7 * depth.max()].mean() < 0.1 * change[(depth > 0) & (depth < 5)].mean()


def test_the_rule_reads_held_out_phantoms(held_out: list[Phantom]) -> None:
    assert _balanced_accuracy(held_out, [phantom.image for phantom in held_out]) >= 0.97


def test_the_rule_stands_blur(held_out: list[Phantom]) -> None:
    images = [cv2.GaussianBlur(phantom.image, (0, 0), 1) for phantom in held_out]
    assert _balanced_accuracy(held_out, images) >= 0.9


def test_the_rule_stands_noise(held_out: list[Phantom]) -> None:
    rng = np.random.default_rng(0)
    images = [phantom.image + rng.normal(0, 8, phantom.image.shape) for phantom in held_out]
    assert _balanced_accuracy(held_out, [image.clip(0, 255).astype(np.uint8) for image in images]) >= 0.9


def test_the_rule_is_at_chance_on_the_images_of_others(held_out: list[Phantom]) -> None:
    images = [phantom.image for phantom in held_out]
    moved = [*held_out[1:], held_out[0]]
    assert _balanced_accuracy(moved, images) < 0.5


@pytest.mark.parametrize(
    ("diagnosis", "lesion"), [("NV", (120, 75, 55)), ("MEL", (50, 45, 50)), ("BKL", (185, 140, 90))]
)
@pytest.mark.parametrize("light", [0.6, 1.0])
def test_the_rule_on_flat_colours_in_dim_and_bright_light(
    diagnosis: str, lesion: tuple[int, int, int], light: float
) -> None:
    image, mask = np.empty((64, 64, 3)), np.zeros((64, 64), np.uint8)
    mask[20:40, 15:45] = 1
    image[:] = (225, 180, 160)
    image[mask > 0] = lesion
    assert read_diagnosis((image * light).astype(np.uint8), mask) == diagnosis


def test_the_rule_without_skin_and_with_a_lesion_of_one_pixel() -> None:
    brown = np.full((64, 64, 3), (120, 75, 55), np.uint8)
    assert read_diagnosis(brown, np.ones((64, 64), np.uint8)) == "NV"
    image, mask = np.full((64, 64, 3), (225, 180, 160), np.uint8), np.zeros((64, 64), np.uint8)
    image[30, 30], mask[30, 30] = (120, 75, 55), 1
    assert read_diagnosis(image, mask) == "NV"


def test_the_rule_refuses_an_empty_mask() -> None:
    with pytest.raises(ValueError, match="mask is empty"):
        read_diagnosis(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))


def test_nobodys_images_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(FileExistsError, match=IMAGES):
        write_phantom(tmp_path, 1, 64, 0)
    assert [path.name for path in tmp_path.iterdir()] == [IMAGES]
