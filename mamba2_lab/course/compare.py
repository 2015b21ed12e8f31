"""Compare what an answer gave with what was expected, in words for its reader."""

from __future__ import annotations

import inspect
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def difference(
    got: Any, like: Any, expected: Any, rtol: float, atol: float, what: str = "the result", spoken: bool = False
) -> str:
    """How `got` differs, in words; an empty text if it does not.

    Args:
        like: what a right answer returns; type, shape, dtype and device are taken from it.
        expected: its values, in any type that holds them: an oracle may compute in float64, with numpy or in lists.
        rtol, atol: an entry may be off by rtol * |expected| + atol. Integers, truth values and texts must be equal.
        spoken: texts are words about the answer, as `observe` gives them, and stand in the sentence without quotes.

    Raises:
        TypeError: if `like` is of a kind that cannot be compared.
        ValueError: if `expected` has another shape than `like`.
    """
    if isinstance(like, tuple | list):
        return _sequence_difference(got, like, expected, rtol, atol, what, spoken)
    if isinstance(like, dict):
        return _dict_difference(got, like, expected, rtol, atol, what, spoken)
    if isinstance(like, Tensor):
        exact = not (like.is_floating_point() or like.is_complex())
        return _form_difference(got, like, what) or _value_difference(got, expected, exact, rtol, atol, what)
    if is_number(like):
        if not is_number(got):
            return f"{what} is {kind(got)}, expected a number."
        number = torch.tensor(float(got), dtype=torch.float64, device="cpu")
        return _value_difference(number, expected, isinstance(like, int), rtol, atol, what)
    if not comparable(like):
        raise TypeError(f"{what} of the reference is {kind(like)}, which cannot be compared: declare what to observe")
    if type(got) is not type(like):
        return f"{what} is {kind(got)}, expected {kind(like)}."
    if got == expected:
        return ""
    return f"{what}: {got}; expected: {expected}." if spoken else f"{what} is {got!r}, expected {expected!r}."


def numbers_in(value: Any) -> Tensor | None:
    """In float64; nothing for what is no number."""
    if isinstance(value, Tensor):
        readable = value.layout == torch.strided and not (value.is_complex() or value.is_meta)
        return value.detach().cpu().double() if readable else None
    try:
        return torch.as_tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        return None


def numbers_off(got: Any, expected: Any) -> int:
    """How many numbers differ clearly, in what can be laid side by side."""
    if isinstance(got, tuple | list) and isinstance(expected, tuple | list):
        return sum(map(numbers_off, got, expected))
    if isinstance(got, dict) and isinstance(expected, dict):
        return sum(numbers_off(got[key], expected[key]) for key in got.keys() & expected.keys())
    found, wanted = numbers_in(got), numbers_in(expected)
    if found is None or wanted is None or found.shape != wanted.shape:
        return 0
    return int((~close(found, wanted, 1e-3, 1e-5)).sum())


def comparable(value: Any) -> bool:
    """Whether `difference` can compare it: tensors, numbers, texts, None, and tuples, lists and dicts of them."""
    if isinstance(value, dict):
        return all(map(comparable, value.values()))
    if isinstance(value, tuple | list):
        return all(map(comparable, value))
    return value is None or isinstance(value, Tensor | Real | str)


