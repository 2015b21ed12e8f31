"""Two decorators, and what they have collected."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A function, the exercise that it answers, and what the message must say of it: nothing if it is right."""

    exercise: str
    function: Callable[..., Any]
    says: str = ""


WRONG: list[Answer] = []
RIGHT: list[Answer] = []
UNEXPLAINED: list[Answer] = []


def wrong(exercise: str, says: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A wrong answer, and words that stand in the message that it must get."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        WRONG.append(Answer(exercise, function, says))
        return function

    return add


def unexplained(exercise: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A wrong answer that is refused with numbers alone: nobody has foreseen it."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        UNEXPLAINED.append(Answer(exercise, function))
        return function

    return add


def right(exercise: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A right answer, written in another way than the reference."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        RIGHT.append(Answer(exercise, function))
        return function

    return add
