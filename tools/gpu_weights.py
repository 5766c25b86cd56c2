"""What a call of ``tools/gpu.py`` has trained so far, as parts of one tar that travel: ``gpu_weights.py WORK OUT``."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

from dermprompt.export.box import write_box

PART, MAX_PARTS = 16 * 2**20 - 2**12, 4


def newest(work: Path, pattern: str, name: str) -> Path | None:
    """The last finished artifact of that name; else what an earlier call brought back of it, if it did."""
    made = [path for path in (work / "store").glob(pattern) if path.suffix != ".partial"]
    found = [path for path in made if (path / "artifact.json").exists()]
    carried = work / "carried" / name
    last = max(found, key=lambda path: path.stat().st_mtime, default=carried)
    return last if last.is_dir() else None


def main() -> None:
    """Write ``weights.tar.0`` and so on; a digest at their end says that they belong together."""
    work, out = map(Path, sys.argv[1:])
    base = newest(work, "train_base/*", "base")
    generators = [newest(work, f"train_generator/{name}-*", name) for name in ("controlnet", "pix2pixhd")]
    box = work / "box"
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir()
    write_box(base, *generators, None, box)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        tar.add(box, ".")
    content = tarred.getvalue()
    content += hashlib.sha256(content).digest()
    parts = [content[start : start + PART] for start in range(0, len(content), PART)]
    if len(parts) > MAX_PARTS:
        sys.exit(f"error: {len(parts)} parts of weights; {MAX_PARTS} can travel")
    staged = [out.with_name(f"{out.name}.weights.tar.{number}.tmp") for number in range(len(parts))]
    for path, part in zip(staged, parts, strict=True):  # beside OUT, where they do not count
        path.write_bytes(part)
    for number, path in enumerate(staged):
        os.replace(path, out / f"weights.tar.{number}")


if __name__ == "__main__":
    main()
