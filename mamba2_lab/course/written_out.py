"""A function written in another way that does the same: what a name stands for, written where it is used."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator
from typing import Any

from mamba2_lab.course.edits import Edit, Surroundings, without


def added_last(value: ast.expr, around: Surroundings) -> Iterator[Edit]:
    """What is returned, with a parameter left out of a call within it and added at the end."""
    for number, node in enumerate(ast.walk(value)):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        for i, argument in enumerate(node.args):
            if isinstance(argument, ast.Name) and argument.id in around.parameters:
                copied = copy.deepcopy(value)
                same = next(itertools.islice(ast.walk(copied), number, None))
                rest = Replacing(same, without(node, i)).visit(copied)
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
            tree = Replacing(named[1], statement.value).visit(tree)
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
            yield Replacing(next(itertools.islice(ast.walk(copied), place, None)), value).visit(copied), value


class Replacing(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else super().generic_visit(node)
