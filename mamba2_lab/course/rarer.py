"""Changes of a reference that are rarer than those of `edits`: lines exchanged, a name for another throughout."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mamba2_lab.course.written_out import Replacing

Edit = tuple[str, ast.AST]  # what is changed, in words, and what takes the place of a node
Change = tuple[str, ast.AST, ast.AST]  # what is changed, in words, the node, and what takes its place
# Fields of a config, each of which is a width or a count
SIZES = ("d_model", "d_inner", "conv_dim", "nheads", "headdim", "d_state", "d_conv", "ngroups", "n_layer")


def rarer(tree: ast.FunctionDef) -> Iterator[Change]:
    """What is written by mistake less often, for a whole function."""
    text = _Text.of(tree)
    yield from _throughout(tree, text)
    yield from _in_lines(tree)
    for node in itertools.chain.from_iterable(map(ast.walk, tree.body)):
        yield from ((says, node, new) for says, new in _rarer(node, text))


@dataclass(frozen=True)
class _Text:
    """What a reference is written with, of which one thing is soon taken for another.

    parameters: their names. called: those that are called. numbers: written in it. made: expressions, by each name in
    them that is none of a parameter. beside: the names of a row that something is taken apart into, by each of them.
    """

    parameters: set[str]
    called: list[str]
    numbers: list[float]
    made: dict[str, list[ast.BinOp]]
    beside: dict[str, list[str]]

    @classmethod
    def of(cls, tree: ast.FunctionDef) -> _Text:
        parameters = {argument.arg for argument in tree.args.args}
        nodes = [node for statement in tree.body for node in ast.walk(statement)]
        functions = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
        numbers = {value for value in constants if isinstance(value, int | float) and not isinstance(value, bool)}
        made: dict[str, list[ast.BinOp]] = {}
        for node in nodes:
            if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and node.left.id not in parameters:
                made.setdefault(node.left.id, []).append(node)
        apart = [node.target for node in nodes if isinstance(node, ast.For | ast.comprehension)]
        for node in nodes:
            if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Tuple):  # else: several in one line
                apart += node.targets
        tuples = [node for target in apart for node in ast.walk(target) if isinstance(node, ast.Tuple)]
        rows = [[name.id for name in row.elts if isinstance(name, ast.Name)] for row in tuples]
        beside = {name: [other for other in row if other != name] for row in rows for name in row}
        return cls(parameters, sorted(functions & parameters), sorted(numbers), made, beside)


def _rarer(node: ast.AST, text: _Text) -> Iterator[Edit]:
    """What is written by mistake less often."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in text.parameters and node.id not in text.called:
            for function in text.called:
                yield f"`{function}` were applied to `{node.id}` as well", _call(ast.Name(function, ast.Load()), node)
            for number in text.numbers:
                yield f"{number!r} stood where `{node.id}` belongs", ast.Constant(number)
        for other in text.beside.get(node.id, ()):
            yield f"`{other}` stood where `{node.id}` belongs", ast.Name(other, ast.Load())
        for expression in text.made.get(node.id, ()):
            yield f"`{ast.unparse(expression)}` stood where `{node.id}` belongs", expression
    elif isinstance(node, ast.Constant) and not isinstance(node.value, bool) and node.value in text.numbers:
        for name in sorted(text.parameters - set(text.called)):
            yield f"`{name}` stood where {ast.unparse(node)} belongs", ast.Name(name, ast.Load())
        for number in text.numbers:
            if number != node.value and type(number) is type(node.value):
                yield f"{number!r} stood where {node.value!r} belongs", ast.Constant(number)
    elif isinstance(node, ast.Attribute) and node.attr in SIZES:
        for other in SIZES:
            if other != node.attr:
                size = ast.Attribute(node.value, other, ast.Load())
                yield f"`{ast.unparse(size)}` stood where `{ast.unparse(node)}` belongs", size
    elif isinstance(node, ast.Tuple | ast.List) and all(isinstance(entry, ast.Constant) for entry in node.elts):
        for i, entry in enumerate(node.elts):
            left = [*node.elts[:i], *node.elts[i + 1 :]]
            yield f"`{ast.unparse(entry)}` were left out", type(node)(left, ast.Load())
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield f"`{ast.unparse(node.right)}` were added twice", ast.BinOp(node, ast.Add(), node.right)
        if isinstance(node.left, ast.Call) and isinstance(node.left.func, ast.Attribute) and not node.left.args:
            within = ast.BinOp(node.left.func.value, ast.Add(), node.right)
            says = f"`{ast.unparse(node.right)}` stood inside `{node.left.func.attr}`"
            yield says, _call(ast.Attribute(within, node.left.func.attr, ast.Load()))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        log = ast.Attribute(ast.Name("math", ast.Load()), "log", ast.Load())
        divisor = ast.unparse(node.right)
        if divisor == "math.log(2)":
            log2 = ast.Attribute(ast.Name("math", ast.Load()), "log2", ast.Load())
            yield "a logarithm were taken where a division by ln 2 belongs", _call(log2, node.left)
        says = f"the logarithm of `{divisor}` were subtracted where a division belongs"
        yield says, ast.BinOp(node.left, ast.Sub(), _call(log, node.right))
    elif isinstance(node, ast.Call):
        yield from _arguments(node)
        if ast.unparse(node.func) == "math.log":
            for number in (0.5, 2, 1):
                yield f"{number} stood where `{ast.unparse(node)}` belongs", ast.Constant(number)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield from _too_many(node.value, text)


