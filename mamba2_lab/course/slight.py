"""Slight changes of a reference: a factor left out, a sign turned, one name in the place of another.

No author can foresee every slip. A reader whose results are those of the reference, or of another right way to write
it, with one such change is told which: "it comes out as if `D[:, None]` were left out". The same slip may have been
made at each place where it can be.
"""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mamba2_lab.course.edits import SIGNS, Surroundings, edits, is_vague
from mamba2_lab.course.rarer import rarer
from mamba2_lab.course.source import source_of
from mamba2_lab.course.written_out import added_last, each_use, written_out

Change = tuple[str, Callable[..., Any]]  # what is changed, in words, and the function that does it
Slip = tuple[str, list[tuple[ast.AST, ast.AST]]]  # in words, and each node with what takes its place
MANY = 2000  # more changes than this are not tried
SHORT = 160  # nodes of a function in which each use of a name is looked at by itself


def changes(reference: Callable[..., Any], *others: str) -> Iterator[Change]:
    """The reference with one thing changed, for every change that is likely.

    Args:
        others: sources of other right ways to write it, which are changed as well.
    """
    try:
        trees = [ast.parse(source) for source in (source_of(reference), *others)]
    except (OSError, StopIteration, SyntaxError, ValueError):  # it has no source, as what was typed into a prompt
        return
    found = itertools.chain.from_iterable(_changes_of(tree, reference) for tree in trees)
    seen = set()
    for says, function in itertools.islice(found, MANY):
        if function.__code__ not in seen:  # two slips may come to the same
            seen.add(function.__code__)
            yield says, function


def _changes_of(module: ast.Module, reference: Callable[..., Any]) -> Iterator[Change]:
    (tree,) = module.body
    assert isinstance(tree, ast.FunctionDef)
    if any(isinstance(node, ast.While) or _complains(node) for node in ast.walk(tree)):
        return  # a change might never end, or print what nobody understands
    around = Surroundings.of(tree, reference)
    yield from _made(module, _single(tree, around), reference)
    short = written_out(tree)
    if isinstance(last := short.body[-1], ast.Return) and last.value is not None:
        at_last: list[Slip] = [(says, [(last.value, new)]) for says, new in added_last(last.value, around)]
        yield from _made(ast.Module([short], []), at_last, reference)
    rare: list[Slip] = [(says, [(old, new)]) for says, old, new in rarer(tree)]
    yield from _made(module, rare, reference)
    yield from _made(module, _everywhere([*_single(tree, around), *rare]), reference)
    if sum(1 for _ in ast.walk(tree)) < SHORT:
        for used, value in each_use(tree):
            at_it: list[Slip] = [(says, [(node, new)]) for node in ast.walk(value) for says, new in edits(node, around)]
            yield from _made(ast.Module([used], []), at_it, reference)


def _single(tree: ast.FunctionDef, around: Surroundings) -> Iterator[Slip]:
    """At one place."""
    for node in itertools.chain.from_iterable(map(ast.walk, tree.body)):
        if isinstance(node, ast.AugAssign):
            says = f"`=` stood where `{SIGNS[type(node.op)]}=` belongs: each turn forgets those before it"
            yield says, [(node, ast.Assign([node.target], node.value))]
        for says, new in edits(node, around):
            yield says, [(node, new)]


def _everywhere(slips: Iterable[Slip]) -> Iterator[Slip]:
    """The same slip at each place where it can be made."""
    places: dict[str, list[tuple[ast.AST, ast.AST]]] = {}
    for says, replaced in slips:
        places.setdefault(says, []).extend(replaced)
    for says, replaced in places.items():
        apart = {id(old): (old, new) for old, new in replaced}
        within = {id(node) for old, _ in replaced for node in ast.walk(old) if node is not old}
        if len(apart) > 1 and not apart.keys() & within and not is_vague(says):
            yield f"{says}, at each place", list(apart.values())


def _made(module: ast.Module, slips: Iterable[Slip], reference: Callable[..., Any]) -> Iterator[Change]:
    """The functions, made in the one tree, which is as it was after each."""
    places = {
        id(value): (parent, field, i)
        for parent in ast.walk(module)
        for field, values in ast.iter_fields(parent)
        for i, value in enumerate(values if isinstance(values, list) else [values])
        if isinstance(value, ast.expr | ast.stmt | ast.comprehension)
    }
    for says, replaced in slips:
        there = [places[id(old)] for old, _ in replaced if id(old) in places]
        if len(there) < len(replaced):
            continue
        for (parent, field, i), (_, new) in zip(there, replaced, strict=True):
            inside = any(node is parent for node in ast.walk(new))  # as of x in the place of x in x = 2 * x
            _put(parent, field, i, ast.fix_missing_locations(copy.deepcopy(new) if inside else new))
        try:
            function = _function(module, reference)
        except (SyntaxError, TypeError, ValueError):
            continue
        finally:
            for (parent, field, i), (old, _) in zip(there, replaced, strict=True):
                _put(parent, field, i, old)
        yield says, function


def _put(parent: ast.AST, field: str, i: int, node: ast.AST) -> None:
    if isinstance(values := getattr(parent, field), list):
        values[i] = node
    else:
        setattr(parent, field, node)


def _function(module: ast.Module, reference: Callable[..., Any]) -> Callable[..., Any]:
    """What the tree defines, among the globals of the reference."""
    defined: dict[str, Any] = {}
    code = compile(module, f"<a change of {reference.__name__}>", "exec", dont_inherit=True)
    exec(code, reference.__globals__, defined)
    (function,) = defined.values()
    return function


def _complains(node: ast.AST) -> bool:
    """Whether MKL prints by itself what it does not like about the inputs."""
    return isinstance(node, ast.Attribute) and node.attr == "lstsq"
