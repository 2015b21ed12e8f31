"""Judge an answer to an exercise, and say in plain words what is not right yet.

The answer is run on every case, each time with copies of the inputs, and its results are compared with the oracle's.
If one is off, the wrong answers that the exercise knows are run as well: a reader whose results are those of a known
mistake is told which mistake it is.
"""

from __future__ import annotations

import copy
import dis
import inspect
import linecache
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any, Literal

import torch
from torch import Tensor

from mamba2_lab.course.compare import comparable, difference, kind, written
from mamba2_lab.course.declare import Case, Exercise

SEED = 0  # an answer that draws random numbers is judged by the same draws every time
SHORT = 8  # in a message, a tensor of at most this many numbers is written out


@dataclass(frozen=True)
class Verdict:
    """What became of an answer.

    message: what is not right yet. evidence: on which input, where and by how much; it may be in the message already.
    """

    status: Literal["passed", "unanswered", "wrong"]
    message: str = ""
    evidence: str = ""


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


# The verdict


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Draws in here come from one seed, and leave the random state of the notebook as it was."""
    python = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)  # torch.manual_seed would seed every other device too
            random.seed(SEED)
            yield
    finally:
        random.setstate(python)


@_own_randomness()
def judge(exercise: Exercise, answer: Callable[..., Any]) -> Verdict:
    """Try an answer on every case of its exercise. Mistakes in the answer never raise, those in the exercise do."""
    parameters = list(inspect.signature(exercise.reference).parameters)
    if list(inspect.signature(answer).parameters) != parameters:
        return Verdict("wrong", f"It must take the parameters `{', '.join(parameters)}`, under these names.")
    if is_blank(answer):
        return Verdict("unanswered")
    cases = exercise.make_cases()
    outcomes = [run(exercise, answer, case) for case in cases]
    if any(outcome.failure and outcome.failure.unwritten for outcome in outcomes):
        return Verdict("unanswered")
    if any(all(_agreements(exercise, cases, outcomes, other)) for other in exercise.other_answers):
        return Verdict("passed")
    for number, (case, outcome) in enumerate(zip(cases, outcomes, strict=True)):
        if problem := _problem(exercise, case, outcome):
            evidence = f"On {_in_words(exercise, case)}: {problem}"
            mistake = _known_mistake(exercise, cases, outcomes, number)
            return Verdict("wrong", mistake, evidence) if mistake else Verdict("wrong", evidence)
    return Verdict("passed")


def is_blank(answer: Callable[..., Any]) -> bool:
    """Whether a body does nothing: `...`, `pass`, a docstring alone. They all compile to the same instructions."""

    def nothing() -> None: ...

    def instructions(function: Callable[..., Any]) -> list[tuple[str, Any]]:
        return [(step.opname, step.argval) for step in dis.get_instructions(function) if step.opname != "NOP"]

    return instructions(inspect.unwrap(answer)) == instructions(nothing)


def _problem(exercise: Exercise, case: Case, outcome: Outcome) -> str:
    """What is wrong with the outcome of one case, in words; nothing if it is right."""
    if outcome.failure:
        return f"it raised {outcome.failure}."
    if changed := _changed_input(exercise, case, outcome.case):
        return (
            f"it changes its input `{changed}` in place, which its caller may still need as it was. "
            "Make something new (`x + y`, not `x += y`), or start from a copy (`x.clone()`)."
        )
    right = run(exercise, exercise.reference, case)
    if right.failure:
        raise RuntimeError(f"the reference of exercise {exercise.name} raised {right.failure}")
    expected, tolerance = exercise.expected(_fresh(case)), (exercise.rtol, exercise.atol)
    return difference(outcome.result, right.result, expected, *tolerance, exercise.subject)


def _changed_input(exercise: Exercise, before: Case, after: Case) -> str:
    """The name of the first argument that is not what it was; nothing if all are."""
    new = _by_name(exercise, after)
    for name, old in _by_name(exercise, before).items():
        if comparable(old) and difference(new[name], old, old, rtol=0.0, atol=0.0):
            return name
    return ""


def _known_mistake(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome], first_off: int) -> str:
    """The message of the wrong answer that does what the reader's does; nothing if none does.

    It must agree up to the first case that is off. Of several, the one that agrees on most cases is taken: a reader
    who makes a known mistake may make another beside it.
    """
    most, message = 0, ""
    for wrong in exercise.wrong_answers:
        agree = _agreements(exercise, cases, outcomes, wrong.function)
        if all(agree[: first_off + 1]) and sum(agree) > most:
            most, message = sum(agree), wrong.says
    return message


def _agreements(
    exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome], other: Callable[..., Any]
) -> list[bool]:
    """For each case, whether another answer leads to the same outcome."""
    return [_agree(exercise, one, run(exercise, other, case)) for case, one in zip(cases, outcomes, strict=True)]


def _agree(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    """Whether two answers did the same: gave the same result and left the same inputs, or failed in the same way."""
    if one.failure or other.failure:
        signs = [(outcome.failure.kind, outcome.failure.message) for outcome in (one, other) if outcome.failure]
        return len(signs) == 2 and signs[0] == signs[1]
    if _changed_input(exercise, other.case, one.case):
        return False
    if not comparable(other.result):
        return type(one.result) is type(other.result)
    return not difference(one.result, other.result, other.result, exercise.rtol, exercise.atol)


# One call


def run(exercise: Exercise, answer: Callable[..., Any], case: Case) -> Outcome:
    """Call the answer with copies of the inputs; whatever it raises is part of the outcome."""
    case = _fresh(case)
    with _own_randomness():
        try:
            result = exercise.seen(answer, case)
            return Outcome(_map_leaves(result, lambda leaf: leaf), None, case)
        except Exception as error:
            return Outcome(None, _failure(error, inspect.unwrap(answer).__code__), case)


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


def _fresh(case: Case) -> Case:
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


def _in_words(exercise: Exercise, case: Case) -> str:
    return ", ".join(_argument(name, value) for name, value in _by_name(exercise, case).items())


def _argument(name: str, value: Any) -> str:
    if isinstance(value, Tensor):
        if value.numel() > SHORT:
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


def _by_name(exercise: Exercise, case: Case) -> dict[str, Any]:
    """The arguments under the names of the reference's parameters."""
    return inspect.signature(exercise.reference).bind(*case.args, **case.kwargs).arguments
