"""What is likely to be written by mistake in the place of a part of a function: one node of its tree for another."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Edit = tuple[str, ast.expr]  # what is changed, in words, and what takes the place of a node

# By what a function is taken for another: as both are written at the end of a dotted name
TAKEN_FOR = {
    "softplus": ("exp", "relu", "sigmoid"),
    "silu": ("sigmoid", "relu"),
    "sigmoid": ("silu", "tanh"),
    "exp": ("log",),
    "log": ("exp", "log2", "log10"),
    "sqrt": ("square",),
    "square": ("abs",),
    "sum": ("mean", "max"),
    "mean": ("sum", "median"),
    "max": ("min", "mean"),
    "min": ("max",),
    "median": ("mean", "max", "min"),
    "std": ("var",),
    "cumsum": ("sum", "cumprod"),
    "softmax": ("log_softmax",),
    "tanh": ("sigmoid",),
    "argmax": ("argmin",),
    "zeros_like": ("ones_like",),
}
OF_THE_LANGUAGE = ("min", "max", "sum")  # what is called by its bare name
OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.MatMult: (ast.Mult,),
    ast.Pow: (ast.Mult,),
}
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.Gt, ast.LtE),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.Lt, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SIGNS: dict[type[ast.AST], str] = {
    ast.Mult: "*",
    ast.Div: "/",
    ast.Add: "+",
    ast.Sub: "-",
    ast.MatMult: "@",
    ast.FloorDiv: "//",
    ast.Pow: "**",
    ast.Mod: "%",
    ast.BitOr: "|",
    ast.BitAnd: "&",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.In: "in",
    ast.NotIn: "not in",
}
BENT = ("exp", "log", "softplus", "silu", "sigmoid", "sqrt", "square")  # f(a + b) is not f(a) + b


@dataclass
class Surroundings:
    """What has to be known of a function to say what its parts may be taken for.

    definitions: the terms of each of its own names that is set to a sum.
    """

    parameters: set[str]
    globals: Mapping[str, Any]
    definitions: dict[str, list[ast.expr]] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: ast.FunctionDef, function: Callable[..., Any]) -> Surroundings:
        around = cls({argument.arg for argument in tree.args.args}, function.__globals__)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                terms = _terms(node.value)
                if len(terms) > 1:
                    around.definitions[node.targets[0].id] = terms
        return around

    def told(self, part: ast.AST, otherwise: str = "something") -> str:
        """In the reader's words: by parameters and functions, not by the names that a reference gives on the way."""
        text, named = ast.unparse(part), {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
        if named <= self.parameters | {"torch", "F", "math", "len"} and len(text) < 50:
            return f"`{text}`"
        mine = sorted(named & self.parameters)
        return f"{otherwise} that is made of {_listed(mine)}" if mine else otherwise


def is_vague(says: str) -> bool:
    """Whether a change does not say what was changed."""
    return "a term or a factor" in says or "something" in says


def edits(node: ast.AST, around: Surroundings) -> Iterator[Edit]:
    """What may be written in the place of a node by mistake, the likeliest first."""
    if isinstance(node, ast.BinOp):
        yield from _of_a_sum_or_product(node, around)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "a minus sign were left out", node.operand
    elif isinstance(node, ast.Compare):
        for comparison in COMPARED.get(type(node.ops[0]), ()):
            says = f"`{SIGNS[comparison]}` stood where `{SIGNS[type(node.ops[0])]}` belongs"
            yield says, ast.Compare(node.left, [comparison()], node.comparators)
    elif isinstance(node, ast.Call):
        yield from _of_a_call(node, around)
    elif isinstance(node, ast.Attribute) and node.attr in ("mT", "T"):
        yield f"`.{node.attr}` were left out", node.value
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
        yield f"the first one stood where `{ast.unparse(node)}` belongs", _at(node.value, ast.Constant(0))
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice | ast.Tuple):
        yield f"`{ast.unparse(node).removeprefix(ast.unparse(node.value))}` were left out", node.value
    elif isinstance(node, ast.BoolOp):
        for i, part in enumerate(node.values):
            rest = [*node.values[:i], *node.values[i + 1 :]]
            yield f"`{ast.unparse(part)}` were left out", ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]
        one, other = ("and", ast.Or()) if isinstance(node.op, ast.And) else ("or", ast.And())
        yield f"`{'or' if one == 'and' else 'and'}` stood where `{one}` belongs", ast.BoolOp(other, node.values)
    elif isinstance(node, ast.Slice):
        yield from _of_a_slice(node)
    elif isinstance(node, ast.IfExp):
        yield "the two sides of `if ... else` were exchanged", ast.IfExp(node.test, node.orelse, node.body)
        for kept in (node.body, node.orelse):
            yield f"it were {around.told(kept, 'one side of `if ... else`')} in every case", kept
    elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1:
        yield from _of_a_row(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _of_a_name(node, around)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) < 10:
        for step in (1, -1):
            yield f"{node.value + step} stood where {node.value} belongs", ast.Constant(node.value + step)


