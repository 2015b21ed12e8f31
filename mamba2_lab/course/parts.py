"""Look at an answer part by part: its stages on the way, then each thing that it returns.

The first part that is off is where the mistake is; what comes before it is right, and what comes after it is off for
the same reason, perhaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mamba2_lab.course.calls import Outcome, by_name, forms_of, fresh, own_randomness, run
from mamba2_lab.course.causes import Beside, Causes
from mamba2_lab.course.compare import comparable, difference
from mamba2_lab.course.counts import miscounted
from mamba2_lab.course.declare import Case, Exercise


@dataclass(frozen=True, eq=False)
class Question:
    """One case of an exercise, and what is right there: computed once."""

    exercise: Exercise
    case: Case

    @cached_property
    def forms(self) -> Sequence[Any]:
        """What the reference gives, call after call."""
        return forms_of(self.exercise, self.case)

    @cached_property
    def right(self) -> Any:
        """What is compared of the reference: its type, shape and dtype are those of a right answer."""
        return run(self.exercise, self.exercise.reference, self.case, self.forms).result

    @cached_property
    def expected(self) -> Any:
        """What the oracle says."""
        return self.exercise.expected(fresh(self.case))

    @cached_property
    def stages(self) -> dict[str, Any]:
        """Those of the reference."""
        return _stages(self.exercise, self.exercise.reference, self.case)


@dataclass(frozen=True, eq=False)
class Trial:
    """A question, and what an answer led to."""

    question: Question
    outcome: Outcome

    @classmethod
    def of(cls, answer: Callable[..., Any], question: Question) -> Trial:
        """Ask an answer."""
        return cls(question, run(question.exercise, answer, question.case, question.forms))

    @property
    def exercise(self) -> Exercise:
        return self.question.exercise

    @property
    def case(self) -> Case:
        return self.question.case

    def by(self, answer: Callable[..., Any]) -> Trial:
        """The same case, given to another answer."""
        return Trial.of(answer, self.question)


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
    exercise, question = trial.exercise, trial.question
    stages = _stages(exercise, answer, question.case)
    compared = (trial.outcome.result, question.right, question.expected)
    results = zip(*(_named(exercise, value) for value in compared), strict=False)
    return [
        *(Part(name, stages[name], like, like) for name, like in question.stages.items() if name in stages),
        *(Part(name, got, like, value) for (name, got), (_, like), (_, value) in results),
    ]


@dataclass(frozen=True, eq=False)
class PartOff:
    """The first part of an answer that is off: what comes before it is right.

    parts: those of the first trial, in which it is off, up to this one. seen: all parts of each trial.
    """

    parts: Sequence[Part]
    trials: Sequence[Trial]
    seen: Sequence[Sequence[Part]]

    @property
    def name(self) -> str:
        return self.parts[-1].name

    @property
    def where(self) -> str:
        """Up to where all is right, and how this part is off."""
        return _right_so_far(self.parts[:-1]) + self.parts[-1].off(self.trials[0].exercise)

    @property
    def alone(self) -> bool:
        """Whether it is all there is: then the whole result says as much."""
        exercise = self.trials[0].exercise
        return len(self.parts) == 1 and not exercise.returned and len(_named(exercise, self.parts[0].like)) == 1

    def own(self) -> list[Part]:
        """This part, in each of the cases."""
        return [next(part for part in parts if part.name == self.name) for parts in self.seen]

    def is_that_of(self, function: Callable[..., Any], first: Outcome) -> bool:
        """Whether another function gives the same there, in every case.

        Args:
            first: what it led to in the first of them.
        """
        outcomes = itertools.chain([first], (trial.by(function).outcome for trial in self.trials[1:]))
        return all(
            self._same(trial, part.got, function, outcome)
            for trial, part, outcome in zip(self.trials, self.own(), outcomes, strict=True)
        )

    def known(self) -> str:
        """The message of the wrong answer that is right where the reader's is, and off in the same way."""
        exercise = self.trials[0].exercise
        for wrong in [] if self.alone else exercise.wrong_answers:
            first = self.trials[0].by(wrong.function)
            if first.outcome.failure or not comparable(first.outcome.result):
                continue
            same = {part.name: part for part in parts_of(first, wrong.function)}
            before = [same[part.name] for part in self.parts[:-1] if part.name in same]
            if not any(part.off(exercise) for part in before) and self.is_that_of(wrong.function, first.outcome):
                return wrong.says
        return ""

    def usual(self, find: Callable[[Beside], Causes]) -> str:
        """A mistake that is the same in every exercise, if it explains this part wherever it is off."""
        possible: Causes | None = None
        exercise = self.trials[0].exercise
        for trial, parts, part in zip(self.trials, self.seen, self.own(), strict=True):
            if not part.off(exercise):
                continue
            others = {other.name: other.expected for other in parts if other.name != part.name}
            given, tolerance = by_name(exercise, trial.case), (exercise.rtol, exercise.atol)
            found = find(Beside(part.got, part.expected, *tolerance, part.name, others, given))
            possible = found if possible is None else {name: says for name, says in possible.items() if name in found}
        return next(iter(possible.values()), "") if possible else ""

    def counted(self) -> str:
        """What was counted wrongly, in the sizes that were given."""
        exercise = self.trials[0].exercise
        off = [(trial, part) for trial, part in zip(self.trials, self.own(), strict=True) if part.off(exercise)]
        got, expected = [part.got for _, part in off], [part.expected for _, part in off]
        return miscounted(self.name, got, expected, [by_name(exercise, trial.case) for trial, _ in off])

    def _same(self, trial: Trial, got: Any, function: Callable[..., Any], outcome: Outcome) -> bool:
        exercise = trial.exercise
        if outcome.failure or not comparable(outcome.result):
            return False
        found = dict(_named(exercise, outcome.result))
        if self.name not in found:
            found = _stages(exercise, function, trial.case)
        return self.name in found and not difference(
            got, found[self.name], found[self.name], exercise.rtol, exercise.atol
        )


def first_off(trials: Sequence[Trial], answer: Callable[..., Any]) -> PartOff | None:
    """The first part that is off in the first of these trials, which is; nothing if all parts are right by themselves.

    Args:
        trials: the first one is off, and is no failure.
    """
    seen = [(trial, parts_of(trial, answer)) for trial in trials if not trial.outcome.failure]
    first = seen[0][1]
    number = next((i for i, part in enumerate(first) if part.off(trials[0].exercise)), None)
    if number is None:
        return None
    seen = [(trial, parts) for trial, parts in seen if any(part.name == first[number].name for part in parts)]
    return PartOff(first[: number + 1], [trial for trial, _ in seen], [parts for _, parts in seen])


def _stages(exercise: Exercise, answer: Callable[..., Any], case: Case) -> dict[str, Any]:
    """What the exercise wants to see on the way; nothing if the answer does not get there."""
    with own_randomness():
        try:
            return exercise.stages_of(answer, fresh(case))
        except Exception:  # the answer's own, and the result says more about it
            return {}


def _named(exercise: Exercise, value: Any) -> list[tuple[str, Any]]:
    """What was returned, thing by thing, under their names."""
    if exercise.returned and isinstance(value, tuple | list) and len(value) == len(exercise.returned):
        return [(name, part) for name, part in zip(exercise.returned, value, strict=True)]
    if exercise.is_observed and isinstance(value, dict):
        return list(value.items())
    return [(exercise.subject, value)]


def _right_so_far(parts: Sequence[Part]) -> str:
    if not parts:
        return ""
    *names, last = [part.name for part in parts]
    return f"{', '.join(names)} and {last} are right; " if names else f"{last} is right; "
