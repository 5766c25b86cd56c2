"""Where a pretrained base comes from: a folder in diffusers' format, or a hub id."""

from __future__ import annotations

from pathlib import Path

PARTS = ("unet", "vae", "text_encoder", "scheduler")
# Not the half-precision and other variants that lie beside them.
FILES = ("*.json", "diffusion_pytorch_model.safetensors", "model.safetensors")


def resolve_base(path: str) -> Path:
    """The local folder of a base that is given as a folder or as a hub id (downloaded then).

    Raises:
        ValueError: it is neither, or a part is missing.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = _download(path)
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ValueError(
            f"generator.base.path={path}: no {', '.join(missing)} in it; a base in diffusers' format has "
            f"the folders {', '.join(PARTS)}"
        )
    return folder


def stamps(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a local file or of the files in a folder; empty for a hub id."""
    assert path, "an empty path is the working directory"
    root = Path(path).expanduser()
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    return [(str(one.relative_to(root)), one.stat().st_size, one.stat().st_mtime_ns) for one in files]


def _download(path: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=[f"{part}/{name}" for part in PARTS for name in FILES]))
    except Exception as error:
        raise ValueError(
            f"generator.base.path={path}: neither a folder nor a model that the hub gives "
            f"({type(error).__name__}); download it elsewhere and set generator.base.path to its folder, or "
            "train a small one here with generator/base=scratch"
        ) from error
