"""What often lies behind wrong numbers, whatever the exercise: a turned sign, exchanged axes, one entry too many.

Each cause is a way to make the reader's numbers out of the right ones. It is named if it makes all of them.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.course.compare import close, is_number, numbers_in, place, written

# By which a result may be off if it is measured in another unit, or a factor is forgotten
FACTORS = {"ln 2": math.log(2), "1 / ln 2": 1 / math.log(2), "2": 2.0, "1/2": 0.5, "8": 8.0, "1/8": 0.125}
Causes = dict[str, str]  # the sentence of each, by a name that is the same for all inputs


@dataclass(frozen=True)
class Beside:
    """A result beside the right one.

    name: of what it is, for a sentence. others: what is expected of the other results, by name. given: the inputs, by
    name.
    """

    got: Any
    expected: Any
    rtol: float
    atol: float
    name: str
    others: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """For the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    def equal(self, one: Tensor, other: Tensor) -> bool:
        """Whether they agree within the tolerances."""
        return one.shape == other.shape and bool(close(one, other, self.rtol, self.atol).all())


def causes(result: Beside) -> Causes:
    """What may lie behind a result that is off, the likeliest first."""
    got, expected, subject, equal = result.got, result.expected, result.subject, result.equal
    if isinstance(got, str) and isinstance(expected, str):
        return {}
    if isinstance(got, bool) and isinstance(expected, bool):
        return {} if got == expected else {"not": f"{subject} is {got} where {expected} belongs."}
    if _are_texts(expected):
        return dict(_of_entries(got, expected, subject))
    found, wanted = numbers_in(got), numbers_in(expected)
    if found is None or wanted is None or not wanted.numel() or equal(found, wanted):
        return {}  # something else than the numbers is wrong
    inputs = _numbers_of(result.given)
    for name, given in inputs.items():
        if given.ndim and equal(found, given):
            return {f"as {name}": f"{subject} is `{name}` as it was given: nothing was done to it."}
    if found.shape != wanted.shape:
        return dict(_of_shape(found, wanted, equal, subject))
    return dict(_of_values(found, wanted, equal, subject, _numbers_of(result.others), inputs))


def looks(result: Beside) -> Causes:
    """What a result looks like beside the right one, where no cause is known: a factor, a shift, zeros somewhere."""
    got, expected, subject, equal = result.got, result.expected, result.subject, result.equal
    if _are_texts(got) and _are_texts(expected):
        return dict(_of_texts(Counter(got), Counter(expected), subject))
    found, wanted = numbers_in(got), numbers_in(expected)
    if found is None or wanted is None or found.shape != wanted.shape or not wanted.numel() or equal(found, wanted):
        return {}
    return {
        **dict(_of_inputs(found, wanted, equal, subject, _numbers_of(result.given))),
        **dict(_of_size(found, wanted, equal, subject)),
        **dict(_of_axes(found / wanted, wanted, subject)),
    }


