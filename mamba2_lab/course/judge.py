"""Judge an answer to an exercise, and say in plain words what is not right yet.

The answer is run on every case, each time with copies of the inputs, and its results are compared with the oracle's.
If one is off, the wrong answers that the exercise knows are run as well: a reader whose results are those of a known
mistake is told which mistake it is. If it is none of them, the first part that is off is looked at by itself: whether a
known mistake gives the same there, whether it is one of those that are the same in every exercise (`causes`), whether
all of it is what a slight change of the reference gives (`slight`) or two known mistakes at once, and what it looks
like beside the right one (`counts`, `causes.looks`).
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mamba2_lab.course.calls import Outcome, by_name, in_words, own_randomness
from mamba2_lab.course.causes import causes, looks
from mamba2_lab.course.compare import comparable, difference, numbers_off
from mamba2_lab.course.declare import Case, Exercise
from mamba2_lab.course.edits import is_vague
from mamba2_lab.course.effort import grows_too_fast
from mamba2_lab.course.other_ways import OTHER_WAYS
from mamba2_lab.course.parts import PartOff, Question, Trial, first_off
from mamba2_lab.course.slight import Change, changes

CHANCE = 1  # so many numbers may be those of a mistake that was not made
FEW = 2  # so many numbers that were observed of an answer may be those of another


@dataclass(frozen=True)
class Verdict:
    """What became of an answer.

    message: what is not right yet. evidence: on which input, where and by how much; it may be in the message already.
    taken: what the results of a right answer are, if they are not in the form of the reference's.
    """

    status: Literal["passed", "unanswered", "wrong"]
    message: str = ""
    evidence: str = ""
    taken: str = ""


@own_randomness()
def judge(exercise: Exercise, answer: Callable[..., Any]) -> Verdict:
    """Try an answer on every case of its exercise. Mistakes in the answer never raise, those in the exercise do."""
    parameters = list(inspect.signature(exercise.reference).parameters)
    if list(inspect.signature(answer).parameters) != parameters:
        return Verdict("wrong", f"It must take the parameters `{', '.join(parameters)}`, under these names.")
    if is_blank(answer):
        return Verdict("unanswered")
    trials = [Trial.of(answer, question) for question in _questions(exercise)]
    if any(trial.outcome.failure and trial.outcome.failure.unwritten for trial in trials):
        return Verdict("unanswered")
    taken = next((trial.outcome.taken for trial in trials if trial.outcome.taken), "")
    if any(all(_agreements(trials, other)) for other in exercise.other_answers):
        return Verdict("passed", taken=taken)
    for number, trial in enumerate(trials):
        if problem := _problem(trial):
            first = [trial, *trials[:number], *trials[number + 1 :]]
            mistake, where = _diagnosis(first, answer)
            evidence = f"On {in_words(exercise, trial.case)}: {where or problem}"
            return Verdict("wrong", mistake, evidence) if mistake else Verdict("wrong", evidence)
    if steep := _grows_too_fast(exercise, answer):
        return Verdict("wrong", "The numbers are right, but the work grows as the square of the length.", steep)
    return Verdict("passed", taken=taken)


@functools.cache  # a reader tries more than once
def _questions(exercise: Exercise) -> Sequence[Question]:
    """Its cases, and what is right there."""
    return [Question(exercise, case) for case in exercise.make_cases()]


def _diagnosis(trials: Sequence[Trial], answer: Callable[..., Any]) -> tuple[str, str]:
    """What lies behind a wrong answer, if that is known, and where it is off, if that is known better.

    What explains all trials comes before what explains some, and a mistake by name before what the numbers look like.

    Args:
        trials: in the first of them it is off.
    """
    if name := _changed(trials[0]):
        return _known_mistake(trials) or (
            f"It changes its input `{name}` in place, which its caller may still need as it was. Make something new "
            "(`x + y`, not `x += y`), or start from a copy (`x.clone()`)."
        ), ""
    if trials[0].outcome.failure:
        return _known_mistake(trials) or _slight_changes(trials)[0] or _known_mistake(trials, in_all=False), ""
    part = first_off(trials, answer)
    mistake = _known_mistake(trials)
    if part:
        mistake = mistake or part.known() or part.usual(causes)
    if not mistake:
        whole, of_part = _slight_changes(trials, part)
        told = "" if is_vague(whole) else whole
        mistake = told or _two_slips(trials) or _known_mistake(trials, in_all=False) or whole or of_part
    if part and not trials[0].exercise.is_observed:
        mistake = mistake or part.counted() or part.usual(looks)
    return mistake, part.where if part else ""


def is_blank(answer: Callable[..., Any]) -> bool:
    """Whether a body does nothing: `...`, `pass`, a docstring alone. They all compile to the same instructions."""

    def nothing() -> None: ...

    def instructions(function: Callable[..., Any]) -> list[tuple[str, Any]]:
        return [(step.opname, step.argval) for step in dis.get_instructions(function) if step.opname != "NOP"]

    return instructions(inspect.unwrap(answer)) == instructions(nothing)


def _problem(trial: Trial) -> str:
    """What is wrong with the outcome of one case, in words; nothing if it is right."""
    exercise, outcome = trial.exercise, trial.outcome
    if outcome.failure:
        return f"it raised {outcome.failure}."
    if changed := _changed(trial):
        return f"afterwards `{changed}` is not what it was."
    right, expected, tolerance = trial.question.right, trial.question.expected, (exercise.rtol, exercise.atol)
    return difference(outcome.result, right, expected, *tolerance, exercise.subject, exercise.is_observed)


def _changed(trial: Trial) -> str:
    """The name of the first argument that is not what it was; nothing if all are."""
    return _changed_input(trial.exercise, trial.case, trial.outcome.case)


def _grows_too_fast(exercise: Exercise, answer: Callable[..., Any]) -> str:
    """Whether the work does, in words, where the exercise asks about it."""

    def call(length: int) -> None:
        case = exercise.make_of_length(length)
        answer(*case.args, **case.kwargs)

    return grows_too_fast(answer, call) if exercise.counts_work else ""


def _changed_input(exercise: Exercise, before: Case, after: Case) -> str:
    """The name of the first argument that is not what it was; nothing if all are."""
    new = by_name(exercise, after)
    for name, old in by_name(exercise, before).items():
        if comparable(old) and difference(new[name], old, old, rtol=0.0, atol=0.0):
            return name
    return ""


def _known_mistake(trials: Sequence[Trial], in_all: bool = True) -> str:
    """The message of the wrong answer that does what the reader's does; nothing if none does.

    Args:
        in_all: it must agree in every case. If not, in the first one, and in more of those in which the reader's is off
            than there are in which it alone is: a reader who makes a known mistake may make another beside it, which
            seldom mends the first. A single number may agree by chance: then in half of those that are off.
    """
    off = [] if in_all else [bool(_problem(trial)) for trial in trials]
    telling = numbers_off(trials[0].outcome.result, trials[0].question.expected) > CHANCE
    most, message = 0, ""
    for wrong in trials[0].exercise.wrong_answers:
        if not _agree(trials[0], trials[0].by(wrong.function).outcome):
            continue
        agree = _agreements(trials, wrong.function)
        if all(agree):
            return wrong.says
        if in_all:
            continue
        both = sum(itertools.compress(agree, off))
        against = sum(not (same or is_off) for same, is_off in zip(agree, off, strict=True))
        if both > max(most, against) and (telling or (both > 1 and 2 * both >= sum(off))):
            most, message = both, wrong.says
    return message


def _two_slips(trials: Sequence[Trial]) -> str:
    """The messages of two known mistakes that the reader made both; nothing if not."""
    for both in trials[0].exercise.two_slips():
        if _agree(trials[0], trials[0].by(both.function).outcome) and all(_agreements(trials, both.function)):
            return both.says
    return ""


def _slight_changes(trials: Sequence[Trial], part: PartOff | None = None) -> tuple[str, str]:
    """What is changed in the reference, if the reader's results are those of a slight change; nothing if not.

    If all of them are not, those of the first part that is off may be: then the reader made another mistake beside it,
    or the same one at fewer places.

    Returns:
        What explains all, and what explains that part; once all is explained, that alone.
    """
    exercise, of_part = trials[0].exercise, ""
    off = sum(numbers_off(trial.outcome.result, trial.question.expected) for trial in trials)
    if exercise.is_observed and off <= FEW:
        return "", ""  # words about an answer, too, are soon the same, and for many reasons
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some changes make no sense, and torch says so
        for says, function in _changes(exercise):
            first = trials[0].by(function).outcome
            if not (first.failure or comparable(first.result)):
                continue
            if _agree(trials[0], first) and all(_agreements(trials[1:], function)):
                return f"It comes out as if {says}.", ""
            if part and not part.alone and not of_part and part.is_that_of(function, first):
                of_part = f"{part.name[0].upper()}{part.name[1:]} comes out as if {says}."
    return "", of_part


@functools.cache  # a reader tries more than once
def _changes(exercise: Exercise) -> Sequence[Change]:
    """The slight changes of its reference, and of another right way to write it."""
    return list(changes(exercise.reference, *filter(None, [OTHER_WAYS.get(exercise.name)])))


def _agreements(trials: Sequence[Trial], other: Callable[..., Any]) -> list[bool]:
    """For each case, whether another answer leads to the same outcome."""
    return [_agree(trial, trial.by(other).outcome) for trial in trials]


def _agree(trial: Trial, other: Outcome) -> bool:
    """Whether two answers did the same: gave the same result and left the same inputs, or failed in the same way."""
    exercise, one = trial.exercise, trial.outcome
    if one.failure or other.failure:
        signs = [(outcome.failure.kind, outcome.failure.message) for outcome in (one, other) if outcome.failure]
        return len(signs) == 2 and signs[0] == signs[1]
    if not comparable(other.result):
        return type(one.result) is type(other.result)
    if difference(one.result, other.result, other.result, exercise.rtol, exercise.atol):
        return False
    return not _changed_input(exercise, other.case, one.case)
