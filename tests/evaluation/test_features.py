from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage import data

from dermprompt.evaluation.features import FeatureExtractor, crops
from dermprompt.pretrained import PACKAGED, packaged_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extract() -> FeatureExtractor:
    return FeatureExtractor(PACKAGED, None, CPU)


def test_the_packaged_weights_know_a_cup_of_coffee(extract: FeatureExtractor) -> None:
    """ImageNet's class 967 is espresso: names, order and preprocessing fit the network."""
    network = timm.create_model(PACKAGED)
    network.load_state_dict(packaged_weights())
    features = extract(data.coffee()[None, :, 100:500])
    with torch.no_grad():
        logits = network.classifier(torch.from_numpy(features))
    assert int(logits.argmax()) == 967


def test_features_do_not_depend_on_the_batch(extract: FeatureExtractor) -> None:
    images = np.random.default_rng(0).integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
    features = extract(images)
    assert features.shape == (40, 1280)
    np.testing.assert_allclose(extract(images[35:36]), features[35:36], atol=1e-4)


def test_a_copy_is_nearer_than_another_picture(extract: FeatureExtractor) -> None:
    cat, coffee = data.chelsea()[:300, :300], data.coffee()[:300, :300]
    features = extract(np.stack([cat, cat[:, ::-1], coffee]))
    mirrored, other = (np.linalg.norm(features[0] - row) for row in features[1:])
    assert mirrored < 0.5 * other


def test_weights_that_are_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no safetensors file"):
        FeatureExtractor("resnet10t", str(tmp_path / "missing.safetensors"), CPU)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="are not of resnet10t"):
        FeatureExtractor("resnet10t", str(tmp_path / "other.safetensors"), CPU)


def test_a_crop_is_the_square_around_the_mask() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[40:50, 8:28] = 255
    mask = (image[..., 0] > 0).astype(np.uint8)
    inside, whole = crops(np.stack([image, image]), np.stack([mask, 0 * mask]))
    np.testing.assert_array_equal(whole, image)
    # 20 of the side's 26 pixels, and 10 of them.
    assert (inside > 127).mean() == pytest.approx(20 * 10 / 26**2, abs=0.02)
    rows, columns = (inside[..., 0] > 127).nonzero()
    assert abs(rows.mean() - 31.5) < 2
    assert abs(columns.mean() - 31.5) < 2


@pytest.mark.parametrize("corner", [(0, 0), (0, 60), (60, 60)])
def test_a_crop_stays_in_the_image(corner: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(256, size=(1, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, corner[0] : corner[0] + 4, corner[1] : corner[1] + 4] = 1
    assert crops(image, mask).shape == image.shape
    np.testing.assert_array_equal(crops(image, np.ones_like(mask)), image)