def _of_a_sum_or_product(node: ast.BinOp, around: Surroundings) -> Iterator[Edit]:
    for kept, lost in ((node.left, node.right), (node.right, node.left)):
        yield f"{around.told(lost, 'a term or a factor')} were left out", kept
    if isinstance(node.op, ast.Pow):
        yield "`abs` stood where the square belongs", _method(node.left, "abs")
    for operator in OPERATORS.get(type(node.op), ()):
        says = f"`{SIGNS[operator]}` stood where `{SIGNS[type(node.op)]}` belongs"
        yield says, ast.BinOp(node.left, operator(), node.right)
    if isinstance(node.op, ast.Div | ast.Sub | ast.MatMult):
        yield f"the two sides of `{SIGNS[type(node.op)]}` were exchanged", ast.BinOp(node.right, node.op, node.left)
    if isinstance(node.op, ast.Mult):
        yield f"it were divided by {around.told(node.left)}", ast.BinOp(node.right, ast.Div(), node.left)
        for factor, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(other, ast.BinOp) and isinstance(other.op, ast.Add | ast.Sub):
                for one, rest in ((other.left, other.right), (other.right, other.left)):
                    says = f"{around.told(factor)} multiplied one term alone, not the whole sum"
                    yield says, ast.BinOp(_times(factor, one), other.op, rest)
    if isinstance(node.op, ast.MatMult):
        yield "it were divided by the root of the width, as in attention", ast.BinOp(node, ast.Div(), _root(node))
    if isinstance(node.op, ast.Add):
        for first, second in ((node.left, node.right), (node.right, node.left)):
            for factor, rest in _factors(first):
                says = f"{around.told(factor)} multiplied the whole sum, not its one term alone"
                yield says, _times(factor, ast.BinOp(rest, ast.Add(), second))


def _of_a_name(node: ast.Name, around: Surroundings) -> Iterator[Edit]:
    for term in around.definitions.get(node.id, ()):
        yield f"{around.told(term)} alone were used where the whole sum belongs", term
    if node.id in around.parameters:
        for other in sorted(around.parameters - {node.id}):
            yield f"`{other}` stood where `{node.id}` belongs", ast.Name(other, ast.Load())
        for part in (ast.Slice(ast.Constant(-1), None, None), ast.Slice(None, ast.Constant(1), None)):
            alone = _at(node, part)
            yield f"`{ast.unparse(alone)}` stood where `{node.id}` belongs", alone
        for bent in ("exp", "log"):
            changed = _method(node, bent)
            yield f"`{ast.unparse(changed)}` stood where `{node.id}` belongs", changed
        negative = ast.UnaryOp(ast.USub(), _method(node, "exp"))
        yield f"`{ast.unparse(negative)}` stood where `{node.id}` belongs", negative


