from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_data import REAL

from dermprompt.data import library
from dermprompt.data.library import Entry, Pair, grow_library, library_name, open_records, read_entries, record_sha256
from dermprompt.data.reading import PLAIN, Reading


def pair_of(image: Path, mask: Path) -> Pair:
    return Pair(image, mask, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in (image, mask)))


def write_pair(folder: Path, id: str, image: np.ndarray, mask: np.ndarray, **options: object) -> Pair:
    paths = folder / f"{id}.png", folder / f"{id}_segmentation.png"
    Image.fromarray(image).save(paths[0], **options)
    Image.fromarray(mask).save(paths[1])
    return pair_of(*paths)


def draw_pair(seed: int, height: int = 32, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 0])
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, np.where(rng.random((height, width)) < 0.4, 255, 0).astype(np.uint8)


def draw_pairs(folder: Path, num: int) -> list[Pair]:
    return [write_pair(folder, f"id{i}", *draw_pair(i)) for i in range(num)]


def grow(folder: Path, size: int, pairs: list[Pair], reading: Reading = PLAIN) -> list[Entry]:
    """Grow a library and return the entries of ``pairs``."""
    grow_library(folder, size, pairs, reading, lambda _: None)
    entries = read_entries(folder)
    return [entries[pair.key] for pair in pairs]


def block_means(pixels: np.ndarray, size: int) -> np.ndarray:
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    return pixels.reshape(size, rows, size, columns, *pixels.shape[2:]).mean(axis=(1, 3), dtype=np.float64)


def test_shrinking_averages_blocks_in_rgb(tmp_path: Path) -> None:
    grow(tmp_path / "library", 16, draw_pairs(tmp_path, 5))
    images, masks = open_records(tmp_path / "library", 16)
    assert images.shape == (5, 16, 16, 3)
    assert images.dtype == masks.dtype == np.uint8
    for seed in range(5):
        image, mask = draw_pair(seed)
        np.testing.assert_allclose(images[seed], block_means(image, 16), atol=0.51)
        np.testing.assert_array_equal(masks[seed], block_means(mask / 255, 16) >= 0.5)


def test_pairs_of_the_same_size_stay_as_they_are(tmp_path: Path) -> None:
    image, mask = draw_pair(0, 24, 24)
    grow(tmp_path / "library", 24, [write_pair(tmp_path, "a", image, mask)])
    images, masks = open_records(tmp_path / "library", 24)
    np.testing.assert_array_equal(images[0], image)
    np.testing.assert_array_equal(masks[0] * 255, mask)


def test_growing_keeps_image_and_mask_aligned(tmp_path: Path) -> None:
    image, mask = np.zeros((10, 8, 3), np.uint8), np.zeros((10, 8), np.uint8)
    image[3:7, 2:5], mask[3:7, 2:5] = 255, 255
    grow(tmp_path / "library", 80, [write_pair(tmp_path, "a", image, mask)])
    images, masks = open_records(tmp_path / "library", 80)
    assert ((images[0, ..., 0] >= 128) != masks[0]).mean() < 0.01
    assert masks[0].mean() == pytest.approx(12 / 80, abs=0.01)


def test_one_decode_a_file_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = library.decode_image
    monkeypatch.setattr(library, "decode_image", lambda *given: decoded.append("image") or decode(*given))
    pairs = draw_pairs(tmp_path, 4)
    first = grow(tmp_path / "library", 8, pairs[:3])
    moved = pairs[0].image.rename(tmp_path / "moved.png")
    again = grow(tmp_path / "library", 8, [pair_of(moved, pairs[0].mask), *pairs[1:], pairs[1]])
    assert len(decoded) == 4
    assert again[:3] == first
    assert [entry.row for entry in again] == [0, 1, 2, 3, 1]


def test_an_image_alone_is_no_image_with_an_empty_mask(tmp_path: Path) -> None:
    image, mask = draw_pair(0, 24, 24)
    turned = Image.Exif()
    turned[0x0112] = 6
    empty = write_pair(tmp_path, "a", image, mask * 0, exif=turned)
    alone = Pair(empty.image, None, empty.image_sha256, "")
    first, second = grow(tmp_path / "library", 24, [alone, empty], Reading(mask_threshold=None, empty_masks="keep"))
    assert first.key != second.key
    assert (first.row, second.row) == (0, 1)
    images, masks = open_records(tmp_path / "library", 24)
    np.testing.assert_array_equal(images[0], image)
    assert not masks[0].any()
    assert first.verdicts == (("rotated", "image", "tag 6 ignored: there is no mask to tell which way up"),)
    assert [verdict for verdict, *_ in second.verdicts] == ["negative", "rotated"]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = Pair(tmp_path / "bad.png", None, hashlib.sha256(b"no picture").hexdigest(), "")
    assert grow(tmp_path / "library", 24, [bad])[0].row is None


