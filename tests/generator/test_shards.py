"""Weights carried in small pieces: the same but for bfloat16, and what was damaged is said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from dermprompt.generator.shards import INDEX, load_shards, main, save_shards

LIMIT = 4096


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.bfloat16().float() if value.is_floating_point() else value for key, value in state.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def test_weights_come_back_rounded_and_no_file_is_too_large(tmp_path: Path) -> None:
    state = {
        "large": torch.randn(100, 7, 11),
        "one row": torch.randn(1, 9000),
        "half": torch.randn(3).half(),
        "double": torch.randn(2, 2).double(),
        "count": torch.tensor(2**40 + 1),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "view": torch.randn(50, 50).T,
        **{f"small.{i}": torch.randn(8) for i in range(30)},
    }
    files = save_shards(state, tmp_path, LIMIT)
    assert len(files) > 3
    assert all(file.stat().st_size <= LIMIT for file in files)
    assert sum(file.stat().st_size for file in files) < 1.4 * sum(v.numel() * 2 for v in state.values()) + LIMIT
    assert same(load_shards(tmp_path), rounded(state))
    sums = json.loads((tmp_path / INDEX).read_text())["sha256"]
    assert sums == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8), st.integers(1500, 20000))
def test_any_sizes_fit_any_limit(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int) -> None:
    folder = tmp_path_factory.mktemp("shards")
    state = {f"layer.{i}/weight": torch.randn(size) for i, size in enumerate(sizes)}
    assert all(file.stat().st_size <= limit for file in save_shards(state, folder, limit))
    assert same(load_shards(folder), rounded(state))


def test_sixteen_mebibytes_are_the_largest_file(tmp_path: Path) -> None:
    state = {"weight": torch.randn(3, 3 * 2**20), "bias": torch.randn(5)}
    first, second = save_shards(state, tmp_path)
    assert 15 * 2**20 < first.stat().st_size <= 16 * 2**20
    assert second.stat().st_size < 3 * 2**20
    assert same(load_shards(tmp_path), rounded(state))


def test_a_damaged_or_missing_file_is_said(tmp_path: Path) -> None:
    first, second, *_ = save_shards({"weight": torch.randn(5000)}, tmp_path, LIMIT)
    content = second.read_bytes()
    second.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"00001\.safetensors: its sha256"):
        load_shards(tmp_path)
    second.write_bytes(content)
    first.unlink()
    with pytest.raises(ValueError, match=r"00000\.safetensors: missing"):
        load_shards(tmp_path)


def test_a_folder_of_networks_is_packed_and_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network = ControlNetModel(block_out_channels=(32,), down_block_types=("DownBlock2D",), cross_attention_dim=8)
    trained, packed, again = (tmp_path / name for name in ("trained", "packed", "again"))
    network.save_pretrained(trained / "controlnet")
    (trained / "curves.csv").write_text("step,loss\n")
    torch.save({"optimizer": torch.ones(3)}, trained / "last.ckpt")
    main(["pack", str(trained), str(packed)])
    assert "1 files" in capsys.readouterr().out
    names = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()}
    weights = "controlnet/diffusion_pytorch_model.safetensors"
    assert names == {
        "curves.csv",
        "controlnet/config.json",
        f"{weights}.shards/{INDEX}",
        f"{weights}.shards/00000.safetensors",
    }
    main(["unpack", str(packed), str(again)])
    assert same(load_file(again / weights), rounded(network.state_dict()))
    opened: nn.Module = ControlNetModel.from_pretrained(again / "controlnet")
    assert same(opened.state_dict(), rounded(network.state_dict()))
    with pytest.raises(SystemExit, match="usage"):
        main(["pack", str(trained)])
    with pytest.raises(SystemExit, match="no such folder"):
        main(["pack", str(tmp_path / "nowhere"), str(packed)])
