"""The rules of the house, held by its imports. ``python tests/test_layers.py`` prints what breaks them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dermprompt"
SCIENCE = ("curation", "data", "evaluation", "generator", "masks", "prompts", "report", "segmenter", "synthesis")
# From the top down. A room imports those below it, and none beside it.
LAYERS = (
    ("__main__",),
    ("studio", "sweep", "verify"),
    ("job",),
    ("export",),
    ("pipeline",),
    ("pipeline_generators",),
    ("pipeline_data",),
    ("stages",),
    ("training",),
    ("distributed",),
    ("cost",),
    ("config",),
    SCIENCE,
    ("results", "store"),
    ("entry", "pretrained"),
    ("tensors", "upstream"),
    ("files", "lesion", "mapped", "progress", "weights"),
)
HEIGHT = {room: -depth for depth, rooms in enumerate(LAYERS) for room in rooms}
HYDRA_USERS = {
    "__main__.py",
    "config/compose.py",
    "config/constraints.py",
    "config/generators.py",
    "config/schema.py",
    "config/targets.py",
    "sweep/page.py",
}
WANDB_USER = "training/wandb_send.py"
MAX_FILE_LINES, MAX_FUNCTION_LINES = 450, 60

# A module imports another, or names something in it by a dotted string that is resolved when there is work.
Arrow = tuple[str, str]


def modules() -> dict[str, ast.Module]:
    """All modules by their dotted names; a package is its ``__init__``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text())
    return found


def arrows(trees: dict[str, ast.Module]) -> set[Arrow]:
    """Which module of the package needs which."""
    return {(name, one) for name, tree in trees.items() for one in _named(tree) if one in trees and one != name}


def _named(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports, or names in a string as ``package.module.function``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"dermprompt(\.\w+)+\.\w+", str(node.value)):
            yield node.value.rpartition(".")[0]


def room_of(module: str) -> str:
    """The room, or the file on the top level, that a module lies in."""
    return [*module.split("."), "__init__"][1]


def wrong_arrows(found: set[Arrow]) -> list[Arrow]:
    """Those that point up, or to a neighbour."""
    between = [(a, b) for a, b in found if room_of(a) != room_of(b) and "__init__" not in (room_of(a), room_of(b))]
    return sorted((a, b) for a, b in between if HEIGHT[room_of(a)] <= HEIGHT[room_of(b)])


def circles(found: set[Arrow]) -> list[list[str]]:
    """Groups of modules that need each other."""
    needs: dict[str, set[str]] = {}
    for a, b in found:
        needs.setdefault(a, set()).add(b)
    below = {module: _reached(module, needs) for module in needs}
    groups = {frozenset(b for b in below[a] if a in below.get(b, ())) for a in below if a in below[a]}
    return sorted(sorted(group) for group in groups)


def _reached(start: str, needs: dict[str, set[str]]) -> set[str]:
    """All that a module needs, on however many steps; itself if it stands in a circle."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = needs.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def test_every_room_has_its_place():
    assert {room_of(name) for name in modules()} - {"__init__"} <= set(HEIGHT)


def test_contributing_names_every_room():
    named = set(re.findall(r"`(\w+)`", (PACKAGE.parent / "CONTRIBUTING.md").read_text()))
    assert {room_of(name) for name in modules()} - {"__init__"} <= named


def test_imports_point_down():
    assert wrong_arrows(arrows(modules())) == []


def test_no_modules_need_each_other():
    assert circles(arrows(modules())) == []


def test_the_pipeline_stands_above_the_work_that_it_names():
    assert ("dermprompt.pipeline_data", "dermprompt.stages.prepare") in arrows(modules())


def test_a_wrong_arrow_and_a_circle_are_found():
    found = {("dermprompt.masks.a", "dermprompt.prompts.b"), ("dermprompt.store.a", "dermprompt.job.b")}
    assert wrong_arrows(found) == sorted(found)
    assert circles({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}) == [["b", "c"]]


def test_packages_import_nothing():
    for path in PACKAGE.rglob("__init__.py"):
        assert not _roots(ast.parse(path.read_text())), path


def test_hydra_stays_in_its_places():
    users = {_file(name) for name, tree in modules().items() if _roots(tree) & {"hydra", "omegaconf"}}
    assert users == HYDRA_USERS


def test_wandb_is_imported_in_one_place_and_only_when_used():
    assert [_file(name) for name, tree in modules().items() if "wandb" in _roots(tree)] == [WANDB_USER]
    body = ast.parse((PACKAGE / WANDB_USER).read_text()).body
    assert not any("wandb" in _roots(ast.Module([node], [])) for node in body if _is_import(node))


def _is_import(node: ast.stmt) -> bool:
    """Whether an import stands where the module is read, not in a function or for the types alone."""
    return isinstance(node, ast.Import | ast.ImportFrom)


def _file(module: str) -> str:
    return module.removeprefix("dermprompt.").replace(".", "/") + ".py"


def _roots(tree: ast.Module) -> set[str]:
    """The top-level names of what a module imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.split(".")[0] for name in names} - {"__future__"}


def test_other_organs_find_no_word_of_dermatology():
    words = re.compile(r"\b(skin|cutaneous|dermat\w+|dermosc\w+|melan\w+|na?ev(us|i)|moles?|kerato\w+|ISIC_\d)", re.I)
    for path in PACKAGE.rglob("*.*"):
        room = path.relative_to(PACKAGE).parts[0]
        if path.suffix in (".py", ".html", ".css", ".js") and room not in ("data", "prompts", "weights"):
            assert not words.search(path.read_text()), path


def test_files_and_functions_stay_readable():
    for path in PACKAGE.rglob("*.py"):
        name, text = str(path.relative_to(PACKAGE)), path.read_text()
        assert len(text.splitlines()) <= MAX_FILE_LINES, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{name}:{node.name}"


def main() -> None:
    """Print the arrows that point up or to a neighbour, and the circles."""
    found = arrows(modules())
    for a, b in wrong_arrows(found):
        print(f"{a} -> {b}")
    for group in circles(found):
        print("circle:", " ".join(group))
    rooms = {(room_of(a), room_of(b)) for a, b in found if room_of(a) != room_of(b)}
    print(f"{len(found)} arrows between modules, {len(rooms)} between rooms")


if __name__ == "__main__":
    main()
