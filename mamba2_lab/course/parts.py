"""Look at an answer part by part: its stages on the way, then each thing that it returns.

The first part that is off is where the mistake is; what comes before it is right, and what comes after it is off for
the same reason, perhaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mamba2_lab.course.calls import Outcome, by_name, fresh, own_randomness, run
from mamba2_lab.course.causes import causes
from mamba2_lab.course.compare import comparable, difference
from mamba2_lab.course.declare import Case, Exercise


@dataclass(frozen=True)
class Trial:
    """An exercise, one of its cases, what the reference gives there (`forms`), and what an answer led to."""

    exercise: Exercise
    case: Case
    forms: Sequence[Any]
    outcome: Outcome

    def by(self, answer: Callable[..., Any]) -> Trial:
        """The same case, given to another answer."""
        return Trial(self.exercise, self.case, self.forms, run(self.exercise, answer, self.case, self.forms))


@dataclass(frozen=True)
class Part:
    """Something that an answer does, under its name in a sentence, beside what is expected of it."""

    name: str
    got: Any
    like: Any
    expected: Any

    def off(self, exercise: Exercise) -> str:
        """How it differs, in words; nothing if it is right."""
        return difference(
            self.got, self.like, self.expected, exercise.rtol, exercise.atol, self.name, exercise.is_observed
        )


def parts_of(trial: Trial, answer: Callable[..., Any]) -> list[Part]:
    """The stages of an answer and what it returns, in order."""
    exercise, case = trial.exercise, trial.case
    right = trial.by(exercise.reference).outcome.result
    expected = exercise.expected(fresh(case))
    stages, right_stages = (_stages(exercise, function, case) for function in (answer, exercise.reference))
    results = zip(*(_named(exercise, value) for value in (trial.outcome.result, right, expected)), strict=False)
    return [
        *(Part(name, stages[name], like, like) for name, like in right_stages.items() if name in stages),
        *(Part(name, got, like, value) for (name, got), (_, like), (_, value) in results),
    ]


def look_closer(trials: Sequence[Trial], answer: Callable[..., Any]) -> tuple[str, str]:
    """What lies behind the first of these trials, which is off: a mistake, if one is known, and where it is.

    Args:
        trials: the first one is off, and is no failure.
    """
    exercise, parts = trials[0].exercise, parts_of(trials[0], answer)
    for number, part in enumerate(parts):
        if problem := part.off(exercise):
            before = parts[:number]
            return _known_here(trials[0], before, part) or _usual(trials, answer, part), _right_so_far(before) + problem
    return "", ""


@dataclass(frozen=True)
class PartOff:
    """The first part of an answer that is off, in each of several cases."""

    name: str
    trials: Sequence[Trial]
    got: Sequence[Any]

    def is_that_of(self, function: Callable[..., Any]) -> bool:
        """Whether another function gives the same there, in every case."""
        return all(self._same(trial, got, function) for trial, got in zip(self.trials, self.got, strict=True))

    def _same(self, trial: Trial, got: Any, function: Callable[..., Any]) -> bool:
        exercise = trial.exercise
        outcome = trial.by(function).outcome
        if outcome.failure or not comparable(outcome.result):
            return False
        found = {**_stages(exercise, function, trial.case), **dict(_named(exercise, outcome.result))}
        return self.name in found and not difference(
            got, found[self.name], found[self.name], exercise.rtol, exercise.atol
        )


def first_off(trials: Sequence[Trial], answer: Callable[..., Any]) -> PartOff | None:
    """The first part that is off in the first of these trials, if the answer has parts and gets to it in all."""
    seen = [{part.name: part for part in parts_of(trial, answer)} for trial in trials if not trial.outcome.failure]
    if len(seen) < len(trials) or len(seen[0]) < 2:
        return None
    name = next((name for name, part in seen[0].items() if part.off(trials[0].exercise)), "")
    if not all(name in parts for parts in seen):
        return None
    return PartOff(name, trials, [parts[name].got for parts in seen])


def _known_here(trial: Trial, before: Sequence[Part], off: Part) -> str:
    """The message of the wrong answer that is right where the reader's is, and off in the same way."""
    if not before and len(_named(trial.exercise, off.like)) == 1 and not trial.exercise.returned:
        return ""  # the whole result was compared already
    exercise = trial.exercise
    for wrong in exercise.wrong_answers:
        other = trial.by(wrong.function)
        if other.outcome.failure:
            continue
        same = {part.name: part for part in parts_of(other, wrong.function)}
        if off.name in same and not any(part.name in same and same[part.name].off(exercise) for part in before):
            theirs = same[off.name].got
            try:
                if not difference(off.got, theirs, theirs, exercise.rtol, exercise.atol):
                    return wrong.says
            except TypeError:
                continue
    return ""


def _usual(trials: Sequence[Trial], answer: Callable[..., Any], first: Part) -> str:
    """A mistake that is the same in every exercise, if it explains this part in each case where it is off."""
    possible: dict[str, str] | None = None
    for trial in trials:
        if trial.outcome.failure:
            continue
        parts = parts_of(trial, answer)
        part = next((part for part in parts if part.name == first.name), None)
        if part is None or not part.off(trial.exercise):
            continue
        others = {other.name: other.expected for other in parts if other.name != part.name}
        tolerance = trial.exercise.rtol, trial.exercise.atol
        given = by_name(trial.exercise, trial.case)
        found = causes(part.got, part.expected, *tolerance, part.name, others, given)
        possible = found if possible is None else {name: says for name, says in possible.items() if name in found}
    return next(iter(possible.values()), "") if possible else ""


def _stages(exercise: Exercise, answer: Callable[..., Any], case: Case) -> dict[str, Any]:
    """What the exercise wants to see on the way; nothing if the answer does not get there."""
    with own_randomness():
        try:
            return exercise.stages_of(answer, fresh(case))
        except Exception:  # the answer's own, and the result says more about it
            return {}


def _named(exercise: Exercise, value: Any) -> list[tuple[str, Any]]:
    """What was returned, thing by thing, under their names."""
    if isinstance(value, tuple | list) and len(value) == len(exercise.returned):
        return [(name, part) for name, part in zip(exercise.returned, value, strict=True)]
    if exercise.is_observed and isinstance(value, dict):
        return list(value.items())
    return [(exercise.subject, value)]


def _right_so_far(parts: Sequence[Part]) -> str:
    if not parts:
        return ""
    *names, last = [part.name for part in parts]
    return f"{', '.join(names)} and {last} are right; " if names else f"{last} is right; "
