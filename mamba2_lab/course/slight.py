"""Slight changes of a reference: a factor left out, a sign turned, one name in the place of another.

No author can foresee every slip. A reader whose results are those of the reference with one such change is told which:
"it comes out as if `D[:, None]` were left out".
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

from mamba2_lab.course.source import compiled, source_of

Change = tuple[str, Callable[..., Any]]  # what is changed, in words, and the function that does it
Edit = tuple[str, ast.expr]  # what is changed, in words, and what takes the place of a node
MANY = 400  # more changes than this are not tried

# By what a function is taken for another: as both are written at the end of a dotted name
TAKEN_FOR = {
    "softplus": ("exp", "relu", "sigmoid"),
    "silu": ("sigmoid", "relu"),
    "sigmoid": ("silu", "tanh"),
    "exp": ("log",),
    "log": ("exp", "log2", "log10"),
    "sqrt": ("square",),
    "square": ("abs",),
    "sum": ("mean",),
    "mean": ("sum",),
    "max": ("min",),
    "min": ("max",),
    "zeros_like": ("ones_like",),
}
OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.MatMult: (ast.Mult,),
}
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.Gt, ast.LtE),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.Lt, ast.GtE),
}
SIGNS: dict[type[ast.AST], str] = {
    ast.Mult: "*",
    ast.Div: "/",
    ast.Add: "+",
    ast.Sub: "-",
    ast.MatMult: "@",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def changes(reference: Callable[..., Any]) -> Iterator[Change]:
    """The reference with one thing changed, for every change that is likely."""
    try:
        (tree,) = ast.parse(source_of(reference)).body
    except (OSError, StopIteration, SyntaxError, ValueError):  # it has no source, as what was typed into a prompt
        return
    assert isinstance(tree, ast.FunctionDef)
    if any(isinstance(node, ast.While) for node in ast.walk(tree)):
        return  # a change might never end
    own = {argument.arg for argument in tree.args.args}
    nodes = [node for statement in tree.body for node in ast.walk(statement)]
    found = ((says, number, new) for number, node in enumerate(nodes) for says, new in _edits(node, own))
    for count, (says, number, new) in enumerate(found):
        if count == MANY:
            return
        changed = _Replacing(nodes[number], new).visit(_copied(tree, nodes[number]))
        name = f"change_{count}"
        changed.name, changed.decorator_list = name, []
        try:
            yield says, compiled(ast.unparse(ast.fix_missing_locations(changed)), name, reference)
        except ValueError:
            continue


def _edits(node: ast.AST, parameters: set[str]) -> Iterator[Edit]:
    """What may be written in the place of a node by mistake."""
    if isinstance(node, ast.BinOp):
        for kept, lost in ((node.left, node.right), (node.right, node.left)):
            yield _left_out(lost, parameters), kept
        for operator in OPERATORS.get(type(node.op), ()):
            says = f"`{SIGNS[operator]}` stood where `{SIGNS[type(node.op)]}` belongs"
            yield says, ast.BinOp(node.left, operator(), node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "a minus sign were left out", node.operand
    elif isinstance(node, ast.Compare):
        for comparison in COMPARED.get(type(node.ops[0]), ()):
            says = f"`{SIGNS[comparison]}` stood where `{SIGNS[type(node.ops[0])]}` belongs"
            yield says, ast.Compare(node.left, [comparison()], node.comparators)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Attribute) and node.attr in ("mT", "T"):
        yield f"`.{node.attr}` were left out", node.value
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
        yield f"the first one stood where `{ast.unparse(node)}` belongs", ast.Subscript(node.value, ast.Constant(0))
    elif isinstance(node, ast.Name) and node.id in parameters and isinstance(node.ctx, ast.Load):
        for other in sorted(parameters - {node.id}):
            yield f"`{other}` stood where `{node.id}` belongs", ast.Name(other, ast.Load())
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) < 10:
        for step in (1, -1):
            yield "an index or another number were off by one", ast.Constant(node.value + step)


def _calls(node: ast.Call) -> Iterator[Edit]:
    name = ast.unparse(node.func).split(".")[-1]
    module = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("torch", "F", "math")
    if isinstance(node.func, ast.Attribute) and not module:
        yield f"`.{name}(...)` were left out", node.func.value
    elif len(node.args) == 1:
        yield f"`{name}` were left out", node.args[0]
    for other in TAKEN_FOR.get(name, ()):
        if isinstance(node.func, ast.Attribute):
            function = ast.Attribute(node.func.value, other, ast.Load())
            yield f"`{other}` stood where `{name}` belongs", ast.Call(function, node.args, node.keywords)
    for i, argument in enumerate(node.args):
        without = [*node.args[:i], ast.Constant(None), *node.args[i + 1 :]]
        if isinstance(argument, ast.Name | ast.Call | ast.Subscript) and len(node.args) > 1:
            yield f"`{ast.unparse(argument)}` were left out", ast.Call(node.func, without, node.keywords)


def _left_out(lost: ast.AST, parameters: set[str]) -> str:
    """In the reader's words: by parameters and functions, not by the names that the reference gives on the way."""
    known = parameters | {"torch", "F", "math", "len"}
    text = ast.unparse(lost)
    named = {node.id for node in ast.walk(lost) if isinstance(node, ast.Name)}
    if named <= known and len(text) < 50:
        return f"`{text}` were left out"
    return (
        f"a term or a factor were left out that is made of {_listed(sorted(named & parameters))}"
        if named & parameters
        else ("a term or a factor were left out")
    )


def _listed(names: list[str]) -> str:
    *before, last = [f"`{name}`" for name in names]
    return f"{', '.join(before)} and {last}" if before else last


def _copied(tree: ast.FunctionDef, marked: ast.AST) -> ast.FunctionDef:
    """A copy in which one node is the very same object, for it to be found again."""
    return copy.deepcopy(tree, {id(marked): marked})


class _Replacing(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else super().generic_visit(node)
