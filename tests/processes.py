"""What runs on this machine (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line names the folder, of those that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
