"""What is counted wrongly, in the sizes that were given: "too large by `l * d_out`", "`l` times what it should be".

A count is a sum of products of sizes. A term that was forgotten, or counted twice, leaves a difference that is such a
product; a factor that was forgotten leaves a quotient. It is told if it is the same one for all inputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.course.compare import is_number, numbers_in
from mamba2_lab.course.rarer import SIZES

SMALL = 10  # numbers below this are soon some product
FACTORS = 4  # so many sizes are multiplied, at the most
SCALES = {1.0: "", 2.0: "2 * ", 3.0: "3 * ", 4.0: "4 * "}
POWERS = (1.0, 0.5, 2.0)


def miscounted(subject: str, got: Sequence[Any], expected: Sequence[Any], given: Sequence[Mapping[str, Any]]) -> str:
    """What was counted wrongly; nothing if it is no count, or if several inputs have nothing in common.

    Args:
        got, expected: a number, or a tensor of which each number is off by the same factor, for each input.
        given: the arguments of each, by name.
    """
    sizes = _in_all([_sizes(arguments) for arguments in given])
    if len(got) < 2 or not sizes:
        return ""
    subject = subject[0].upper() + subject[1:]
    if all(is_number(value) and is_number(wanted) for value, wanted in zip(got, expected, strict=True)):
        differences = [float(value) - float(wanted) for value, wanted in zip(got, expected, strict=True)]
        for sign, word in ((1, "large"), (-1, "small")):
            if product := _product([sign * difference for difference in differences], sizes):
                return f"{subject} is too {word} by `{product}`."
        if product := _product([float(value) for value in got], sizes):
            return f"{subject} comes out as `{product}`."
    factors = [_factor(value, wanted) for value, wanted in zip(got, expected, strict=True)]
    if None in factors:
        return ""
    for how, by in (("`{}` times what it should be", 1), ("divided by `{}`, and should not be", -1)):
        if power := _power([factor**by for factor in factors if factor], sizes):
            return f"{subject} is {how.format(power)}."
    return ""


def _sizes(arguments: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the arguments, the fields of a config, and how long and wide tensors are."""
    found: dict[str, float] = {}
    for name, value in arguments.items():
        if is_number(value):
            found[name] = float(value)
        elif isinstance(value, Tensor):
            found |= {f"{name}.shape[{axis}]": float(size) for axis, size in enumerate(value.shape)}
        else:
            fields = {field: getattr(value, field, None) for field in SIZES}
            found |= {f"{name}.{field}": float(size) for field, size in fields.items() if isinstance(size, int)}
    return found


def _in_all(each: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Sizes that every input has, and their neighbours, which are counted in their place; but none that is 1 in all."""
    sizes = {name: [one[name] for one in each] for name in each[0] if all(name in one for one in each)}
    near = {
        f"({name} {sign} 1)": [value + step for value in values]
        for name, values in sizes.items()
        for sign, step in (("-", -1), ("+", 1))
    }
    return {name: values for name, values in (sizes | near).items() if set(values) != {1.0}}


def _product(values: Sequence[float], sizes: Mapping[str, Sequence[float]]) -> str:
    """The product of sizes that these are, the shortest; nothing if it may be so by chance."""
    if max(map(abs, values)) < SMALL or len(set(values)) < 2:
        return ""
    first = {name: of_each[0] for name, of_each in sizes.items()}
    for count in range(1, FACTORS + 1 if len(values) > 2 else 3):
        for names in itertools.combinations(sizes, count):
            if sum(name[0] == "(" for name in names) > 1:
                continue
            product = math.prod([first[name] for name in names])
            for scale, times in SCALES.items():
                if math.isclose(scale * product, values[0], rel_tol=1e-6) and _same(
                    [scale * math.prod(column) for column in zip(*(sizes[name] for name in names), strict=True)], values
                ):
                    return times + " * ".join(names)
    return ""


def _power(factors: Sequence[float], sizes: Mapping[str, Sequence[float]]) -> str:
    """The size, a power of it, or the quotient of two, that these factors are."""
    if _same(factors, [factors[0]] * len(factors)):
        return ""
    for name, values in sizes.items():
        for power in POWERS:
            if all(value > 0 for value in values) and _same([value**power for value in values], factors):
                return name if power == 1 else f"{name}**{power:g}"
    for one, other in itertools.permutations(sizes, 2):
        if all(sizes[other]) and _same([a / b for a, b in zip(sizes[one], sizes[other], strict=True)], factors):
            return f"{one} / {other}"
    return ""


def _same(values: Sequence[float], wanted: Sequence[float]) -> bool:
    return len(values) == len(wanted) and all(
        math.isclose(value, other, rel_tol=1e-4) for value, other in zip(values, wanted, strict=True)
    )


def _factor(got: Any, expected: Any) -> float | None:
    """By which a result is off; nothing if each number of it is off by another one."""
    found, wanted = numbers_in(got), numbers_in(expected)
    if found is None or wanted is None or found.shape != wanted.shape or not (wanted != 0).any():
        return None
    factors = (found / wanted)[wanted != 0]
    alike = torch.allclose(factors, factors[:1], rtol=1e-4, atol=0) and not found[wanted == 0].any()
    return float(factors[0]) if alike else None
