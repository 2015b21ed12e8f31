"""Every exercise of the course, one module per chapter; `mamba2_lab.course.declare` says how one is written.

The modules are imported when an exercise is first asked for, not before.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from mamba2_lab.course.declare import Exercise


def find(name: str) -> Exercise:
    """The exercise of that name.

    Raises:
        ValueError: if there is none; it lists names that come close.
    """
    exercises = all_exercises()
    if name not in exercises:
        close = difflib.get_close_matches(name, exercises, n=3) or sorted(exercises)
        raise ValueError(f"name must be that of an exercise, such as {', '.join(close)}; got {name!r}")
    return exercises[name]


@functools.cache
def all_exercises() -> dict[str, Exercise]:
    """Exercises by name, in the order of the chapters and of their declaration.

    Raises:
        ValueError: if two share a name.
    """
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return by_name([value for module in modules for value in _declared_in(module)])


def by_name(declared: Sequence[Exercise]) -> dict[str, Exercise]:
    """The same, sorted by chapter, under their names; ValueError if two share one."""
    exercises: dict[str, Exercise] = {}
    for exercise in sorted(declared, key=lambda exercise: exercise.chapter.number):
        if exercise.name in exercises:
            numbers = exercises[exercise.name].chapter.number, exercise.chapter.number
            raise ValueError(f"exercises must have names of their own; chapters {numbers} share {exercise.name!r}")
        exercises[exercise.name] = exercise
    return exercises


def _declared_in(module: ModuleType) -> list[Exercise]:
    """Its own exercises, not those imported from another chapter."""
    found = [value for value in vars(module).values() if isinstance(value, Exercise)]
    return [exercise for exercise in found if exercise.reference.__module__ == module.__name__]
