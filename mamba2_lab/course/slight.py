"""Slight changes of a reference: a factor left out, a sign turned, one name in the place of another.

No author can foresee every slip. A reader whose results are those of the reference, or of another right way to write
it, with one such change is told which: "it comes out as if `D[:, None]` were left out".
"""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from mamba2_lab.course.edits import SIGNS, Replacing, Surroundings, added_last, edits, written_out
from mamba2_lab.course.source import compiled, source_of

Change = tuple[str, Callable[..., Any]]  # what is changed, in words, and the function that does it
MANY = 600  # more changes than this are not tried


def changes(reference: Callable[..., Any], *others: str) -> Iterator[Change]:
    """The reference with one thing changed, for every change that is likely.

    Args:
        others: sources of other right ways to write it, which are changed as well.
    """
    try:
        trees = [ast.parse(source).body[0] for source in (source_of(reference), *others)]
    except (OSError, StopIteration, SyntaxError, ValueError):  # it has no source, as what was typed into a prompt
        return
    found = itertools.chain.from_iterable(_changes_of(tree, reference) for tree in trees)
    for count, (says, tree, old, new) in enumerate(itertools.islice(found, MANY)):
        changed = Replacing(old, new).visit(_copied(tree, old))
        changed.name, changed.decorator_list = f"change_{count}", []
        try:
            yield says, compiled(ast.unparse(ast.fix_missing_locations(changed)), changed.name, reference)
        except ValueError:
            continue


def _changes_of(
    tree: ast.stmt, reference: Callable[..., Any]
) -> Iterator[tuple[str, ast.FunctionDef, ast.AST, ast.AST]]:
    """What is changed, in words, a function, the node in it that is replaced, and what takes its place."""
    assert isinstance(tree, ast.FunctionDef)
    if any(isinstance(node, ast.While) or _complains(node) for node in ast.walk(tree)):
        return  # a change might never end, or print what nobody understands
    around = Surroundings.of(tree, reference)
    for node in itertools.chain.from_iterable(map(ast.walk, tree.body)):
        if isinstance(node, ast.AugAssign):
            says = f"`=` stood where `{SIGNS[type(node.op)]}=` belongs: each turn forgets those before it"
            yield says, tree, node, ast.Assign([node.target], node.value)
        yield from ((says, tree, node, new) for says, new in edits(node, around))
    short = written_out(tree)
    if isinstance(last := short.body[-1], ast.Return) and last.value is not None:
        yield from ((says, short, last.value, new) for says, new in added_last(last.value, around))


def _complains(node: ast.AST) -> bool:
    """Whether MKL prints by itself what it does not like about the inputs."""
    return isinstance(node, ast.Attribute) and node.attr == "lstsq"


def _copied(tree: ast.FunctionDef, marked: ast.AST) -> ast.FunctionDef:
    """A copy in which one node is the very same object, for it to be found again."""
    return copy.deepcopy(tree, {id(marked): marked})
