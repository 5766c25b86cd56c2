"""Latent bases of the user's own: settings that do not fit are said, and each codec goes through the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import compose, miniature, run

from dermprompt.config import compose as configuration

VAE = [
    "generator/base/codec=vae",
    "generator.base.codec.downscale=4",
    "generator.base.codec.channels=4",
    "generator.base.codec.width=32",
    "generator.base.codec.max_steps=3",
    "generator.base.codec.batch_size=4",
]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["image_size=80", "generator.base.channels=[32,32,32,32]"], "image_size=80: a multiple of 32 pixels"),
        (["image_size=144", "generator/base/codec=tiny", "generator.base.codec.path=x"], "a multiple of 32 pixels"),
        (["generator.base.codec.downscale=3"], r"codec\.downscale=3: allowed are 2, 4, 8, 16"),
        (["generator.base.codec.channels=49"], r"codec\.channels=49: from 1 to 48"),
        (
            ["generator/base/codec=vae", "generator.base.codec.width=48"],
            r"codec\.width=48: a whole number, a multiple of 32",
        ),
        (["generator/base/codec=vae", "generator.base.codec.kl_weight=-1"], r"codec\.kl_weight=-1"),
        (["generator/base/codec=vae", "generator.base.codec.augmentation=turn"], r"codec\.augmentation=turn: .* flip"),
        (["generator/base/codec=vae", "generator.base.codec.max_steps=0"], r"codec\.max_steps=0: .* at least 1"),
        (["generator/base/codec=tiny", "generator.base.codec.path=???"], r"not set: generator\.base\.codec\.path"),
    ],
)
def test_a_codec_that_does_not_fit_is_said(overrides: list[str], said: str) -> None:
    wide = [] if any("channels=[" in one for one in overrides) else ["generator.base.channels=[32,32,32]"]
    with pytest.raises(ValueError, match=said):
        compose(*miniature("controlnet", *wide, *overrides))


def test_a_pretrained_base_has_its_codec() -> None:
    overrides = ["generator=controlnet", "generator/base=sd15", "data=phantom", "stage=train_codec"]
    with pytest.raises(ValueError, match=r"stage=train_codec with generator/base=sd15: .*allowed is scratch"):
        compose(*overrides)


@pytest.mark.parametrize("codec", ["pca", "pca_8", "vae", "tiny"])
def test_a_configuration_comes_back_from_its_file(codec: str, tmp_path: Path) -> None:
    path = ["generator.base.codec.path=/weights"] if codec == "tiny" else []
    config = compose(*miniature("controlnet", f"generator/base/codec={codec}", *path))
    configuration.dump(config, tmp_path / "config.yaml")
    assert configuration.thaw(tmp_path / "config.yaml") == config


def test_a_base_on_an_autoencoder_trained_here_draws(tmp_path: Path) -> None:
    run(tmp_path, *miniature("controlnet", *VAE, "stage=synthesize", "synthesis.count=4"))
    assert_made(tmp_path, "vae", "diffusion_pytorch_model.safetensors")


def test_a_base_on_a_pretrained_tiny_autoencoder_draws(tmp_path: Path, tiny_autoencoder: Path) -> None:
    tiny = ["generator/base/codec=tiny", f"generator.base.codec.path={tiny_autoencoder}"]
    run(tmp_path, *miniature("controlnet", *tiny, "stage=synthesize", "synthesis.count=4"))
    assert_made(tmp_path, "tiny", "codec.safetensors")


def assert_made(folder: Path, codec: str, file: str) -> None:
    """The codec lies in its own artifact and in the base; four samples were drawn on it."""
    (own,) = (folder / "store" / "train_codec").glob(f"{codec}-*/{file}")
    (of_base,) = (folder / "store" / "train_base").glob(f"scratch-*/vae/{file}")
    assert own.read_bytes() == of_base.read_bytes()
    assert len(list((folder / "store" / "synthesize").glob("*/ISIC2018_Task1-2_Training_Input/*"))) == 4


def test_weights_that_are_not_there_are_said_before_any_work(tmp_path: Path) -> None:
    tiny = ["generator/base/codec=tiny", "generator.base.codec.path=/no/such"]
    with pytest.raises(ValueError, match=r"codec\.path=/no/such: 0 files \*_encoder\.pth"):
        run(tmp_path, *miniature("controlnet", *tiny))
    assert not (tmp_path / "store").exists()
