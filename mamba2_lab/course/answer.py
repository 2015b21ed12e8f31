"""`@exercise("name")` over a reader's function: it is checked at once, and used from here on if it is right.

A notebook runs top to bottom whatever the reader wrote: where an answer is missing or not right yet, the cell says so
and the reference takes its place.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

from mamba2_lab.course import exercises
from mamba2_lab.course.declare import Exercise
from mamba2_lab.course.display import say, show_source
from mamba2_lab.course.form import in_the_form_of
from mamba2_lab.course.judge import Verdict, judge
from mamba2_lab.course.source import source_of

# Okabe and Ito's green, blue and vermilion: plain to see on white and on black (jfly.uni-koeln.de/color)
PASSED, OPEN, WRONG = "#009e73", "#0072b2", "#d55e00"

_hints_opened: Counter[str] = Counter()  # by exercise: running its cell again must not close them


class Answer:
    """A function of the course: the reader's own if it passed the check, the reference if not.

    Attributes:
        adopted: whether it is the reader's.
    """

    def __init__(self, exercise: Exercise, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._exercise = exercise
        self.verdict = judge(exercise, function)
        self.adopted = self.verdict.status == "passed"
        own = in_the_form_of(exercise.reference, function) if self.verdict.taken else function
        self._use = own if self.adopted else exercise.reference

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._use(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._exercise.name}: {'your function' if self.adopted else 'the reference'}>"

    def hint(self) -> None:
        """Open one more hint, and show it with those opened before."""
        name, hints = self._exercise.name, self._exercise.hints
        none_left = _hints_opened[name] == len(hints)
        _hints_opened[name] = min(_hints_opened[name] + 1, len(hints))
        opened = [f"{i}. {hint}" for i, hint in enumerate(hints[: _hints_opened[name]], start=1)]
        if none_left:
            say(f"{name}: no hint is left", f"`{name}.solution()` shows an answer.", *opened, colour=OPEN)
        else:
            say(f"{name}: hint {len(opened)} of {len(hints)}", "", *opened, colour=OPEN)

    def solution(self) -> None:
        """Show the reference's source."""
        show_source(source_of(self._exercise.reference))


def exercise(name: str) -> Callable[[Callable[..., Any]], Answer]:
    """Check the function below against the exercise of that name, and say how it went.

    Raises:
        ValueError: if no exercise has that name. TypeError: if what stands below is not a function.
    """
    found = exercises.find(name)

    def check(function: Callable[..., Any]) -> Answer:
        if not inspect.isfunction(function):
            raise TypeError(f"@exercise({name!r}) must stand over a function; got {function!r}")
        answer = Answer(found, function)
        _announce(found, answer.verdict)
        return answer

    return check


def _announce(exercise: Exercise, verdict: Verdict) -> None:
    name, help_ = exercise.name, _where_help_is(exercise)
    if verdict.status == "passed":
        brought = f"It gives {verdict.taken}, which is turned into what later cells expect." if verdict.taken else ""
        say(f"{name}: passed", f"Your function is used from here on. {brought}".rstrip(), colour=PASSED)
    elif verdict.status == "unanswered":
        title = f"{name}, {exercise.stars} of 3 stars: not answered yet"
        say(title, f"The reference takes its place until you write it. {help_}", colour=OPEN)
    else:
        evidence = [verdict.evidence] if verdict.evidence else []
        rest = f"Until it is, the reference takes its place. {help_}"
        say(f"{name}: not yet right", verdict.message, *evidence, rest, colour=WRONG)


def _where_help_is(exercise: Exercise) -> str:
    opened, count = _hints_opened[exercise.name], len(exercise.hints)
    if opened == count:
        return f"`{exercise.name}.solution()` shows an answer."
    return f"`{exercise.name}.hint()` opens hint {opened + 1} of {count}."
