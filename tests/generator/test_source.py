"""Where a base comes from, without a network."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from dermprompt.generator.source import PARTS, check_base, resolve_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in PARTS:
        (tmp_path / "base" / part).mkdir(parents=True)
    return tmp_path / "base"


def test_a_whole_folder_is_taken_as_it_is(folder: Path) -> None:
    assert resolve_base(str(folder)) == folder


def test_a_home_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve_base("~/base") == folder


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    (folder / part).rmdir()
    with pytest.raises(ValueError, match=rf"generator\.base\.path=.*base: no {part} in it"):
        resolve_base(str(folder))


def test_neither_a_folder_nor_a_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **settings: Any) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ValueError, match=r"generator\.base\.path=no/such: neither .* \(ConnectionError\)"):
        resolve_base("no/such")


def test_a_hub_id_is_downloaded_without_pickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}

    def download(path: str, allow_patterns: list[str]) -> str:
        asked[path] = allow_patterns
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_base("some/model") == folder
    wanted = {f"{part}/{file}" for part in PARTS for file in ("config.json", "model.safetensors")}
    refused = {"unet/diffusion_pytorch_model.bin", "model.ckpt", "safety_checker/model.safetensors"}
    matched = {file for file in wanted | refused if any(fnmatch(file, one) for one in asked["some/model"])}
    assert matched == wanted


@pytest.fixture
def base(tiny_stable_diffusion: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_stable_diffusion, tmp_path / "sd"))


def alter(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_stable_diffusion_fits(base: Path) -> None:
    check_base(base)


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("unet", {"addition_embed_type": "text_time"}, "a model like SDXL"),
        ("unet", {"in_channels": 9}, "in_channels 9, and the vae has 4 latent channels; inpainting"),
        ("vae", {"latent_channels": 16}, "in_channels 4, and the vae has 16 latent channels"),
        ("text_encoder", {"hidden_size": 48}, "cross_attention_dim 32, and the text encoder's hidden_size is 48"),
    ],
)
def test_another_family_is_refused(base: Path, part: str, values: dict[str, Any], said: str) -> None:
    alter(base / part / "config.json", **values)
    with pytest.raises(ValueError, match=said):
        check_base(base)


def test_pickled_weights_are_refused(base: Path) -> None:
    (weights,) = (base / "unet").glob("*.safetensors")
    weights.rename(base / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \*\.safetensors in .*unet .*diffusion_pytorch_model\.bin.*not opened"):
        check_base(base)


def test_a_configuration_that_cannot_be_read_is_named(base: Path) -> None:
    (base / "vae" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"vae.config\.json: Expecting"):
        check_base(base)
