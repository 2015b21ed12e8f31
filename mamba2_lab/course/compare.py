"""Compare what an answer gave with what was expected, in words for its reader."""

from __future__ import annotations

import inspect
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def difference(got: Any, like: Any, expected: Any, rtol: float, atol: float, what: str = "the result") -> str:
    """How `got` differs, in words; an empty text if it does not.

    Args:
        like: what a right answer returns; type, shape, dtype and device are taken from it.
        expected: its values, in any type that holds them: an oracle may compute in float64, with numpy or in lists.
        rtol, atol: an entry may be off by rtol * |expected| + atol. Integers, truth values and texts must be equal.

    Raises:
        TypeError: if `like` is of a kind that cannot be compared.
        ValueError: if `expected` has another shape than `like`.
    """
    if isinstance(like, tuple | list):
        return _sequence_difference(got, like, expected, rtol, atol, what)
    if isinstance(like, dict):
        return _dict_difference(got, like, expected, rtol, atol, what)
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
    return "" if got == expected else f"{what} is {got!r}, expected {expected!r}."


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
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name}" + (f" of {len(value)}" if isinstance(value, tuple | list | dict) else "")


def written(number: complex, digits: int = 4) -> str:
    """A number with that many significant digits: 0.5, -10000, 1e+30."""
    if isinstance(number, complex):
        imaginary = written(number.imag, digits)
        return f"{written(number.real, digits)}{'' if imaginary.startswith('-') else '+'}{imaginary}i"
    return repr(float(f"{number:.{digits}g}")).removesuffix(".0")


def _sequence_difference(got: Any, like: Any, expected: Any, rtol: float, atol: float, what: str) -> str:
    if not isinstance(got, list if isinstance(like, list) else tuple):
        return f"{what} is {kind(got)}, expected {kind(like)}."
    if len(got) != len(like):
        return f"{what} has {len(got)} entries, expected {len(like)}."
    for i, parts in enumerate(zip(got, like, expected, strict=True)):
        if problem := difference(*parts, rtol, atol, f"{what}[{i}]"):
            return problem
    return ""


def _dict_difference(got: Any, like: Any, expected: Any, rtol: float, atol: float, what: str) -> str:
    if not isinstance(got, dict):
        return f"{what} is {kind(got)}, expected {kind(like)}."
    if got.keys() != like.keys():
        return f"{what} has the keys {', '.join(map(str, got))}; expected {', '.join(map(str, like))}."
    for key in like:
        if problem := difference(got[key], like[key], expected[key], rtol, atol, f"{what}[{key!r}]"):
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
    off = ~_close(found, wanted, *((0.0, 0.0) if exact else (rtol, atol)))
    if not off.any():
        return ""
    where = tuple(off.nonzero()[0].tolist())
    wanted_there, found_there = _told_apart(wanted[where].item(), found[where].item())
    values = f"expected {wanted_there}, got {found_there}."
    if not where:
        return f"for {what}, {values}"
    first = f"the first at [{', '.join(map(str, where))}]"
    return f"{int(off.sum())} of {off.numel()} entries of {what} are off, {first}: {values}"


def _close(found: Tensor, wanted: Tensor, rtol: float, atol: float) -> Tensor:
    """Where they agree. Infinities agree with themselves only, and NaN agrees with NaN."""
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
