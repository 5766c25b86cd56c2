"""Where a base comes from, without a network."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from dermprompt.generator.source import PARTS, resolve_base


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
