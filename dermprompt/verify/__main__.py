"""Checks whether a user's Stable Diffusion folder works here: a table of checks, and the hashes of its weights.

``python -m dermprompt.verify FOLDER [OUTPUT]`` (``make verify-sd PATH=FOLDER``) takes minutes on a CPU.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dermprompt.entry import in_words, interruptible
from dermprompt.files import sha256, write_bytes, write_json

with interruptible():
    from dermprompt.verify import checks
    from dermprompt.verify.checks import Check, Family

OUTPUT = Path("experiments/verify_sd")
PARTS = ("unet", "vae", "text_encoder")
LIBRARIES = ("torch", "diffusers", "transformers", "open_clip_torch")


def verify(folder: Path, size: int = 256, num_steps: int = 4) -> dict[str, Any]:
    """All checks of a folder with results and seconds; the hashes; the versions of the libraries.

    ``size`` and ``num_steps``: of the image that is compared. A check that cannot run counts as failed.
    """
    start = time.monotonic()
    rows = _run("parts and family", lambda: [checks.check_parts(folder)])
    if rows[0]["passed"]:
        others = _checks(folder, checks.family_of(folder), size, num_steps)
        rows += [row for name, check in others for row in _run(name, check)]
    return {
        "folder": folder.resolve().name,
        "passed": all(row["passed"] for row in rows),
        "image": {"size": size, "steps": num_steps},
        "seconds": time.monotonic() - start,
        "checks": rows,
        "sha256": hashes(folder),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _checks(folder: Path, family: Family, size: int, num_steps: int) -> list[tuple[str, Callable[[], list[Check]]]]:
    """The other checks, with the names used if they cannot run."""
    keys = [
        (f"keys: {part}", lambda part=part: [checks.check_keys(folder, part, family)])  # type: ignore[misc]
        for part in PARTS
    ]
    return [
        *keys,
        ("token ids", lambda: [checks.check_tokens(folder, family)]),
        ("text states", lambda: [checks.check_text(folder, family)]),
        ("image", lambda: checks.check_image(folder, family, size, num_steps)),
        ("ten training steps", lambda: [checks.check_training(folder, family, size)]),
    ]


def _run(name: str, check: Callable[[], list[Check]]) -> list[dict[str, Any]]:
    start = time.monotonic()
    try:
        found = check()
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        found = [Check(name, False, " ".join(f"{type(error).__name__}: {error}".split()), "that it runs")]
    seconds = time.monotonic() - start
    rows = [{**dataclasses.asdict(one), "seconds": seconds} for one in found]
    for row in rows:
        print(f"{_word(row)}  {row['name']}: {row['measured']} (allowed: {row['allowed']})", flush=True)
    return rows


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 (hex) of each weights file that is opened."""
    files = [file for part in PARTS if (folder / part).is_dir() for file in checks.weight_files(folder / part)]
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def _word(row: dict[str, Any]) -> str:
    return "pass" if row["passed"] else "FAIL"


def as_markdown(found: dict[str, Any]) -> str:
    """The results as a page: a table of the checks, then the hashes."""
    size, steps, minutes = found["image"]["size"], found["image"]["steps"], found["seconds"] / 60
    checks = [
        f"| {row['name']} | {_word(row)} | {row['measured']} | {row['allowed']} | {row['seconds']:.0f} |"
        for row in found["checks"]
    ]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [
        f"# {found['folder']}: {'every check passed' if found['passed'] else 'it does not work here'}",
        "",
        f"`make verify-sd PATH={found['folder']}`, {minutes:.1f} minutes on a CPU, float32; the image has "
        f"{size}×{size} pixels and {steps} steps. {versions}.",
        "",
        "| check | | measured | allowed | seconds |",
        "| --- | --- | --- | --- | ---: |",
        *checks,
        "",
        "| file | sha256 |",
        "| --- | --- |",
        *(f"| {name} | `{digest}` |" for name, digest in found["sha256"].items()),
    ]
    return "\n".join(lines) + "\n"


@in_words
def main() -> None:
    """Verify the folder named on the command line; write the page; exit with 1 if a check fails."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m dermprompt.verify FOLDER [OUTPUT]   (make verify-sd PATH=FOLDER)")
    folder = Path(sys.argv[1]).expanduser()
    if not folder.is_dir():
        sys.exit(f"error: {folder}: no such folder")
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else OUTPUT / folder.resolve().name
    found = verify(folder)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "checks.json", found)
    write_bytes(output / "README.md", as_markdown(found).encode())
    print(f"{output / 'README.md'}")
    if not found["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