def test_a_bad_pair_has_no_row_and_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = draw_pairs(tmp_path, 3)
    pairs[1].image.write_bytes(b"")
    pairs[1] = pair_of(pairs[1].image, pairs[1].mask)
    entries = grow(tmp_path / "library", 8, pairs)
    assert [entry.row for entry in entries] == [0, None, 1]
    assert [verdict for verdict, *_ in entries[1].verdicts] == ["unreadable"]
    monkeypatch.setattr(library, "_load_pair", lambda *_, **__: pytest.fail("tried again"))
    assert grow(tmp_path / "library", 8, pairs) == entries


@pytest.mark.parametrize("broken", ["record", "line", "both"])
def test_a_broken_run_goes_on_where_it_was(tmp_path: Path, broken: str) -> None:
    pairs, folder = draw_pairs(tmp_path, 3), tmp_path / "library"
    whole = grow(tmp_path / "whole", 8, pairs)
    grow(folder, 8, pairs[:2])
    if broken in ("record", "both"):
        with (folder / "images.bin").open("ab") as file:
            file.write(b"half a record")
    if broken in ("line", "both"):
        with (folder / "entries.jsonl").open("a") as file:
            file.write('{"key": "half a li')
    assert grow(folder, 8, pairs) == whole
    for name in ("images.bin", "masks.bin", "entries.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_records_fit_their_hashes(tmp_path: Path) -> None:
    entries = grow(tmp_path / "library", 8, draw_pairs(tmp_path, 3))
    images, masks = open_records(tmp_path / "library", 8)
    assert [entry.sha256 for entry in entries] == [record_sha256(*each) for each in zip(images, masks, strict=True)]


def test_a_file_that_changed_since_it_was_indexed(tmp_path: Path) -> None:
    (pair,) = draw_pairs(tmp_path, 1)
    pair.image.write_bytes(b"another")
    with pytest.raises(ValueError, match=r"id0.png changed while this job ran"):
        grow(tmp_path / "library", 8, [pair])


def test_records_cannot_be_written_to(tmp_path: Path) -> None:
    grow(tmp_path / "library", 8, draw_pairs(tmp_path, 1))
    with pytest.raises(ValueError, match="read-only"):
        open_records(tmp_path / "library", 8)[1][0] = 1


def named(**changed: object) -> str:
    return library_name(8, replace(PLAIN, **changed))


def test_the_name_tells_size_decoder_and_reading() -> None:
    names = {library_name(8, PLAIN), library_name(9, PLAIN), named(mask_threshold=128), named(fit="crop")}
    assert len(names) == 4
    assert all("decoder" in name for name in names)


def test_orientation_tag_does_not_turn_the_image_away_from_its_mask(tmp_path: Path) -> None:
    image, mask = draw_pair(0, 24, 24)
    exif = Image.Exif()
    exif[0x0112] = 6
    (entry,) = grow(tmp_path / "library", 24, [write_pair(tmp_path, "a", image, mask, exif=exif)])
    np.testing.assert_array_equal(open_records(tmp_path / "library", 24)[0][0], image)
    assert entry.verdicts[0][0] == "rotated"
    assert "sizes do not tell which way up the mask is" in entry.verdicts[0][2]


def test_an_image_whose_mask_is_upright_is_turned(tmp_path: Path) -> None:
    image, mask = draw_pair(0, 32, 32)
    image, mask = image[:16], np.rot90(mask[:16], -1).copy()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    (entry,) = grow(tmp_path / "library", 16, [write_pair(tmp_path, "a", image, mask, exif=exif)])
    turned = block_means(np.rot90(image, -1).repeat(2, 1), 16)
    np.testing.assert_allclose(open_records(tmp_path / "library", 16)[0][0], turned, atol=0.51)
    assert "turned" in entry.verdicts[0][2]


@pytest.mark.real_data("isic2018_256")
def test_real_pairs_against_another_decoder(tmp_path: Path) -> None:
    images = sorted((REAL / "isic2018_256" / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))[::200]
    folder = REAL / "isic2018_256" / "ISIC2018_Task1_Training_GroundTruth"
    pairs = [pair_of(path, folder / f"{path.stem}_segmentation.png") for path in images]
    grow(tmp_path, 128, pairs)
    records = open_records(tmp_path, 128)
    for pair, pixels, drawn in zip(pairs, *records, strict=True):
        with Image.open(pair.image) as image, Image.open(pair.mask) as mask:
            expected = np.asarray(image.resize((128, 128), Image.Resampling.BOX), dtype=np.float32)
            share = block_means(np.asarray(mask, dtype=np.float32) / 255, 128)
        assert np.abs(pixels - expected).mean() < 1
        np.testing.assert_array_equal(drawn, share >= 0.5)
    assert json.loads((tmp_path / "entries.jsonl").read_text().splitlines()[0])["row"] == 0