def _arguments(node: ast.Call) -> Iterator[Edit]:
    """What is said to a function, in another order or on another axis."""
    if isinstance(node.func, ast.Attribute) and node.func.attr == "cumsum":
        yield from _running_sums(node, node.func.value)
    for i, (one, other) in enumerate(itertools.pairwise(node.args)):
        exchanged = [*node.args[:i], other, one, *node.args[i + 2 :]]
        says = f"`{ast.unparse(one)}` and `{ast.unparse(other)}` were exchanged"
        yield says, ast.Call(node.func, exchanged, node.keywords)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg != "dim":
            continue
        rest = [*node.keywords[:i], *node.keywords[i + 1 :]]
        yield f"`{ast.unparse(keyword)}` were left out", ast.Call(node.func, node.args, rest)
        for axis in (0, 1, -1):
            other_axis = ast.keyword("dim", ast.Constant(axis))
            yield (
                f"`dim={axis}` stood where `{ast.unparse(keyword)}` belongs",
                ast.Call(node.func, node.args, [*rest, other_axis]),
            )


def _too_many(returned: ast.expr, text: _Text) -> Iterator[Edit]:
    """A factor too many in what is returned."""
    parts = returned.elts if isinstance(returned, ast.Tuple) else [returned]
    for i, part in enumerate(parts):
        for name in sorted(text.parameters - set(text.called)):
            for operator, says in ((ast.Mult(), "multiplied"), (ast.Div(), "divided")):
                off = ast.BinOp(part, operator, ast.Name(name, ast.Load()))
                value = ast.Tuple([*parts[:i], off, *parts[i + 1 :]], ast.Load()) if len(parts) > 1 else off
                yield f"it were {says} by `{name}` once more", ast.Return(value)


def _running_sums(node: ast.Call, summed: ast.expr) -> Iterator[Edit]:
    yield "the running sum left out the entry itself", ast.BinOp(node, ast.Sub(), summed)
    axes = [*node.args, *(keyword.value for keyword in node.keywords)]
    turned = _call(ast.Attribute(summed, "flip", ast.Load()), *axes)
    running = ast.Call(ast.Attribute(turned, "cumsum", ast.Load()), node.args, node.keywords)
    yield "the running sum began at the end", _call(ast.Attribute(running, "flip", ast.Load()), *axes)
    keeping = [ast.keyword("keepdim", ast.Constant(True))]
    whole = ast.Call(ast.Attribute(summed, "sum", ast.Load()), axes, keeping)
    yield "the running sum were of what comes afterwards", ast.BinOp(whole, ast.Sub(), node)


