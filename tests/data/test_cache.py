from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dermprompt.data.cache import build_cache, digest, load_cache
from dermprompt.data.isic import read_isic
from dermprompt.lesion import Lesion

REAL = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not (REAL / "isic2018_256").is_dir(), reason=f"needs {REAL}")


def write_pair(folder: Path, id: str, image: np.ndarray, mask: np.ndarray, **options: object) -> Lesion:
    lesion = Lesion(id, folder / f"{id}.png", folder / f"{id}_segmentation.png")
    Image.fromarray(image).save(lesion.image, **options)
    Image.fromarray(mask).save(lesion.mask)
    return lesion


def draw_pair(seed: int, height: int = 32, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 0])
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, np.where(rng.random((height, width)) < 0.4, 255, 0).astype(np.uint8)


def draw_lesions(folder: Path, num: int) -> list[Lesion]:
    return [write_pair(folder, f"id{i}", *draw_pair(i)) for i in range(num)]


def block_means(pixels: np.ndarray, size: int) -> np.ndarray:
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    return pixels.reshape(size, rows, size, columns, *pixels.shape[2:]).mean(axis=(1, 3), dtype=np.float64)


def test_shrinking_averages_blocks_in_rgb(tmp_path: Path) -> None:
    lesions = draw_lesions(tmp_path, 5)
    build_cache(lesions, 16, tmp_path / "cache")
    cache = load_cache(tmp_path / "cache")
    assert cache.images.shape == (5, 16, 16, 3)
    assert cache.images.dtype == cache.masks.dtype == np.uint8
    for seed in range(5):
        image, mask = draw_pair(seed)
        np.testing.assert_allclose(cache.images[seed], block_means(image, 16), atol=0.51)
        np.testing.assert_array_equal(cache.masks[seed], block_means(mask / 255, 16) >= 0.5)


def test_pairs_of_the_same_size_stay_as_they_are(tmp_path: Path) -> None:
    image, mask = draw_pair(0, 24, 24)
    build_cache([write_pair(tmp_path, "a", image, mask)], 24, tmp_path / "cache")
    cache = load_cache(tmp_path / "cache")
    np.testing.assert_array_equal(cache.images[0], image)
    np.testing.assert_array_equal(cache.masks[0] * 255, mask)


def test_growing_keeps_image_and_mask_aligned(tmp_path: Path) -> None:
    image, mask = np.zeros((10, 8, 3), np.uint8), np.zeros((10, 8), np.uint8)
    image[3:7, 2:5], mask[3:7, 2:5] = 255, 255
    build_cache([write_pair(tmp_path, "a", image, mask)], 80, tmp_path / "cache")
    cache = load_cache(tmp_path / "cache")
    bright = cache.images[0, ..., 0] >= 128
    assert (bright != cache.masks[0]).mean() < 0.01
    assert cache.masks[0].mean() == pytest.approx(12 / 80, abs=0.01)


def test_orientation_tag_does_not_turn_the_image_away_from_its_mask(tmp_path: Path) -> None:
    image, mask = draw_pair(0, 24, 24)
    exif = Image.Exif()
    exif[0x0112] = 6
    build_cache([write_pair(tmp_path, "a", image, mask, exif=exif)], 24, tmp_path / "cache")
    np.testing.assert_array_equal(load_cache(tmp_path / "cache").images[0], image)


def test_empty_and_full_masks_pass(tmp_path: Path) -> None:
    image = np.zeros((37, 53, 3), np.uint8)
    masks = [np.full((37, 53), value, np.uint8) for value in (0, 255)]
    lesions = [write_pair(tmp_path, f"{i}", image, mask) for i, mask in enumerate(masks)]
    build_cache(lesions, 16, tmp_path / "cache")
    assert load_cache(tmp_path / "cache").masks.mean(axis=(1, 2)).tolist() == [0, 1]


def test_rows_ids_and_progress(tmp_path: Path) -> None:
    steps: list[int] = []
    lesions = draw_lesions(tmp_path, 4)
    build_cache(lesions, 8, tmp_path / "cache", steps.append)
    cache = load_cache(tmp_path / "cache")
    assert steps == [1, 2, 3, 4]
    assert cache.ids == ("id0", "id1", "id2", "id3")
    assert cache.rows(["id3", "id0", "id3"]).tolist() == [3, 0, 3]
    assert cache.rows([]).dtype == np.int64
    with pytest.raises(ValueError, match=r"id7 not among the 4 images"):
        cache.rows(["id0", "id7"])


