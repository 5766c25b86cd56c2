"""The losses against sums done by hand and another reader of VGG-19's layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.vgg import cfgs, make_layers

from dermprompt.generator.pix2pixhd.losses import VGGPerceptual, adversarial_loss, feature_matching_loss


def features(*scales: list[list[float]]) -> list[list[Tensor]]:
    return [[torch.tensor(layer) for layer in scale] for scale in scales]


def test_adversarial_loss_sums_the_scales() -> None:
    # Only predictions count: ((1-1)² + (3-1)²) / 2 = 2 and (0-1)² = 1.
    outputs = features([[9.0], [1.0, 3.0]], [[9.0], [0.0]])
    assert float(adversarial_loss(outputs, target=1)) == pytest.approx(3)
    # (1² + 3²) / 2 = 5 and 0.
    assert float(adversarial_loss(outputs, target=0)) == pytest.approx(5)


def test_feature_matching_by_hand() -> None:
    # Two layers besides the prediction: weight 4/2. Two scales: half of each.
    fake = features([[1.0, 2.0], [0.0], [50.0]], [[0.0], [1.0], [60.0]])
    real = features([[0.0, 0.0], [3.0], [0.0]], [[0.0], [0.0], [0.0]])
    # Scale 1: 1.5 + 3 = 4.5; scale 2: 0 + 1 = 1; 2 · (4.5 + 1) / 2.
    assert float(feature_matching_loss(fake, real)) == pytest.approx(5.5)


def test_feature_matching_weight_is_one_at_three_layers() -> None:
    # Four layers besides the prediction, as n_layers = 3 has: 4 / (3 + 1) = 1.
    fake, real = features([[1.0], [1.0], [1.0], [1.0], [9.0]]), features([[0.0]] * 5)
    assert float(feature_matching_loss(fake, real)) == pytest.approx(4)


def test_feature_matching_does_not_train_on_the_real_side() -> None:
    fake, real = features([[1.0], [0.0]]), features([[0.0], [0.0]])
    for layer in (*fake[0], *real[0]):
        layer.requires_grad_()
    feature_matching_loss(fake, real).backward()
    assert fake[0][0].grad is not None
    assert real[0][0].grad is None


@pytest.fixture(scope="module")
def vgg() -> nn.Sequential:
    layers = make_layers(cfgs["E"], batch_norm=False)
    generator = torch.Generator().manual_seed(0)
    for weight in layers.parameters():
        scale = (2 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.1
        weight.data = torch.randn(weight.shape, generator=generator) * scale
    return layers


@pytest.fixture(scope="module")
def weights(vgg: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state = {f"features.{key}": value for key, value in vgg.state_dict().items()}
    torch.save(state | {"classifier.0.bias": torch.zeros(3)}, path)
    return path


def test_perceptual_loss_reads_relu1_1_to_relu5_1(vgg: nn.Sequential, weights: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    fake, real = (torch.rand(2, 2, 3, 32, 32, generator=generator) * 2 - 1).unbind()
    extract = create_feature_extractor(vgg, ["1", "6", "11", "20", "29"])
    with torch.no_grad():
        pairs = zip(extract(fake).values(), extract(real).values(), strict=True)
        distances = [float((a - b).abs().mean()) for a, b in pairs]
    shares = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1]
    expected = sum(share * distance for share, distance in zip(shares, distances, strict=True))
    assert float(VGGPerceptual(weights)(fake, real)) == pytest.approx(expected, rel=1e-4)


def test_perceptual_loss_trains_the_images_only(weights: Path) -> None:
    perceptual = VGGPerceptual(weights)
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    assert perceptual(images, images.detach()).item() == 0
    perceptual(images, torch.ones(1, 3, 32, 32)).backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0
    assert not any(weight.requires_grad for weight in perceptual.parameters())


def test_a_file_that_is_not_vgg19_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg16.pth")
    with pytest.raises(ValueError, match=r"vgg16\.pth: features\.0\.bias is missing"):
        VGGPerceptual(tmp_path / "vgg16.pth")
