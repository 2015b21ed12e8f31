"""Judge an answer to an exercise, and say in plain words what is not right yet.

The answer is run on every case, each time with copies of the inputs, and its results are compared with the oracle's.
If one is off, the wrong answers that the exercise knows are run as well: a reader whose results are those of a known
mistake is told which mistake it is. If it is none of them, the first part that is off is looked at by itself: whether a
known mistake gives the same there, whether it is one of those that are the same in every exercise (`causes`), and
whether all of it is what a slight change of the reference gives (`slight`).
"""

from __future__ import annotations

import dis
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch.utils._pytree import tree_leaves

from mamba2_lab.course.calls import Outcome, by_name, forms_of, fresh, in_words, own_randomness, run
from mamba2_lab.course.compare import comparable, difference
from mamba2_lab.course.declare import Case, Exercise
from mamba2_lab.course.effort import grows_too_fast
from mamba2_lab.course.other_ways import OTHER_WAYS
from mamba2_lab.course.parts import Trial, first_off, look_closer
from mamba2_lab.course.slight import changes


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
    trials = _trials(exercise, answer)
    if any(trial.outcome.failure and trial.outcome.failure.unwritten for trial in trials):
        return Verdict("unanswered")
    taken = next((trial.outcome.taken for trial in trials if trial.outcome.taken), "")
    if any(all(_agreements(trials, other)) for other in exercise.other_answers):
        return Verdict("passed", taken=taken)
    for number, trial in enumerate(trials):
        if problem := _problem(trial):
            mistake = _known_mistake(trials, number)
            if not (trial.outcome.failure or _changed(trial)):
                usual, where = look_closer(trials[number:], answer)
                mistake, problem = mistake or usual or _slight_change(trials[number:], answer), where or problem
            evidence = f"On {in_words(exercise, trial.case)}: {problem}"
            return Verdict("wrong", mistake, evidence) if mistake else Verdict("wrong", evidence)
    if steep := _grows_too_fast(exercise, answer):
        return Verdict("wrong", "The numbers are right, but the work grows as the square of the length.", steep)
    return Verdict("passed", taken=taken)


def _trials(exercise: Exercise, answer: Callable[..., Any]) -> list[Trial]:
    trials = []
    for case in exercise.make_cases():
        forms = forms_of(exercise, case)
        trials.append(Trial(exercise, case, forms, run(exercise, answer, case, forms)))
    return trials


def is_blank(answer: Callable[..., Any]) -> bool:
    """Whether a body does nothing: `...`, `pass`, a docstring alone. They all compile to the same instructions."""

    def nothing() -> None: ...

    def instructions(function: Callable[..., Any]) -> list[tuple[str, Any]]:
        return [(step.opname, step.argval) for step in dis.get_instructions(function) if step.opname != "NOP"]

    return instructions(inspect.unwrap(answer)) == instructions(nothing)


def _problem(trial: Trial) -> str:
    """What is wrong with the outcome of one case, in words; nothing if it is right."""
    exercise, case, outcome = trial.exercise, trial.case, trial.outcome
    if outcome.failure:
        return f"it raised {outcome.failure}."
    if changed := _changed(trial):
        return (
            f"it changes its input `{changed}` in place, which its caller may still need as it was. "
            "Make something new (`x + y`, not `x += y`), or start from a copy (`x.clone()`)."
        )
    right = trial.by(exercise.reference).outcome
    expected, tolerance = exercise.expected(fresh(case)), (exercise.rtol, exercise.atol)
    return difference(outcome.result, right.result, expected, *tolerance, exercise.subject, exercise.is_observed)


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


def _known_mistake(trials: Sequence[Trial], first_off: int) -> str:
    """The message of the wrong answer that does what the reader's does; nothing if none does.

    It must agree up to the first case that is off. Of several, the one that agrees on most cases is taken: a reader
    who makes a known mistake may make another beside it.
    """
    most, message = 0, ""
    for wrong in trials[0].exercise.wrong_answers:
        agree = _agreements(trials, wrong.function)
        if all(agree[: first_off + 1]) and sum(agree) > most:
            most, message = sum(agree), wrong.says
    return message


def _slight_change(trials: Sequence[Trial], answer: Callable[..., Any]) -> str:
    """What is changed in the reference, if the reader's results are those of a slight change; nothing if not.

    If all of them are not, those of the first part that is off may be: then the reader made another mistake beside it,
    or the same one at fewer places.
    """
    exercise = trials[0].exercise
    if exercise.is_observed or any(isinstance(part, str) for form in trials[0].forms for part in tree_leaves(form)):
        return ""  # words are soon the same, and for many reasons
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some changes make no sense, and torch says so
        changed = list(changes(exercise.reference, *filter(None, [OTHER_WAYS.get(exercise.name)])))
        for says, function in changed:
            others = (trial.by(function).outcome for trial in trials)
            if all(
                comparable(other.result) and _agree(trial.exercise, trial.outcome, other)
                for trial, other in zip(trials, others, strict=True)
            ):
                return f"It comes out as if {says}."
        if part := first_off(trials, answer):
            for says, function in changed:
                if part.is_that_of(function):
                    return f"{part.name[0].upper()}{part.name[1:]} comes out as if {says}."
    return ""


def _agreements(trials: Sequence[Trial], other: Callable[..., Any]) -> list[bool]:
    """For each case, whether another answer leads to the same outcome."""
    return [_agree(trial.exercise, trial.outcome, trial.by(other).outcome) for trial in trials]


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
