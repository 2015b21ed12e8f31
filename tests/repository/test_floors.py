"""The package is a house with floors: imports go down, never up, and never round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mamba2_lab"

# From the ground up. A room may import from the floors below its own, and from itself.
FLOORS = (
    ("checks", "words", "interrupts"),
    ("machine", "operation"),
    ("config",),
    ("scan",),
    ("layers",),
    ("model",),
    ("fast", "text"),
    ("weights", "generation"),
    ("mamba2_lm", "data", "inspect", "sessions"),
    ("evaluation",),
    ("training", "yardsticks"),
    ("health",),
    ("benchmark",),
    ("course", "pretrained"),
    ("plots",),
    ("widgets",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MAY_IMPORT_FAST = {"", "fast", "mamba2_lm", "training", "benchmark"}  # "" is the root
SPINE = ("operation.py", "config/mamba2.py", "scan/*.py", "layers/*.py", "model/*.py")
BESIDE_IT = {  # other mixers, and other ways to keep weights
    *("scan/per_channel.py", "layers/mamba1.py"),
    *("scan/trapezoid.py", "layers/mamba3.py", "layers/rotary.py", "layers/turning_states.py"),
    *("layers/stored.py", "layers/rounded.py"),
    *("layers/attention.py", "layers/growing.py", "layers/mlp.py", "layers/layer_norm.py", "layers/mixers.py"),
}
LONGEST_SPINE = 1400
LONGEST_FILE = 400


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name, without the package's own: "scan.chunks"."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@cache
def imported(name: str) -> frozenset[str]:
    """The modules of the package that one imports, anywhere in it, for its types too."""
    return frozenset(_found(ast.parse(modules()[name].read_text(encoding="utf-8"))))


def _found(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition("mamba2_lab.")[2] for alias in node.names if "mamba2_lab." in alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mamba2_lab":
            module = node.module.partition(".")[2]
            for alias in node.names:  # a module, or a name of one
                whole = f"{module}.{alias.name}".lstrip(".")
                yield whole if whole in modules() else module


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_room_has_its_floor() -> None:
    assert {room(name) for name in modules()} - {""} == set(FLOOR_OF)


@pytest.mark.parametrize("name", sorted(set(modules()) - {""}))
def test_imports_go_down(name: str) -> None:
    here = room(name)
    up = {other for other in imported(name) - {""} if room(other) != here and FLOOR_OF[room(other)] >= FLOOR_OF[here]}
    assert not up, f"{name} imports from its own floor or from above"


def test_no_circle_of_modules_is_left() -> None:
    """Not inside of a room either. A package's own hand-on list counts as the package."""
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in sorted(imported(name) - {"", name}):
                follow(other, (*path, name))
            done.add(name)

    for name in sorted(modules()):
        follow(name, ())


def test_nothing_plain_imports_what_is_fast() -> None:
    users = {room(name) for name in modules() if any(room(other) == "fast" for other in imported(name))}
    assert users <= MAY_IMPORT_FAST
    assert "" in users, "importing the package registers the faster ways"


def test_the_spine_is_read_in_an_evening() -> None:
    """What a Mamba-2 is: the operation, its fields, its scans, its layers, the model; docstrings included."""
    files = {path for pattern in SPINE for path in PACKAGE.glob(pattern)} - {PACKAGE / name for name in BESIDE_IT}
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= LONGEST_SPINE


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_file_is_long(name: str) -> None:
    if not name.startswith("course.exercises"):
        assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_no_module_bears_the_name_of_what_its_package_hands_on() -> None:
    for name, path in modules().items():
        if path.name == "__init__.py" and name:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            handed = {
                alias.asname or alias.name
                for node in tree.body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if f"{(node.module or '').partition('.')[2]}.{alias.name}" not in modules()
            }
            assert not {name for name in handed if (path.parent / f"{name}.py").exists()}
