"""The rules of the house, held by its imports: they point down, neighbours do not know each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dermprompt"
ROOMS = {"data", "masks", "prompts", "generator", "synthesis", "curation", "segmenter", "evaluation", "report"}
# What every room may import.
FLOOR = {"lesion", "results", "results_labels", "files", "locks", "pretrained"}
HYDRA_USERS = {"__main__.py", "config.py", "schema.py", "schema_generator.py", "sweep.py"}


def modules() -> dict[str, ast.Module]:
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names.add(str(node.module))
    return names


def own(tree: ast.Module) -> set[str]:
    """The rooms or files of the package that a module imports."""
    return {name.split(".")[1] for name in imported(tree) if name.startswith("dermprompt.")}


def test_rooms_do_not_know_each_other():
    for name, tree in modules().items():
        room = name.split("/")[0]
        if room in ROOMS:
            assert own(tree) <= {room} | FLOOR, name


def test_the_floor_imports_no_room():
    trees = modules()
    for name in (
        "lesion.py",
        "files.py",
        "results.py",
        "results_labels.py",
        "results_file.py",
        "schema_generator.py",
        "pretrained.py",
        "store.py",
        "locks.py",
        "schema.py",
        "cost.py",
        "training.py",
        "checkpoints.py",
        "progress.py",
        "tracking.py",
    ):
        others = {"schema", "schema_generator", "progress", "checkpoints", "store", "tracking"}
        assert own(trees[name]) <= FLOOR | others, name


def test_hydra_stays_in_its_places():
    users = {name for name, tree in modules().items() if _roots(tree) & {"hydra", "omegaconf"}}
    assert users == HYDRA_USERS


def test_wandb_is_imported_in_one_place_and_only_when_used():
    assert [name for name, tree in modules().items() if "wandb" in _roots(tree)] == ["tracking.py"]
    first = {name for node in modules()["tracking.py"].body for name in _roots(ast.Module([node], [])) if _runs(node)}
    assert "wandb" not in first


def _runs(node: ast.stmt) -> bool:
    """Whether an import stands where the module is read, not in a function or for the types alone."""
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_other_organs_find_no_word_of_dermatology():
    words = re.compile(r"\b(skin|cutaneous|dermat\w+|dermosc\w+|melan\w+|na?ev(us|i)|moles?|kerato\w+|ISIC_\d)", re.I)
    for path in PACKAGE.rglob("*.*"):
        room = path.relative_to(PACKAGE).parts[0]
        if path.suffix in (".py", ".html", ".css", ".js") and room not in ("data", "prompts"):
            assert not words.search(path.read_text()), path


def test_files_and_functions_stay_small():
    for name, tree in modules().items():
        assert len((PACKAGE / name).read_text().splitlines()) <= 320, name
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{name}:{node.name}"


def _roots(tree: ast.Module) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)}