def is_number(value: Any) -> bool:
    """Whether it is a real number. True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def kind(value: Any) -> str:
    """What a value is, for a sentence, with what it is usually a sign of."""
    if value is None:
        return "None (is the `return` missing?)"
    if inspect.isgenerator(value):
        return "a generator (`yield` makes one; use `return`)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name}" + (f" of {len(value)}" if isinstance(value, tuple | list | dict) else "")


def written(number: complex, digits: int = 4) -> str:
    """A number with that many significant digits: 0.5, -10000, 1e+30."""
    if isinstance(number, complex):
        imaginary = written(number.imag, digits)
        return f"{written(number.real, digits)}{'' if imaginary.startswith('-') else '+'}{imaginary}i"
    return repr(float(f"{number:.{digits}g}")).removesuffix(".0")


def _sequence_difference(got: Any, like: Any, expected: Any, rtol: float, atol: float, what: str, spoken: bool) -> str:
    if not isinstance(got, list if isinstance(like, list) else tuple):
        return f"{what} is {kind(got)}, expected {kind(like)}."
    if len(got) != len(like):
        return f"{what} has {len(got)} entries, expected {len(like)}."
    for i, parts in enumerate(zip(got, like, expected, strict=True)):
        if problem := difference(*parts, rtol, atol, f"{what}[{i}]", spoken):
            return problem
    return ""


def _dict_difference(got: Any, like: Any, expected: Any, rtol: float, atol: float, what: str, spoken: bool) -> str:
    if not isinstance(got, dict):
        return f"{what} is {kind(got)}, expected {kind(like)}."
    if got.keys() != like.keys():
        return f"{what} has the keys {', '.join(map(str, got))}; expected {', '.join(map(str, like))}."
    for key in like:
        part = key if spoken else f"{what}[{key!r}]"
        if problem := difference(got[key], like[key], expected[key], rtol, atol, part, spoken):
            return problem
    return ""


def _form_difference(got: Any, like: Tensor, what: str) -> str:
    """Everything but the numbers."""
    if not isinstance(got, Tensor):
        return f"{what} is {kind(got)}, expected a tensor of shape {tuple(like.shape)}."
    if got.shape != like.shape:
        return f"{what} has shape {tuple(got.shape)}, expected {tuple(like.shape)}."
    for aspect in ("dtype", "device", "layout"):
        found, wanted = (str(getattr(tensor, aspect)).removeprefix("torch.") for tensor in (got, like))
        if found != wanted:
            return f"{what} has {aspect} {found}, expected {wanted}."
    if like.requires_grad and not got.requires_grad:
        return f"no gradient can flow through {what}: something on the way was detached, or made from plain numbers."
    return ""


def _value_difference(got: Tensor, expected: Any, exact: bool, rtol: float, atol: float, what: str) -> str:
    double = torch.complex128 if got.is_complex() else torch.float64
    found, wanted = _on_cpu(got).to(double), torch.as_tensor(_on_cpu(expected), dtype=double, device="cpu")
    if wanted.shape != found.shape:
        raise ValueError(f"the oracle must give {what} in shape {tuple(found.shape)}; got {tuple(wanted.shape)}")
    off = ~close(found, wanted, *((0.0, 0.0) if exact else (rtol, atol)))
    if not off.any():
        return ""
    where = tuple(off.nonzero()[0].tolist())
    wanted_there, found_there = _told_apart(wanted[where].item(), found[where].item())
    values = f"expected {wanted_there}, got {found_there}."
    if not where:
        return f"for {what}, {values}"
    first = f"the first at [{', '.join(map(str, where))}]"
    where_all = f" {standing}," if (standing := place(off)) else ""
    return f"{int(off.sum())} of {off.numel()} entries of {what} are off,{where_all} {first}: {values}"


def place(off: Tensor) -> str:
    """Where the entries that are off stand, in words, if they stand together; else nothing."""
    if off.ndim > 1 and off.shape[-1] == off.shape[-2] > 1:
        diagonal = torch.eye(off.shape[-1], dtype=torch.bool)
        for there, words in (
            (diagonal, "all on the diagonal"),
            (torch.ones_like(diagonal).triu(1), "all above the diagonal"),
            (torch.ones_like(diagonal).tril(-1), "all below the diagonal"),
        ):
            if not (off & ~there).any():
                return words
    if off.ndim == 1 and len(off) > 2 and off[1:].all() and not off[0]:
        return "all but entry 0"
    for axis, size in enumerate(off.shape if off.ndim > 1 else ()):
        along = off.movedim(axis, 0).flatten(1).any(dim=1)
        if size > 1 and along.sum() == 1 and off.sum() > 1:
            return f"all with index {int(along.nonzero())} along axis {axis}"
        if size > 2 and along[1:].all() and not along[0]:
            return f"none with index 0 along axis {axis}"
    return ""


def close(found: Tensor, wanted: Tensor, rtol: float, atol: float) -> Tensor:
    """Where two tensors of float64 agree. Infinities agree with themselves only, and NaN agrees with NaN."""
    size = wanted.abs()
    allowed = atol + rtol * torch.where(size.isfinite(), size, 0.0)
    return (found == wanted) | ((found - wanted).abs() <= allowed) | (found.isnan() & wanted.isnan())


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _told_apart(one: complex, other: complex) -> tuple[str, str]:
    """Both with as many digits as it takes to see that they differ."""
    texts = "", ""
    for digits in range(4, 18):
        texts = written(one, digits), written(other, digits)
        if texts[0] != texts[1]:
            break
    return texts
