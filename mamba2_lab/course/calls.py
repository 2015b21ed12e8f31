"""One call of an answer: made with copies of its inputs, and told in words."""

from __future__ import annotations

import copy
import dis
import inspect
import itertools
import linecache
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any

import torch
from torch import Tensor

from mamba2_lab.course.compare import kind, written
from mamba2_lab.course.declare import Case, Exercise
from mamba2_lab.course.form import brought

SEED = 0  # an answer that draws random numbers is judged by the same draws every time
SHORT = 8  # in a message, a tensor of at most this many numbers is written out ...
MANY = 20  # ... unless there are more than this of them together


@dataclass(frozen=True)
class Failure:
    """An exception, and the reader's own line that it came from."""

    kind: str
    message: str
    place: str
    unwritten: bool  # the answer itself raised NotImplementedError, another way to leave it open

    def __str__(self) -> str:
        return f"`{self.kind}{': ' if self.message else ''}{self.message}`{self.place}"


@dataclass(frozen=True)
class Outcome:
    """What one call led to: its result or its failure, and the arguments as they were afterwards."""

    result: Any
    failure: Failure | None
    case: Case
    taken: str = ""  # what the answer gave, if it was brought into another form


@contextmanager
def own_randomness() -> Iterator[None]:
    """Draws in here come from one seed, and leave the random state of the notebook as it was."""
    python = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)  # torch.manual_seed would seed every other device too
            random.seed(SEED)
            yield
    finally:
        random.setstate(python)


def run(exercise: Exercise, answer: Callable[..., Any], case: Case, forms: Sequence[Any] | None = None) -> Outcome:
    """Call the answer with copies of the inputs; whatever it raises is part of the outcome.

    Args:
        forms: what the reference gives, call after call; results are brought into the form of these.
    """
    case, taken = fresh(case), []
    forms = forms_of(exercise, case) if forms is None else forms
    each = itertools.chain(forms, itertools.repeat(forms[-1] if forms else None))

    def in_form(*args: Any, **kwargs: Any) -> Any:
        got, like = answer(*args, **kwargs), next(each)
        result = got if like is None else brought(got, like)
        if result is not got:
            taken.append(kind(got))
        return result

    with own_randomness():
        try:
            result = exercise.seen(in_form, case)
            return Outcome(_map_leaves(result, lambda leaf: leaf), None, case, taken[0] if taken else "")
        except Exception as error:
            return Outcome(None, _failure(error, inspect.unwrap(answer).__code__), case)


def forms_of(exercise: Exercise, case: Case) -> list[Any]:
    """What the reference gives for one case, at each of the calls that are made of it.

    Raises:
        RuntimeError: if the reference raises.
    """
    forms: list[Any] = []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        result = exercise.reference(*args, **kwargs)
        forms.append(_map_leaves(result, lambda leaf: leaf))
        return result

    with own_randomness():
        try:
            exercise.seen(recorded, fresh(case))
        except Exception as error:
            failure = _failure(error, inspect.unwrap(exercise.reference).__code__)
            raise RuntimeError(f"the reference of exercise {exercise.name} raised {failure}") from error
    return forms


def _failure(error: Exception, code: CodeType) -> Failure:
    own = [trace for trace in _traces(error) if trace.tb_frame.f_code.co_filename == code.co_filename]
    place, unwritten = "", False
    if own:
        line = linecache.getline(code.co_filename, own[-1].tb_lineno).strip()
        place = f" in line {own[-1].tb_lineno} of its cell" + (f", `{line}`" if line else "")
        unwritten = isinstance(error, NotImplementedError) and _raised_by(own[-1])
    first_line = next(iter(str(error).splitlines()), "")
    return Failure(type(error).__name__, first_line, place, unwritten)


def _traces(error: Exception) -> Iterator[TracebackType]:
    trace = error.__traceback__
    while trace:
        yield trace
        trace = trace.tb_next


def _raised_by(trace: TracebackType) -> bool:
    """Whether a `raise` statement stands there. If not, it was an operation of torch, say, that raised."""
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def fresh(case: Case) -> Case:
    """The same inputs, copied."""
    return Case(_map_leaves(case.args, copy.deepcopy), _map_leaves(case.kwargs, copy.deepcopy))


def _map_leaves(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same tuples, lists and dicts, with copied tensors in them; `leaf` treats whatever else there is."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {key: _map_leaves(entry, leaf) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_leaves(entry, leaf) for entry in value))
    if isinstance(value, tuple | list):
        return type(value)(_map_leaves(entry, leaf) for entry in value)
    return leaf(value)


# Inputs, in words


def in_words(exercise: Exercise, case: Case) -> str:
    """The arguments by name, with the numbers of those that are short, if they are not many together."""
    named = by_name(exercise, case)
    numbers = sum(value.numel() for value in named.values() if isinstance(value, Tensor) and value.numel() <= SHORT)
    return ", ".join(_argument(name, value, SHORT if numbers <= MANY else 1) for name, value in named.items())


def _argument(name: str, value: Any, longest: int) -> str:
    if isinstance(value, Tensor):
        if value.numel() > longest:
            return f"`{name}` of shape {tuple(value.shape)}"
        value = value.tolist()
    return f"`{name} = {text}`" if (text := _literal(value)) else f"`{name}`, {kind(value)}"


def _literal(value: Any) -> str:
    """Numbers, texts and short lists as one would write them; nothing for what is longer, or something else."""
    if isinstance(value, tuple | list) and len(value) <= SHORT and all(parts := [_literal(part) for part in value]):
        return f"[{', '.join(parts)}]"
    if isinstance(value, float | complex):
        return written(value)
    return repr(value) if isinstance(value, int | str) or value is None else ""


def by_name(exercise: Exercise, case: Case) -> dict[str, Any]:
    """The arguments under the names of the reference's parameters."""
    return inspect.signature(exercise.reference).bind(*case.args, **case.kwargs).arguments
