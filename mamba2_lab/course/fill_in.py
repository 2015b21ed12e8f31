"""Fill in the exercises of a notebook, as readers would: to test that it runs whatever they write."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mamba2_lab.course import exercises
from mamba2_lab.course.declare import Exercise
from mamba2_lab.course.source import source_of

if TYPE_CHECKING:
    from nbformat import NotebookNode


class Blank(NamedTuple):
    """A function under `@exercise(name)`: the cell it stands in, counted from 0, and its syntax tree."""

    cell: int
    name: str
    function: ast.FunctionDef


def blanks(notebook: NotebookNode) -> list[Blank]:
    """Every exercise of a notebook, from top to bottom."""
    return [
        Blank(number, name, statement)
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and "@exercise(" in cell.source
        for statement in ast.parse(cell.source).body
        if isinstance(statement, ast.FunctionDef) and (name := _exercise_name(statement))
    ]


def solved(notebook: NotebookNode) -> NotebookNode:
    """A copy in which every exercise is answered with the source of its reference."""
    return _filled_in(notebook, lambda exercise: exercise.reference)


def answered_wrongly(notebook: NotebookNode, i: int) -> NotebookNode:
    """A copy in which every exercise is answered with its wrong answer number i, counted around if it has fewer."""
    return _filled_in(notebook, lambda exercise: exercise.wrong_answers[i % len(exercise.wrong_answers)].function)


def _filled_in(notebook: NotebookNode, choose: Callable[[Exercise], Callable[..., Any]]) -> NotebookNode:
    """A copy with other functions under the decorators; each keeps the name it had in its cell."""
    notebook = copy.deepcopy(notebook)
    for blank in reversed(blanks(notebook)):  # from the bottom up: what is replaced leaves the lines above in place
        cell, node = notebook.cells[blank.cell], blank.function
        source = source_of(choose(exercises.find(blank.name)), name=node.name)
        lines = cell.source.splitlines()
        lines[node.lineno - 1 : node.end_lineno] = source.splitlines()
        cell.source = "\n".join(lines)
    return notebook


def _exercise_name(function: ast.FunctionDef) -> str:
    """The name in `@exercise("name")`; empty if no such decorator stands above."""
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="exercise"), args=[ast.Constant(value=str(name))]):
                return name
    return ""
