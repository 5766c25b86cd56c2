"""Reads weights from files without executing code, and loads them into networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from dermprompt.files import reading

Network = TypeVar("Network", bound=nn.Module)
SAFETENSORS = ".safetensors"


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle that holds only tensors; fails like :func:`reading`."""
    with reading(path):
        if not path.is_file():
            raise ValueError("no such file")
        if path.suffix == SAFETENSORS:
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not all(
            isinstance(key, str) and isinstance(one, Tensor) for key, one in found.items()
        ):
            raise ValueError("it holds more than a dictionary of tensors")
    return found


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file as NumPy arrays; fails like :func:`reading`."""
    return {key: value.numpy() for key, value in load_tensors(path).items()}


def check_weights(path: Path) -> None:
    """Check a file by its header, which states the file's length; a pickle has no header and is read entirely.

    Raises:
        ValueError: the file does not exist or is damaged; names it.
    """
    with reading(path):
        if path.suffix != SAFETENSORS:
            load_tensors(path)
        elif not path.is_file():
            raise ValueError("no such file")
        else:
            with safe_open(path, "pt") as file:
                assert file.keys() is not None


def fill(network: Network, state: dict[str, Tensor], path: Path, strict: bool = True) -> Network:
    """Load ``state``, read from ``path``, into a network. Raises ValueError if it belongs to another network."""
    with reading(path):
        network.load_state_dict(state, strict=strict)
    return network


def open_pretrained(kind: Any, folder: Path) -> Any:
    """Load a diffusers network or scheduler from its folder, requiring all weights; fails like :func:`reading`."""
    with reading(folder):
        if not issubclass(kind, nn.Module):
            return kind.from_pretrained(folder)
        network, found = kind.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        if found["missing_keys"]:
            raise ValueError(f"{len(found['missing_keys'])} weights are missing, such as {found['missing_keys'][0]}")
    return network
