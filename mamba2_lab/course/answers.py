"""`@exercise("name")` over a reader's function: it is checked at once, and used from here on if it is right.

A notebook runs top to bottom whatever the reader wrote: where an answer is missing or not right yet, the cell says so,
and the reader's kept answer takes its place, or else the reference. `answer("name")` gives the kept answer, or the
reference, where another notebook uses it.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

from mamba2_lab.course import exercises, kept
from mamba2_lab.course.declare import Exercise
from mamba2_lab.course.display import say, show_source, silence
from mamba2_lab.course.form import in_the_form_of
from mamba2_lab.course.judge import Verdict, judge
from mamba2_lab.course.other_ways import OTHER_WAYS
from mamba2_lab.course.reasons import REASONS
from mamba2_lab.course.skeletons import SKELETONS
from mamba2_lab.course.source import source_of

# Okabe and Ito's green, blue and vermilion: plain to see on white and on black (jfly.uni-koeln.de/color)
PASSED, OPEN, WRONG = "#009e73", "#0072b2", "#d55e00"

_hints_opened: Counter[str] = Counter()  # by exercise: running its cell again must not close them


class Answer:
    """A function of the course: the reader's own if it passed the check, the reference if not.

    Attributes:
        adopted: whether it is the reader's.
        asked_for: the name of the exercise.
    """

    def __init__(self, exercise: Exercise, function: Callable[..., Any], *, adopted: bool) -> None:
        functools.update_wrapper(self, function)
        self._exercise, self._use, self.adopted = exercise, function, adopted
        self.asked_for = exercise.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._use(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._exercise.name}: {'your function' if self.adopted else 'the reference'}>"

    def hint(self) -> None:
        """Open one more hint, and show it with those opened before. The last one of a hard exercise is a skeleton."""
        name, count = self._exercise.name, _number_of_hints(self._exercise)
        none_left = _hints_opened[name] == count
        _hints_opened[name] = min(_hints_opened[name] + 1, count)
        opened = _hints_opened[name]
        texts = [f"{i}. {hint}" for i, hint in enumerate(self._exercise.hints[:opened], start=1)]
        if none_left:
            say(f"{name}: no hint is left", f"`{name}.solution()` shows an answer.", *texts, colour=OPEN)
        else:
            say(f"{name}: hint {opened} of {count}", "", *texts, colour=OPEN)
        if opened > len(texts):
            show_source(SKELETONS[name])

    def solution(self) -> None:
        """Show the reference's source, why it is as it is, and another way if there is one."""
        name = self._exercise.name
        show_source(source_of(self._exercise.reference))
        if name in REASONS:
            say("Why so", REASONS[name], colour=OPEN)
        if name in OTHER_WAYS:
            say("Another way", "", colour=OPEN)
            show_source(OTHER_WAYS[name])


def exercise(name: str) -> Callable[[Callable[..., Any]], Answer]:
    """Check the function below against the exercise of that name, and say how it went. One that passes is kept.

    Raises:
        ValueError: if no exercise has that name. TypeError: if what stands below is not a function.
    """
    found = exercises.find(name)

    def check(function: Callable[..., Any]) -> Answer:
        if not inspect.isfunction(function):
            raise TypeError(f"@exercise({name!r}) must stand over a function; got {function!r}")
        verdict = judge(found, function)
        if verdict.status == "passed":
            brought = (
                f" It gives {verdict.taken}, which is turned into what later cells expect." if verdict.taken else ""
            )
            told = f"Your function is used from here on.{brought}{_kept_in(name, function)}"
            say(f"{name}: passed", told, colour=PASSED)
            return Answer(found, _as_later_cells_expect(found, function, verdict), adopted=True)
        before, trouble = _kept(found)
        _announce(found, verdict, trouble, before is not None)
        return Answer(found, before or found.reference, adopted=before is not None)

    return check


def answer(name: str) -> Answer:
    """The reader's kept answer to an exercise, checked again; the reference if there is none. It says which.

    Raises:
        ValueError: if no exercise has that name.
    """
    found = exercises.find(name)
    chapter = found.chapter
    own, trouble = _kept(found)
    if own:
        say(f"{name}: yours", f"It is taken from `{_file(name)}`.", colour=PASSED)
    elif trouble:
        say(f"{name}: the reference takes the place of your answer", trouble, colour=WRONG)
    else:
        say(f"{name}: the reference", f"It is an exercise of notebook {chapter.number:02d}.", colour=OPEN)
    return Answer(found, own or found.reference, adopted=own is not None)


_being_read: set[str] = set()  # an answer that asks for itself gets the reference


def _kept(exercise: Exercise) -> tuple[Callable[..., Any] | None, str]:
    """The kept answer, if it is there and right; if it is there and not right, what is the matter with it."""
    name = exercise.name
    if name in _being_read:
        return None, ""
    _being_read.add(name)
    try:
        with silence():
            function = kept.load(name)
            verdict = judge(exercise, function) if function else None
    except kept.BrokenError as broken:
        return None, f"`{_file(name)}` cannot be used: {broken} Mend the file, or delete it."
    finally:
        _being_read.remove(name)
    if function is None or verdict is None:
        return None, ""
    if verdict.status == "passed":
        return _as_later_cells_expect(exercise, function, verdict), ""
    reason = verdict.message or "it is not answered there."
    return None, f"`{_file(name)}` does not pass its check any more: {reason} Mend the file, or delete it."


def _as_later_cells_expect(exercise: Exercise, function: Callable[..., Any], verdict: Verdict) -> Callable[..., Any]:
    return in_the_form_of(exercise.reference, function) if verdict.taken else function


def _kept_in(name: str, function: Callable[..., Any]) -> str:
    """Keep an answer that passed, and say where; nothing where nothing is kept."""
    try:
        path = kept.keep(name, function)
    except kept.UnkeptError as reason:
        return f" For later notebooks it is not kept: {reason}"
    return f" It is kept in `{kept.shown(path)}`." if path else ""


def _file(name: str) -> str:
    path = kept.place(name)
    return kept.shown(path) if path else ""


def _announce(exercise: Exercise, verdict: Verdict, trouble: str, is_kept: bool) -> None:
    name, help_ = exercise.name, _where_help_is(exercise)
    instead = f"Your kept answer, `{_file(name)}`," if is_kept else "The reference"
    troubles = [trouble] if trouble else []
    if verdict.status == "wrong":
        evidence = [verdict.evidence] if verdict.evidence else []
        rest = f"Until it is, {instead[0].lower()}{instead[1:]} takes its place. {help_}"
        say(f"{name}: not yet right", verdict.message, *evidence, rest, *troubles, colour=WRONG)
    elif is_kept:
        say(f"{name}: passed before", f"{instead} is used from here on.", colour=PASSED)
    else:
        title = f"{name}, {exercise.stars} of 3 stars: not answered yet"
        say(title, f"{instead} takes its place until you write it. {help_}", *troubles, colour=OPEN)


def _where_help_is(exercise: Exercise) -> str:
    opened, count = _hints_opened[exercise.name], _number_of_hints(exercise)
    if opened == count:
        return f"`{exercise.name}.solution()` shows an answer."
    return f"`{exercise.name}.hint()` opens hint {opened + 1} of {count}."


def _number_of_hints(exercise: Exercise) -> int:
    return len(exercise.hints) + (exercise.name in SKELETONS)
