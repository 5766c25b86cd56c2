"""What the documents say holds: their commands compose and pass the checks, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from miniature import CONF, compose

from dermprompt.config.schema import STAGES

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/*.md"))]
DOCUMENTS += sorted(REPOSITORY.glob("experiments/**/README.md"))


def commands(path: Path) -> list[str]:
    """Arguments of each ``python -m dermprompt`` in the document's blocks of shell code."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text().replace("\\\n", " "), re.S)
    return [
        line
        for block in blocks
        for line in re.findall(r"python -m dermprompt +([^#\n]*)", block)
        if "-sc install" not in line
    ]


# What brings its own images.
BUNDLED = ("data=phantom", "data=sample", "+experiment=demo", "+experiment=phantom", "+experiment=studio")
COMMANDS = sorted({line.strip() for path in DOCUMENTS for line in commands(path)})


def overrides(line: str) -> list[str]:
    """A command's overrides: of a sweep over several values the first, and without Hydra's own flags and launcher."""
    words = [word for word in shlex.split(line) if "=" in word and not word.startswith(("hydra", "-", "install"))]
    return [re.sub(r"=([^\[{]*?),.*", r"=\1", word) for word in words]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_composes(line: str) -> None:
    words = overrides(line)
    bundled = any(word in BUNDLED for word in words)
    root = [] if bundled or any(word.startswith("data.root=") for word in words) else ["data.root=/data"]
    assert compose(*words, *root).stage in STAGES


def what_to_type() -> list[str]:
    """The settings in the last column of docs/data.md's table of data sets, each by itself."""
    table = re.search(r"\| you have \| type \|\n.*?\n\n", (REPOSITORY / "docs/data.md").read_text(), re.S)
    assert table is not None
    return [
        span for row in table[0].splitlines()[2:-1] for span in re.findall(r"`([^`]*=[^`]*)`", row.split(" | ")[-1])
    ]


@pytest.mark.parametrize("span", what_to_type())
def test_what_to_type_for_ones_data_composes(span: str) -> None:
    words = overrides(span)
    kind = [] if any(word.startswith("data=") for word in words) else ["data=folder"]
    root = [] if span in BUNDLED else ["data.root=/data"]
    assert compose(*kind, *words, *root).data.name in span + str(kind)


def typed(path: Path) -> list[str]:
    """What a reader may paste into a shell: commands of the package, and settings between backquotes or in examples."""
    text = path.read_text()
    spans = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"# .*for example (.*)", text)]
    return [*commands(path), *(span for span in spans if re.match(r"['+~\w./@]+=[^|…]+$", span))]


TYPED = sorted({line.strip() for path in (*DOCUMENTS, *CONF.rglob("*.yaml")) for line in typed(path)})


def in_bash(lines: list[str]) -> list[list[str]]:
    """The words that bash makes of each line."""
    script = "\n".join(f"printf '%s\\0' {line}; printf '\\n\\0'" for line in lines)
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd="/").stdout
    return [block.split("\0")[:-1] for block in said.split("\n\0")[:-1]]


def test_a_pasted_command_reaches_the_program_as_it_is_written() -> None:
    """No brace, star or bracket is left to the shell."""
    lines = [line for line in TYPED if "$" not in line]
    assert len(lines) > len(COMMANDS)
    assert in_bash(lines) == [shlex.split(line) for line in lines]
    assert in_bash(["prompts.mix={MEL:0.5,BKL:0.5}"]) != [["prompts.mix={MEL:0.5,BKL:0.5}"]]


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 20


def test_links_lead_to_files_and_headings() -> None:
    broken = []
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            name, _, heading = link.partition("#")
            target = path if not name else path.parent / name
            known = link.startswith("http") or (target.exists() and (not heading or heading in headings(target)))
            broken += [] if known else [f"{path.name}: {link}"]
    assert broken == []


def headings(path: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


def test_every_document_is_linked_from_the_readme() -> None:
    text = DOCUMENTS[0].read_text()
    assert [path.name for path in sorted(REPOSITORY.glob("docs/*.md")) if f"docs/{path.name}" not in text] == []
    assert len(text.splitlines()) <= 150


def test_drawing_needs_nothing_from_elsewhere() -> None:
    drawing = (REPOSITORY / "docs/pipeline.svg").read_text()
    assert not re.search(r"href=\"(?!#)|url\((?!#)|@import|<script", drawing)


def test_overrides_take_the_first_value_of_a_sweep() -> None:
    assert overrides("-m a=x,y b=[1,2] c={M:1,N:2}") == ["a=x", "b=[1,2]", "c={M:1,N:2}"]