def test_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    build_cache(draw_lesions(tmp_path, 1), 8, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        load_cache(tmp_path / "cache").masks[0] = 1


def test_digest_tells_content(tmp_path: Path) -> None:
    lesions = draw_lesions(tmp_path, 3)
    for name in ("first", "second"):
        build_cache(lesions, 8, tmp_path / name)
    build_cache(lesions[::-1], 8, tmp_path / "order")
    assert digest(tmp_path / "first") == digest(tmp_path / "second") != digest(tmp_path / "order")
    for name in ("images.npy", "masks.npy", "ids.json"):
        path, before = tmp_path / "second" / name, digest(tmp_path / "second")
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        assert digest(tmp_path / "second") != before


def test_hashes_of_the_image_files(tmp_path: Path) -> None:
    lesions = draw_lesions(tmp_path, 3)
    build_cache(lesions, 8, tmp_path / "cache")
    hashes = json.loads((tmp_path / "cache" / "images_sha256.json").read_text())
    assert hashes == {item.id: hashlib.sha256(item.image.read_bytes()).hexdigest() for item in lesions}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_truncated_image(tmp_path: Path, ending: str) -> None:
    image, mask = draw_pair(0)
    good = write_pair(tmp_path, "a", image, mask)
    lesion = Lesion("a", tmp_path / f"image{ending}", good.mask)
    Image.fromarray(image).save(lesion.image)
    truncate(lesion.image)
    with pytest.raises(ValueError, match=rf"1 bad files in 1 pairs: .*image{ending} cannot be decoded"):
        build_cache([lesion], 8, tmp_path / "cache")


def test_empty_files_and_text(tmp_path: Path) -> None:
    (lesion,) = draw_lesions(tmp_path, 1)
    lesion.image.write_bytes(b"")
    lesion.mask.write_text("<html>")
    with pytest.raises(ValueError, match=r"id0.png cannot be decoded; .*id0_segmentation.png cannot be decoded"):
        build_cache([lesion], 8, tmp_path / "cache")


def test_mask_of_another_size(tmp_path: Path) -> None:
    image, mask = draw_pair(0)
    lesion = write_pair(tmp_path, "a", image, mask.T.copy())
    message = r"a_segmentation.png is \(48, 32\) pixels \(height, width\), its image \(32, 48\)"
    with pytest.raises(ValueError, match=message):
        build_cache([lesion], 8, tmp_path / "cache")


def test_mask_with_other_values(tmp_path: Path) -> None:
    image, mask = draw_pair(0)
    mask[0, :2] = 1, 128
    lesion = write_pair(tmp_path, "a", image, mask)
    with pytest.raises(ValueError, match=r"a_segmentation.png has the values 0, 1, 128, 255; allowed are 0 and 255"):
        build_cache([lesion], 8, tmp_path / "cache")


def test_all_bad_files_are_counted_and_no_cache_is_left(tmp_path: Path) -> None:
    lesions = draw_lesions(tmp_path, 9)
    build_cache(lesions, 8, tmp_path / "cache")
    for lesion in lesions[1:8]:
        truncate(lesion.mask)
    with pytest.raises(ValueError, match=r"7 bad files in 9 pairs") as error:
        build_cache(lesions, 8, tmp_path / "cache")
    assert [f"id{i}_segm" in str(error.value) for i in range(9)] == [False, *[True] * 5, *[False] * 3]
    with pytest.raises(ValueError, match=r"no complete cache"):
        load_cache(tmp_path / "cache")


@needs_data
def test_real_pairs_against_another_decoder(tmp_path: Path) -> None:
    lesions = read_isic(REAL / "isic2018_256", REAL / "isic_labels")[::200]
    build_cache(lesions, 128, tmp_path)
    cache = load_cache(tmp_path)
    for row, lesion in enumerate(lesions):
        with Image.open(lesion.image) as image, Image.open(lesion.mask) as mask:
            expected = np.asarray(image.resize((128, 128), Image.Resampling.BOX), dtype=np.float32)
            share = block_means(np.asarray(mask, dtype=np.float32) / 255, 128)
        assert np.abs(cache.images[row] - expected).mean() < 1
        np.testing.assert_array_equal(cache.masks[row], share >= 0.5)
    assert cv2.countNonZero(np.asarray(cache.masks).reshape(-1, 128)) > 0
