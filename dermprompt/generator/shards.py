"""Splits weights into small files, for places that accept no large ones: bfloat16, at most 16 MiB each, checksums.

``python -m dermprompt.generator.shards pack FOLDER OUT`` splits the safetensors files below a folder and copies the
other files; ``unpack OUT FOLDER`` restores them, in float32. Training states (``*.ckpt``) are left out.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save, save_file
from torch import Tensor

from dermprompt.entry import in_words
from dermprompt.files import check_name, read_json, reading, sha256, write_bytes, write_json
from dermprompt.tensors import SAFETENSORS, load_tensors

LIMIT = 16 * 2**20
INDEX = "shards.json"
SUFFIX = ".shards"
# Bytes reserved in a file's header for each tensor, besides its name.
_HEADER = 192


def save_shards(state: Mapping[str, Tensor], folder: Path, limit: int = LIMIT) -> list[Path]:
    """Write tensors to files of at most ``limit`` bytes and an index; return the files.

    Floating-point tensors become bfloat16; others keep their type. A tensor larger than a file is flattened and
    split. The index, ``shards.json``, has each tensor's shape and pieces, and each file's sha256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index: dict = {"tensors": {key: {"shape": list(value.shape), "pieces": []} for key, value in state.items()}}
    sums = {}
    for number, shard in enumerate(_shards(state, limit)):
        name, content = f"{number:05d}.safetensors", save(shard, {"format": "pt"})
        assert len(content) <= limit, (name, len(content))
        write_bytes(folder / name, content)
        sums[name] = sha256(content)
        for piece in shard:
            index["tensors"][piece.rpartition("/")[0]]["pieces"].append([name, piece])
    write_json(folder / INDEX, index | {"sha256": sums})
    return [folder / name for name in sums]


def load_shards(folder: Path) -> dict[str, Tensor]:
    """Read what :func:`save_shards` wrote; bfloat16 becomes float32.

    Raises:
        ValueError: a file, or the index, is missing or damaged.
    """
    with reading(folder / INDEX):
        index = read_json(folder / INDEX, dict)
        sums = index["sha256"].items()
        shards = {name: _read(folder / check_name("its file", name), expected) for name, expected in sums}
        state = {}
        for key, entry in index["tensors"].items():
            pieces = [shards[name][piece] for name, piece in entry["pieces"]]
            whole = torch.cat(pieces).reshape(entry["shape"])
            state[key] = whole.float() if whole.dtype == torch.bfloat16 else whole
    return state


def _read(path: Path, expected: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: missing; copy it again")
    if sha256(path) != expected:
        raise ValueError(f"{path}: its sha256 differs from {INDEX}; copy it again")
    return load_tensors(path)


def _shards(state: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    """The pieces in order, grouped to fill one file each."""
    shard: dict[str, Tensor] = {}
    size = _HEADER
    for name, piece in _pieces(state, limit):
        cost = piece.nbytes + len(name) + _HEADER
        if shard and size + cost > limit:
            yield shard
            shard, size = {}, _HEADER
        shard[name] = piece
        size += cost
    if shard:
        yield shard


def _pieces(state: Mapping[str, Tensor], limit: int) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        flat = value.detach().cpu().flatten()
        flat = flat.bfloat16() if flat.is_floating_point() else flat
        length = (limit - len(key) - 3 * _HEADER) // flat.element_size()
        for number, piece in enumerate(flat.split(length)):
            yield f"{key}/{number}", piece.clone()  # a view would be saved with its whole tensor


def pack_folder(folder: Path, out: Path) -> None:
    """Write a folder of networks as shards, with a separate folder for each file of weights."""
    for path in _files(folder):
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == SAFETENSORS:
            files = save_shards(load_tensors(path), target.with_name(target.name + SUFFIX))
            print(f"{path}: {len(files)} files, {sum(file.stat().st_size for file in files) / 2**20:.1f} MiB")
        elif path.suffix != ".ckpt":
            shutil.copyfile(path, target)


def unpack_folder(folder: Path, out: Path) -> None:
    """Restore a folder from the output of :func:`pack_folder`, with weights rounded to bfloat16.

    Raises:
        ValueError: see :func:`load_shards`.
    """
    for path in _files(folder):
        target = out / path.relative_to(folder)
        if path.name == INDEX:
            whole = target.parent.with_suffix("")
            whole.parent.mkdir(parents=True, exist_ok=True)
            save_file(load_shards(path.parent), whole, {"format": "pt"})
        elif path.parent.suffix != SUFFIX:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _files(folder: Path) -> list[Path]:
    """All files below a folder. Raises ValueError for a link out of it, whose target was hardly meant to be copied."""
    root, paths = folder.resolve(), sorted(folder.rglob("*"))
    for path in paths:
        if not path.resolve().is_relative_to(root):
            raise ValueError(f"{path}: a link that leads out of {folder}; put the file itself there")
    return [path for path in paths if path.is_file()]


def main(arguments: list[str]) -> None:
    """Run ``pack FROM TO`` or ``unpack FROM TO``."""
    actions = {"pack": pack_folder, "unpack": unpack_folder}
    if len(arguments) != 3 or arguments[0] not in actions:
        raise SystemExit("usage: python -m dermprompt.generator.shards pack|unpack FROM TO")
    source, target = map(Path, arguments[1:])
    if not source.is_dir():
        raise SystemExit(f"{source}: no such folder")
    actions[arguments[0]](source, target)


if __name__ == "__main__":
    in_words(lambda: main(sys.argv[1:]))()