def _of_a_call(node: ast.Call, around: Surroundings) -> Iterator[Edit]:
    name = ast.unparse(node.func).split(".")[-1]
    module = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("torch", "F", "math")
    if isinstance(node.func, ast.Attribute) and not module:
        yield f"`.{name}(...)` were left out", node.func.value
        if isinstance(node.func.value, ast.Name) and node.func.value.id in around.parameters:
            yield from ((f"`{name}` were left out", argument) for argument in node.args)
        yield from _of_a_chain(node, node.func)
        if name in ("sum", "mean", "cumsum") and any(ast.unparse(word) == "dim=0" for word in node.keywords):
            yield f"the last one stood where `{name}` belongs", _at(node.func.value, ast.Constant(-1))
    elif isinstance(node.func, ast.Name) and len(node.args) > 1:
        yield f"`{name}` were left out", node.args[0]
    elif len(node.args) == 1:
        yield f"`{name}` were left out", node.args[0]
    for other in TAKEN_FOR.get(name, ()):
        bare = isinstance(node.func, ast.Name) or ast.unparse(node.func) == f"statistics.{name}"
        if bare and name in (*OF_THE_LANGUAGE, "median") and other in OF_THE_LANGUAGE:
            yield f"`{other}` stood where `{name}` belongs", ast.Call(ast.Name(other, ast.Load()), node.args, [])
        elif isinstance(node.func, ast.Attribute):
            function = ast.Attribute(node.func.value, other, ast.Load())
            call: ast.expr = ast.Call(function, node.args, node.keywords)
            if other == "median" and (node.args or node.keywords):
                call = ast.Attribute(call, "values", ast.Load())
            yield f"`{other}` stood where `{name}` belongs", call
    if name == "softmax" and isinstance(node.func, ast.Attribute) and not module:
        yield "`sigmoid` stood where `softmax` belongs", _method(node.func.value, "sigmoid")
    for i, argument in enumerate(node.args):
        if isinstance(argument, ast.Name | ast.Call | ast.Subscript) and len(node.args) > 1:
            yield f"`{ast.unparse(argument)}` were left out", without(node, i)
    if len(node.args) == 1 and name in BENT and not (isinstance(node.func, ast.Attribute) and not module):
        yield from _of_what_is_bent(node, name, around)
    if name in ("sum", "mean") and isinstance(node.func, ast.Attribute):
        yield from _of_a_summed_product(node, node.func, name)
    for i, keyword in enumerate(node.keywords):
        rest = [*node.keywords[:i], *node.keywords[i + 1 :]]
        if bound := {"min": "max", "max": "min"}.get(keyword.arg or ""):
            says = f"`{bound}=` stood where `{keyword.arg}=` belongs"
            yield says, ast.Call(node.func, node.args, [*rest, ast.keyword(bound, keyword.value)])
        if keyword.arg not in ("dim", None):  # which `rarer` looks at
            yield f"`{ast.unparse(keyword)}` were left out", ast.Call(node.func, node.args, rest)
    yield from _of_an_exercise(node, around)


def _of_a_chain(node: ast.Call, last: ast.Attribute) -> Iterator[Edit]:
    """Two calls, one behind the other, in the other order."""
    first = last.value
    if isinstance(first, ast.Call) and isinstance(first.func, ast.Attribute) and first.func.attr != last.attr:
        inner = ast.Call(ast.Attribute(first.func.value, last.attr, ast.Load()), node.args, node.keywords)
        outer = ast.Call(ast.Attribute(inner, first.func.attr, ast.Load()), first.args, first.keywords)
        yield f"`{last.attr}` were taken before `{first.func.attr}`, not after", outer


def _of_a_slice(node: ast.Slice) -> Iterator[Edit]:
    """Another end of the same."""
    stands = f"`{ast.unparse(node)}` belongs"
    if node.lower is None and node.upper is None:
        yield f"-1 stood where {stands}", ast.Constant(-1)
        return
    for lower, upper in (
        (node.upper, node.lower),
        (_minus(node.upper), None) if node.lower is None and node.upper else (None, None),
        (None, _minus(node.lower)) if node.upper is None and node.lower else (None, None),
    ):
        other = ast.Slice(lower, upper, node.step)
        yield f"`{ast.unparse(other)}` stood where {stands}", other


def _of_a_row(node: ast.Tuple | ast.List) -> Iterator[Edit]:
    """Two neighbours exchanged: of what is returned, or of the names that something is taken apart into."""
    for i, (one, other) in enumerate(itertools.pairwise(node.elts)):
        exchanged = [*node.elts[:i], other, one, *node.elts[i + 2 :]]
        yield f"`{ast.unparse(one)}` and `{ast.unparse(other)}` were exchanged", type(node)(exchanged, node.ctx)