def _in_lines(tree: ast.FunctionDef) -> Iterator[Change]:
    """A line that does something left out, set before its loop, or two exchanged: a block, and its lines anew."""
    for block in ast.walk(tree):
        lines = getattr(block, "body", None)
        if not isinstance(lines, list):
            continue
        for i, loop in enumerate(lines):
            if isinstance(loop, ast.For) and len(loop.body) > 1:
                first, *rest = loop.body
                anew = [*lines[:i], first, _with_lines(loop, rest), *lines[i + 1 :]]
                yield f"`{ast.unparse(first)}` stood before the loop, not in it", block, _with_lines(block, anew)
        for i, line in enumerate(lines):
            if isinstance(line, ast.Expr) and len(lines) > 1 and not isinstance(line.value, ast.Constant):
                yield f"`{ast.unparse(line)}` were left out", block, _with_lines(block, [*lines[:i], *lines[i + 1 :]])
        for i, (one, other) in enumerate(itertools.pairwise(lines)):
            if all(isinstance(line, ast.Assign | ast.Expr) for line in (one, other)):
                exchanged = [*lines[:i], other, one, *lines[i + 2 :]]
                yield f"`{ast.unparse(other)}` came before `{ast.unparse(one)}`", block, _with_lines(block, exchanged)


def _throughout(tree: ast.FunctionDef, text: _Text) -> Iterator[Change]:
    """A parameter that is another one wherever it stands, or off by one."""

    def anew(instead: Callable[[ast.AST], ast.AST | None]) -> ast.AST:
        return _with_lines(tree, [Replacing(instead).visit(copy.deepcopy(line)) for line in tree.body])

    def with_names(new: dict[str, ast.expr]) -> ast.AST:
        def read(node: ast.AST) -> ast.AST | None:
            return new.get(node.id) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else None

        return anew(read)

    def with_constants(new: dict[Any, ast.Constant]) -> ast.AST:
        def written(node: ast.AST) -> ast.AST | None:
            if isinstance(node, ast.Constant) and type(node.value) in (str, float):  # no whole numbers: 1 == 1.0
                return new.get(node.value)
            return None

        return anew(written)

    names = {name: ast.Name(name, ast.Load()) for name in sorted(text.parameters)}
    lines = [line for line in tree.body if not isinstance(line, ast.Expr)]  # without the docstring
    constants = [node for line in lines for node in ast.walk(line) if isinstance(node, ast.Constant)]
    for kind in (str, float):
        values = {node.value: node for node in constants if type(node.value) is kind}
        for one, other in itertools.combinations(list(values)[:4], 2):
            exchanged = with_constants({one: values[other], other: values[one]})
            yield f"`{one!r}` and `{other!r}` were exchanged", tree, exchanged
    for one, other in itertools.permutations(names, 2):
        yield f"`{other}` stood where `{one}` belongs", tree, with_names({one: names[other]})
        if one < other:
            yield f"`{one}` and `{other}` were exchanged", tree, with_names({one: names[other], other: names[one]})
    for name in sorted(text.parameters - set(text.called)):
        for instead in _made_of(names[name]):
            yield f"`{ast.unparse(instead)}` stood where `{name}` belongs", tree, with_names({name: instead})
        for operator, says in ((ast.Add(), "larger by 1"), (ast.Sub(), "smaller by 1")):
            yield f"`{name}` were {says}", tree, with_names({name: ast.BinOp(names[name], operator, ast.Constant(1))})


def _made_of(name: ast.Name) -> Iterator[ast.expr]:
    """What is soon made of numbers that should be taken as they are."""
    yield ast.BinOp(ast.Constant(1), ast.Div(), name)
    for method in ("abs", "sqrt", "square", "deg2rad"):
        yield _call(ast.Attribute(name, method, ast.Load()))


def _with_lines(block: ast.AST, lines: list[ast.stmt]) -> ast.AST:
    other = copy.copy(block)
    other.body = lines  # type: ignore[attr-defined]
    return other


def _call(function: ast.expr, *arguments: ast.expr) -> ast.Call:
    return ast.Call(function, list(arguments), [])