def _numbers_of(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those that are numbers, by name."""
    return {name: numbers for name, value in values.items() if (numbers := numbers_in(value)) is not None}


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)


def _of_entries(got: Any, expected: Any, subject: str) -> Iterator[tuple[str, str]]:
    """Of a list of texts."""
    if is_number(got) and got == len(expected):
        yield "count", f"{subject} is how many there are: give the entries themselves."
    if _are_texts(got) and Counter(got) == Counter(expected) and got != expected:
        yield "order", f"{subject} holds the right entries, in another order."
    if _are_texts(got) and len(got) == len(expected) and got != expected:
        if all(found in wanted for found, wanted in zip(got, expected, strict=True)):
            yield "part", f"{subject} holds only a part of each entry: give all of it."


def _of_texts(found: Counter[str], wanted: Counter[str], subject: str) -> Iterator[tuple[str, str]]:
    for sign, more, fewer in (("more", found, wanted), ("fewer", wanted, found)):
        if fewer < more:
            names = ", ".join(map(repr, more - fewer))
            yield sign, f"{subject} {'also holds' if sign == 'more' else 'lacks'} {names}; the rest is right."


Equal = Callable[[Tensor, Tensor], bool]


def _of_values(
    found: Tensor,
    wanted: Tensor,
    equal: Equal,
    subject: str,
    others: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
) -> Iterator[tuple[str, str]]:
    if (found.isnan() & ~wanted.isnan()).any():
        yield "nan", f"{subject} holds NaN: inf - inf, 0 * inf or 0 / 0 came up on the way."
    for name, other in others.items():
        if equal(found, other):
            yield f"is {name}", f"{subject} holds what belongs into {name}: the two are exchanged."
    there = wanted.isfinite()
    if there.any() and equal(found[there], -wanted[there]):
        yield "sign", f"{subject} has the wrong sign: every number is minus what it should be."
    for name, made, says in (
        ("exp", wanted.exp(), "is the exponential of what is asked for: leave out the last `exp`"),
        ("log", wanted.log(), "is the logarithm of what is asked for: take the exponential of it"),
        ("inverse", 1 / wanted, "is 1 divided by what is asked for"),
        ("rest", 1 - wanted, "is 1 minus what is asked for"),
        ("size", wanted.abs(), "has lost its signs: what should be below 0 is above it"),
        ("up", wanted.ceil(), "is rounded; give the number as it is"),
        ("down", wanted.floor(), "is rounded; give the number as it is"),
    ):
        rounded = name in ("up", "down") and found.numel() > 1
        if equal(found, made) and not (rounded and len(found.unique()) == 1):
            yield name, f"{subject} {says}."
    for axis, size in enumerate(wanted.shape):
        varies = size > 1 and not equal(wanted, wanted.narrow(axis, 0, 1).expand_as(wanted))
        if varies and equal(found, wanted.cumsum(axis)):
            yield f"cumsum {axis}", f"{subject} is added up{_along(wanted, axis)}, entry after entry: leave that out."
    if wanted.ndim and wanted.shape[-1] > 1 and equal(found, wanted.log_softmax(dim=-1)):
        yield "log_softmax", f"{subject} has gone through a log_softmax: give what goes into it."
    if _are_softmax(found, wanted):
        yield "softmax", f"{subject} has gone through a softmax: give what goes into it."
    for name, given in inputs.items():
        if given.shape == wanted.shape and given.ndim and there.any():
            for what, made in (("log_softmax", given.log_softmax(dim=-1)), ("softmax", given.softmax(dim=-1))):
                if equal(found[there], made[there]) and not found[~there].isfinite().any():
                    yield f"{what} {name}", f"{subject} holds the {what} of `{name}`, not its own numbers."
    yield from _of_order(found, wanted, equal, subject)


def _of_size(found: Tensor, wanted: Tensor, equal: Equal, subject: str) -> Iterator[tuple[str, str]]:
    """By a factor."""
    there = wanted.isfinite()
    for name, factor in FACTORS.items():
        if there.all() and wanted.any() and equal(found, wanted * factor):
            yield f"times {name}", f"{subject} is {name} times what it should be."
    shift = (found - wanted)[there]
    if len(wanted[there].unique()) > 2 and equal(found, wanted + shift[0]):
        by = f"too {'large' if shift[0] > 0 else 'small'} by {written(shift[0].abs().item())}"
        yield "shift", f"Every number of {lower(subject)} is {by}, the same everywhere."
    factors = (found / wanted)[there & (wanted != 0)]
    told_apart = len(wanted[there].unique()) > 2 and len(factors) > 2 and not 0.99 < factors[0] < 1.01
    if told_apart and factors[0] != 0 and equal(found, wanted * factors[0]):
        yield "factor", f"Every number of {lower(subject)} is {written(factors[0].item())} times what it should be."


def _are_softmax(found: Tensor, wanted: Tensor) -> bool:
    """Whether rows are made of wanted ones by a softmax, perhaps over more columns than are left."""
    if not wanted.ndim or wanted.shape[-1] < 2 or not ((found > 0) & wanted.isfinite()).all():
        return False
    lower = wanted - found.log()  # the logarithm of the sum, the same in the whole row
    sums = found.sum(dim=-1)
    return bool((sums < 1 + 1e-4).all() and (lower - lower[..., :1]).abs().max() < 1e-3 and sums.min() > 1e-3)


def _of_inputs(
    found: Tensor, wanted: Tensor, equal: Equal, subject: str, inputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, str]]:
    """An input that is multiplied by, divided by or added, and should not be; then what holds for some places only."""
    for name, given in inputs.items():
        if given.ndim and given.shape != wanted.shape:  # a size that fits by chance proves nothing
            continue
        for sign, minus in ((1, ""), (-1, "-")):
            if equal(found, sign * wanted * given):
                yield f"times {minus}{name}", f"{subject} is `{minus}{name}` times what it should be."
            if equal(found, sign * wanted / given):
                yield f"over {minus}{name}", f"{subject} is divided by `{minus}{name}`, and should not be."
            if equal(found, wanted + sign * given):
                by = "too large" if sign > 0 else "too small"
                yield f"plus {minus}{name}", f"{subject} is {by} by `{name}`."
    off = ~torch.isclose(found, wanted, rtol=1e-3, atol=1e-5)
    where = f", {standing}" if (standing := place(off)) else ""
    if off.any() and not off.all() and found[~off].any():
        if not found[off].any():
            yield "nothing", f"{subject} is 0 where it should not be{where}; the other numbers are right."
        if not wanted[off].any():
            yield "something", f"{subject} is not 0 where it should be{where}; the other numbers are right."


def _of_axes(factor: Tensor, wanted: Tensor, subject: str) -> Iterator[tuple[str, str]]:
    """Factors that change along one axis alone."""
    if not (wanted != 0).all() or wanted.ndim < 2:
        return
    for axis, size in enumerate(wanted.shape):
        along = factor.movedim(axis, 0).flatten(1)
        alike = torch.allclose(along, along[:, :1].expand_as(along), rtol=1e-3)
        if size > 1 and along.shape[1] > 1 and alike and not torch.allclose(along[0], along[-1], rtol=1e-3):
            factors = ", ".join(written(number) for number in along[:4, 0].tolist())
            dots = ", ..." if size > 4 else ""
            yield f"axis {axis}", f"Along axis {axis}, {lower(subject)} is {factors}{dots} times what it should be."


def _of_order(found: Tensor, wanted: Tensor, equal: Equal, subject: str) -> Iterator[tuple[str, str]]:
    if wanted.ndim > 1 and found.shape == wanted.mT.shape and equal(found, wanted.mT):
        yield "transposed", f"{subject} is transposed: rows and columns are exchanged."
    for axis, size in enumerate(wanted.shape):
        if size < 2:
            continue
        along = _along(wanted, axis)
        if equal(found, wanted.flip(axis)):
            yield f"flip {axis}", f"{subject} is in reversed order{along}."
        if size > 2 and equal(found.narrow(axis, 1, size - 1), wanted.narrow(axis, 0, size - 1)):
            yield (
                f"late {axis}",
                f"{subject} comes one place late{_along(wanted, axis)}: entry 1 is what entry 0 should be.",
            )
        if size > 2 and equal(found.narrow(axis, 0, size - 1), wanted.narrow(axis, 1, size - 1)):
            yield (
                f"early {axis}",
                f"{subject} comes one place early{_along(wanted, axis)}: entry 0 is what entry 1 should be.",
            )
        rolled = any(equal(found, wanted.roll(by, axis)) for by in range(1, min(size, 64)))
        if rolled or equal(found.sort(axis).values, wanted.sort(axis).values):
            yield f"order {axis}", f"{subject} holds the right entries, in another order{along}."


def _of_shape(found: Tensor, wanted: Tensor, equal: Equal, subject: str) -> Iterator[tuple[str, str]]:
    to = f"{tuple(found.shape)} where {tuple(wanted.shape)} is expected"
    if found.numel() == wanted.numel() and equal(found.reshape(wanted.shape), wanted):
        yield "shape", f"{subject} holds the right numbers in the right order, only in shape {to}: use `reshape`."
    if found.ndim <= wanted.ndim and _fits(found, wanted) and equal(found.expand(wanted.shape), wanted):
        yield "once", f"{subject} holds the right numbers once, in shape {to}: repeat them with `expand`."
    if found.ndim == wanted.ndim <= 5:
        for order in itertools.permutations(range(wanted.ndim)):
            if equal(found, wanted.permute(order)):
                yield "axes", f"{subject} holds the right numbers, but its axes are in another order: {to}."
        for axis in range(wanted.ndim):
            yield from _of_length(found, wanted, axis, equal, subject)
    for axis in range(found.ndim):
        if found.ndim == wanted.ndim + 1 and found.shape[axis] and equal(found.select(axis, -1), wanted):
            yield "all", f"{subject} holds all of them, in shape {to}: give the last alone."
    for axis in range(found.ndim if found.ndim == wanted.ndim + 1 else 0):
        for name, joined in (("sum", found.sum(axis)), ("mean", found.mean(axis))):
            if equal(joined, wanted):
                yield f"un{name}", f"{subject} has shape {to}: the {name} along axis {axis} is missing."
    for axis in range(wanted.ndim):
        if found.ndim == wanted.ndim - 1 and equal(found, wanted.select(axis, -1)):
            yield "alone", f"{subject} is the last one alone, in shape {to}: give all of them."
    for axes in itertools.chain.from_iterable(itertools.combinations(range(wanted.ndim), n) for n in (1, 2, 3)):
        if found.ndim < wanted.ndim and equal(found, wanted.sum(axes)):
            yield "sum", f"{subject} is summed over too many axes: it has shape {to}."


def _of_length(found: Tensor, wanted: Tensor, axis: int, equal: Equal, subject: str) -> Iterator[tuple[str, str]]:
    """One axis is longer or shorter."""
    has, needs, along = found.shape[axis], wanted.shape[axis], _along(wanted, axis)
    if has > needs and equal(found.narrow(axis, 0, needs), wanted):
        yield "rest", f"{subject} has {has} entries{along}, and the first {needs} are right: cut off the rest."
    if has > needs and equal(found.narrow(axis, has - needs, needs), wanted):
        yield "front", f"{subject} has {has} entries{along}, and the last {needs} are right: leave out those in front."
    if 0 < has < needs and equal(wanted.narrow(axis, needs - has, has), found):
        yield "first", f"{subject} lacks the first of {needs} entries{along}; those it has are right."
    if 0 < has < needs and equal(wanted.narrow(axis, 0, has), found):
        yield "last", f"{subject} ends too early: it has {has} of {needs} entries{along}, and these are right."


def _fits(found: Tensor, wanted: Tensor) -> bool:
    sizes = zip(reversed(found.shape), reversed(wanted.shape), strict=False)
    return all(has in (1, needs) for has, needs in sizes)


def _along(wanted: Tensor, axis: int) -> str:
    return f" along axis {axis}" if wanted.ndim > 1 else ""


def lower(subject: str) -> str:
    """For the middle of a sentence."""
    return subject[0].lower() + subject[1:]
