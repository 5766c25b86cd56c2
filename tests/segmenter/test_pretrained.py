from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from dermprompt.pretrained import packaged_weights
from dermprompt.segmenter.pretrained import PretrainedUNet


def test_the_encoder_starts_from_the_packaged_weights() -> None:
    encoder = PretrainedUNet().network.encoder.model.state_dict()
    stored = packaged_weights()
    assert len(encoder) > 200
    for name, weight in encoder.items():
        torch.testing.assert_close(weight, stored[name], rtol=0, atol=0)


def test_its_first_features_are_those_of_the_classifier() -> None:
    """The stem and the first stage of timm's own network, with the same weights and preprocessing."""
    network, own = PretrainedUNet().eval(), timm.create_model("tf_efficientnet_lite0").eval()
    own.load_state_dict(packaged_weights())
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        want = own.blocks[0](own.bn1(own.conv_stem(images)))
        got = network.network.encoder(images)[1]
    torch.testing.assert_close(got, want)


def test_images_give_logits_of_their_size_and_every_weight_is_trained() -> None:
    network = PretrainedUNet(weights="random")
    logits = network(torch.zeros(2, 3, 64, 96))
    assert logits.shape == (2, 1, 64, 96)
    logits.square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_weights_from_a_file(tmp_path: Path) -> None:
    save_file({name: weight + 1 for name, weight in packaged_weights().items()}, tmp_path / "w.safetensors")
    network = PretrainedUNet(weights=str(tmp_path / "w.safetensors"))
    name = "conv_stem.weight"
    torch.testing.assert_close(network.network.encoder.model.state_dict()[name], packaged_weights()[name] + 1)


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no safetensors file"):
        PretrainedUNet(weights=str(tmp_path / "none.safetensors"))
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="of another network"):
        PretrainedUNet(weights=str(tmp_path / "other.safetensors"))
