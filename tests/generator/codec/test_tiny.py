"""A tiny autoencoder's files against diffusers' network, and against the layers as their keys spell them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F

from dermprompt.generator.codec.load import load_codec
from dermprompt.generator.codec.tiny import TinyCodec, read_tiny

Weights = dict[str, Tensor]


def some_images(count: int = 4, size: int = 32) -> Tensor:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, size=(size, size), mode="bilinear")


def spelt_out(weights: Weights, x: Tensor, place: int) -> Tensor:
    """A block, by the keys of its file."""
    own = {key.removeprefix(f"{place}."): value for key, value in weights.items() if key.startswith(f"{place}.")}
    if "pool.0.weight" in own:
        wide = F.group_norm(F.conv2d(x, own["pool.0.weight"]), 4, own["pool.1.weight"], own["pool.1.bias"])
        x = x + F.conv2d(F.relu(wide), own["pool.3.weight"])
    inside = x
    for number in (0, 2, 4):
        inside = F.conv2d(inside, own[f"conv.{number}.weight"], own[f"conv.{number}.bias"], padding=1)
        inside = F.relu(inside) if number < 4 else inside
    return F.relu(inside + x)


def encoded(weights: Weights, images: Tensor) -> Tensor:
    x = F.conv2d((images + 1) / 2, weights["0.weight"], weights["0.bias"], padding=1)
    x = spelt_out(weights, x, 1)
    for start in (2, 6, 10):
        x = F.conv2d(x, weights[f"{start}.weight"], stride=2, padding=1)
        for place in range(start + 1, start + 4):
            x = spelt_out(weights, x, place)
    return F.conv2d(x, weights["14.weight"], weights["14.bias"], padding=1)


def decoded(weights: Weights, latents: Tensor) -> Tensor:
    x = F.relu(F.conv2d(3 * torch.tanh(latents / 3), weights["1.weight"], weights["1.bias"], padding=1))
    for start in (3, 8, 13):
        for place in range(start, start + 3):
            x = spelt_out(weights, x, place)
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = F.conv2d(x, weights[f"{start + 4}.weight"], padding=1)
    x = spelt_out(weights, x, 18)
    return 2 * F.conv2d(x, weights["19.weight"], weights["19.bias"], padding=1) - 1


@torch.no_grad()
def test_it_computes_what_the_keys_of_its_files_say(tiny_autoencoder: Path) -> None:
    codec, images = read_tiny(str(tiny_autoencoder)), some_images()
    parts = ("encoder", "decoder")
    files = [torch.load(tiny_autoencoder / f"some_{part}.pth", weights_only=True) for part in parts]
    encoder, decoder = ({key: value.float() for key, value in one.items()} for one in files)
    latents, std = codec.encode(images)
    assert latents.shape == (4, 8, 4, 4)
    assert not std.any()
    torch.testing.assert_close(latents, encoded(encoder, images))
    latents = 3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(codec.decode(latents), decoded(decoder, latents))


@torch.no_grad()
def test_without_pools_it_is_diffusers_autoencoder() -> None:
    torch.manual_seed(0)
    theirs, images = AutoencoderTiny(latent_channels=4), some_images()
    encoder = {key.removeprefix("layers."): value for key, value in theirs.encoder.state_dict().items()}
    decoder = {}
    for key, value in theirs.decoder.state_dict().items():
        _, place, rest = key.split(".", 2)  # the file counts the soft limit as a layer, diffusers does not
        decoder[f"{int(place) + 1}.{rest}"] = value
    codec = TinyCodec.from_weights(encoder, decoder)
    assert (codec.channels, codec.downscale) == (4, 8)
    latents = codec.encode(images)[0]
    torch.testing.assert_close(latents, theirs.encode(images).latents)
    torch.testing.assert_close(codec.decode(latents), theirs.decode(latents).sample)


@torch.no_grad()
def test_its_latents_are_standardised_and_its_images_stay(tiny_autoencoder: Path) -> None:
    codec, images = read_tiny(str(tiny_autoencoder)), some_images(8)
    before = codec.decode(codec.encode(images)[0])
    codec.fit(images.split(3))
    latents = codec.encode(images)[0]
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3), correction=0), torch.ones(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(codec.decode(latents), before, atol=1e-3, rtol=0)


@torch.no_grad()
def test_it_is_the_same_after_a_round_trip_on_disk(tiny_autoencoder: Path, tmp_path: Path) -> None:
    codec, images = read_tiny(str(tiny_autoencoder)), some_images()
    codec.fit([images])
    codec.save(tmp_path / "vae")
    assert {path.suffix for path in (tmp_path / "vae").iterdir()} == {".json", ".safetensors"}
    loaded = load_codec(tmp_path / "vae")
    assert isinstance(loaded, TinyCodec)
    latents = codec.encode(images)[0]
    torch.testing.assert_close(loaded.encode(images)[0], latents)
    torch.testing.assert_close(loaded.decode(latents), codec.decode(latents))


@pytest.fixture
def folder(tiny_autoencoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_autoencoder, tmp_path / "tiny"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"0.weight": torch.zeros(64, 3, 3, 3)}, r"some_encoder.pth: no '14.bias' in it"),
        (nn.Conv2d(3, 3, 1), "Weights only load failed"),
        ([torch.zeros(1)], "holds more than a dictionary of tensors"),
        (None, r"0 files \*_encoder\.pth"),
    ],
    ids=("another network", "code", "a list", "nothing"),
)
def test_what_is_expected_is_said(folder: Path, content: object, said: str) -> None:
    file = folder / "some_encoder.pth"
    torch.save(content, file) if content is not None else file.unlink()
    with pytest.raises(ValueError, match=rf"generator\.base\.codec\.path=.*tiny: .*{said}.*expected is a folder"):
        read_tiny(str(folder))