def _of_what_is_bent(node: ast.Call, name: str, around: Surroundings) -> Iterator[Edit]:
    """A function of a sum or a product taken of one part alone, or of what another function is given."""
    inner = node.args[0]
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Add | ast.Mult):
        for kept, moved in ((inner.left, inner.right), (inner.right, inner.left)):
            sign = "added" if isinstance(inner.op, ast.Add) else "multiplied"
            yield (
                f"{around.told(moved)} were {sign} after `{name}`, not before",
                ast.BinOp(ast.Call(node.func, [kept], []), inner.op, moved),
            )
    if isinstance(inner, ast.Call) and len(inner.args) == 1 and not inner.keywords:
        says = f"`{name}` were taken before `{ast.unparse(inner.func)}`, not after"
        yield says, ast.Call(inner.func, [ast.Call(node.func, inner.args, [])], [])


def _of_a_summed_product(node: ast.Call, function: ast.Attribute, name: str) -> Iterator[Edit]:
    """A sum of products in which the factors are summed apart."""
    for factor, rest in _factors(function.value):
        one, other = (
            ast.Call(ast.Attribute(part, function.attr, ast.Load()), node.args, node.keywords)
            for part in (factor, rest)
        )
        yield f"each factor had a {name} of its own, where the products have one together", _times(one, other)


def _of_an_exercise(node: ast.Call, around: Surroundings) -> Iterator[Edit]:
    """Another exercise in the place of one that takes the same, or an activation that it takes already."""
    called = around.globals.get(node.func.id) if isinstance(node.func, ast.Name) else None
    if (parameters := _parameters(called)) is None:
        return
    for other, exercise in around.globals.items():
        if exercise is not called and _parameters(exercise) == parameters:
            says = f"`{other}` stood where `{ast.unparse(node.func)}` belongs"
            yield says, ast.Call(ast.Name(other, ast.Load()), node.args, node.keywords)
    inside = _source_of(called)
    for activation in ("softplus", "silu"):
        if f"F.{activation}(" not in inside or "F" not in around.globals:
            continue
        for i, argument in enumerate(node.args):
            twice = ast.Call(ast.parse(f"F.{activation}", mode="eval").body, [argument], [])
            arguments = [*node.args[:i], twice, *node.args[i + 1 :]]
            says = f"`{activation}` were taken twice: `{ast.unparse(node.func)}` takes it already"
            yield says, ast.Call(node.func, arguments, node.keywords)


def _parameters(function: Any) -> list[str] | None:
    """Those of an exercise; nothing for what is none."""
    reference = getattr(function, "reference", None)
    return list(inspect.signature(reference).parameters) if reference else None


def _source_of(exercise: Any) -> str:
    try:
        return inspect.getsource(exercise.reference)
    except OSError:
        return ""


def _terms(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return [*_terms(value.left), *_terms(value.right)]
    return [value]


def _factors(value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each factor of a product, with the rest."""
    factors = _all_factors(value)
    for i, factor in enumerate(factors if len(factors) > 1 else []):
        rest = [*factors[:i], *factors[i + 1 :]]
        product = rest[0]
        for other in rest[1:]:
            product = _times(product, other)
        yield factor, product


def _all_factors(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        return [*_all_factors(value.left), *_all_factors(value.right)]
    return [value]


def _at(value: ast.expr, place: ast.expr) -> ast.Subscript:
    return ast.Subscript(value, place, ast.Load())


def _minus(value: ast.expr | None) -> ast.expr | None:
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        return value.operand
    return ast.UnaryOp(ast.USub(), value) if value is not None else None


def _root(product: ast.BinOp) -> ast.expr:
    """Of the width over which a product of matrices is summed."""
    left = product.left.right if isinstance(product.left, ast.BinOp) else product.left
    width = _at(ast.Attribute(left, "shape", ast.Load()), ast.Constant(-1))
    return ast.BinOp(width, ast.Pow(), ast.Constant(0.5))


def _times(one: ast.expr, other: ast.expr) -> ast.BinOp:
    return ast.BinOp(one, ast.Mult(), other)


def _method(value: ast.expr, name: str) -> ast.Call:
    return ast.Call(ast.Attribute(value, name, ast.Load()), [], [])


def without(node: ast.Call, i: int) -> ast.Call:
    return ast.Call(node.func, [*node.args[:i], ast.Constant(None), *node.args[i + 1 :]], node.keywords)


def _listed(names: list[str]) -> str:
    *before, last = [f"`{name}`" for name in names]
    return f"{', '.join(before)} and {last}" if before else last
