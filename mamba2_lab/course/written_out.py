"""A function written in another way that does the same: what a name stands for, written where it is used."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mamba2_lab.course.edits import Edit, Surroundings, without

Tree = TypeVar("Tree", bound=ast.AST)


def added_last(value: ast.expr, around: Surroundings) -> Iterator[Edit]:
    """What is returned, with a parameter left out of a call within it and added at the end."""
    for number, node in enumerate(ast.walk(value)):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        for i, argument in enumerate(node.args):
            if isinstance(argument, ast.Name) and argument.id in around.parameters:
                copied = copy.deepcopy(value)
                same = next(itertools.islice(ast.walk(copied), number, None))
                rest = _replaced(copied, same, without(node, i))
                spared = ast.parse(f"0 if {argument.id} is None else {argument.id}", mode="eval").body
                yield f"`{argument.id}` were added last", ast.BinOp(rest, ast.Add(), spared)


def written_out(tree: ast.FunctionDef) -> ast.FunctionDef:
    """A copy in which what a name stands for is written where it is used, if that is once."""
    tree = copy.deepcopy(tree)
    for statement in list(tree.body):
        if not (isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name)):
            continue
        named = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name.id]
        if len(named) == 2:  # where it is set, and where it is used
            tree.body.remove(statement)
            tree = _replaced(tree, named[1], statement.value)
    return tree


def each_use(tree: ast.FunctionDef) -> Iterator[tuple[ast.FunctionDef, ast.expr]]:
    """For each use of a name that is set once and used several times: a copy in which its value stands there."""
    for statement in tree.body:
        if not (isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name)):
            continue
        named = [i for i, node in enumerate(ast.walk(tree)) if isinstance(node, ast.Name) and node.id == name.id]
        for place in named[1:] if len(named) > 2 else []:
            copied = copy.deepcopy(tree)
            value = copy.deepcopy(statement.value)
            yield _replaced(copied, next(itertools.islice(ast.walk(copied), place, None)), value), value


class Replacing(ast.NodeTransformer):
    """Puts what a function gives for a node in its place; where it gives None, the node stays."""

    def __init__(self, instead: Callable[[ast.AST], ast.AST | None]) -> None:
        self.instead = instead

    def visit(self, node: ast.AST) -> Any:
        new = self.instead(node)
        return super().generic_visit(node) if new is None else new


def _replaced(tree: Tree, old: ast.AST | None, new: ast.AST) -> Tree:
    """The tree with one node in the place of another."""
    replaced: Tree = Replacing(lambda node: new if node is old else None).visit(tree)
    return replaced
