"""The lists in ``--help``: the experiments and groups of ``conf``, described by the comments in their files."""

from __future__ import annotations

import textwrap
from pathlib import Path

WIDTH = 120
# Groups not listed: chosen by ``scale``; Hydra's own; listed separately.
HIDDEN = ("scaled", "hydra", "experiment")


def experiments(conf: Path) -> str:
    """Each experiment with the first line of its file's comment."""
    files = sorted((conf / "experiment").glob("*.yaml"))
    return _table({file.stem: _first_comment(file) for file in files})


def groups(conf: Path) -> str:
    """Each group with a choice of options, except those chosen by ``scale``."""
    paths = sorted({file.relative_to(conf).parent for file in conf.glob("*/**/*.yaml")})
    shown = [path for path in paths if not set(path.parts) & set(HIDDEN)] + [Path("hydra/launcher")]
    options = {str(path): sorted(file.stem for file in (conf / path).glob("*.yaml")) for path in shown}
    return _table({path: ", ".join(names) for path, names in options.items() if names != ["default"]})


def _first_comment(file: Path) -> str:
    lines = (line.removeprefix("# ") for line in file.read_text().splitlines() if line.startswith("# "))
    return next((line for line in lines if not line.startswith("@package")), "")


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    lines = (
        textwrap.fill(text, WIDTH, initial_indent=f"  {name:{width}}  ", subsequent_indent=" " * (width + 4))
        for name, text in rows.items()
    )
    return "\n".join(lines)
