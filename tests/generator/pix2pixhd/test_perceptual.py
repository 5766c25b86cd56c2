"""The perceptual losses against another reader of VGG-19's layers, and what both networks must keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.vgg import cfgs, make_layers

from dermprompt.generator.pix2pixhd.perceptual import EfficientNetPerceptual, VGG19Perceptual


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
    assert float(VGG19Perceptual(weights)(fake, real)) == pytest.approx(expected, rel=1e-4)


def test_perceptual_loss_trains_the_images_only(weights: Path) -> None:
    perceptual = VGG19Perceptual(weights)
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    assert perceptual(images, images.detach()).item() == 0
    perceptual(images, torch.ones(1, 3, 32, 32)).backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0
    assert not any(weight.requires_grad for weight in perceptual.parameters())


def test_a_file_that_is_not_vgg19_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg16.pth")
    with pytest.raises(ValueError, match=r"vgg16\.pth: no 'features\.0\.bias' in it; wanted is torchvision's vgg19"):
        VGG19Perceptual(tmp_path / "vgg16.pth")


def test_efficientnet_lite0_has_its_packaged_weights() -> None:
    perceptual, generator = EfficientNetPerceptual(), torch.Generator().manual_seed(0)
    smooth = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1
    images = nn.functional.interpolate(smooth, 64, mode="bicubic").clamp(-1, 1).requires_grad_()
    features = perceptual.features(images)
    assert [tuple(one.shape[1:]) for one in features] == [
        (16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)
    ]  # fmt: skip
    # Of size one at every place, so that no depth outweighs the others by its scale.
    for one in features:
        torch.testing.assert_close(one.square().mean(1), torch.ones_like(one[:, 0]))
    noisy = images.detach() + 0.1 * torch.randn(images.shape, generator=generator)
    shifted = images.detach().roll(1, 0)
    assert 0 < perceptual(noisy, images.detach()) < perceptual(shifted, images.detach())
    loss = perceptual(images, shifted)
    loss.backward()
    assert float(images.grad.abs().sum()) > 0
    assert not any(weight.requires_grad for weight in perceptual.parameters())


def test_statistics_of_the_packaged_network_do_not_move() -> None:
    perceptual, images = EfficientNetPerceptual().train(), torch.rand(2, 3, 32, 32)
    before = {key: value.clone() for key, value in perceptual.state_dict().items()}
    perceptual(images, -images)
    for key, value in perceptual.state_dict().items():
        assert torch.equal(value, before[key]), key
