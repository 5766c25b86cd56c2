"""What a call of ``tools/gpu.py`` has trained so far, as parts of one tar that travel: ``gpu_weights.py WORK OUT``."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

from dermprompt.export.box import write_box

PART, MAX_PARTS = 16 * 2**20 - 2**12, 4


def newest(store: Path, pattern: str) -> Path | None:
    """The last finished artifact of that name."""
    found = [path for path in store.glob(pattern) if (path / "artifact.json").exists() and path.suffix != ".partial"]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def main() -> None:
    """Write ``weights.tar.0`` and so on, whole or not at all."""
    work, out = map(Path, sys.argv[1:])
    carried, box = work / "carried", work / "box"
    base = newest(work / "store", "train_base/*") or (carried / "base" if (carried / "base").is_dir() else None)
    generators = [newest(work / "store", f"train_generator/{name}-*") for name in ("controlnet", "pix2pixhd")]
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir()
    write_box(base, *generators, None, box)
    whole = work / "weights.tar"
    with tarfile.open(whole, "w") as tar:
        tar.add(box, ".")
    content = whole.read_bytes()
    parts = [content[start : start + PART] for start in range(0, len(content), PART)]
    if len(parts) > MAX_PARTS:
        sys.exit(f"error: {len(parts)} parts of weights; {MAX_PARTS} can travel")
    for number, part in enumerate(parts):
        staged = out.with_name(f"{out.name}.weights.tar.{number}.tmp")  # beside OUT, where it does not count
        staged.write_bytes(part)
        os.replace(staged, out / f"weights.tar.{number}")


if __name__ == "__main__":
    main()
