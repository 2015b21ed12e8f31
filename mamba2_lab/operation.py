"""An operation: its plain definition, and faster ways to the same numbers.

    @operation
    def turn(x_t, log_decay_t, B_t, C_t, state): ...        # in scan/: what is computed, as the paper writes it

    @turn.way("in place", serves=..., within=1e-6)          # in fast/: how it is computed sooner, and where
    def _(x_t, log_decay_t, B_t, C_t, state): ...

A call takes the first of its ways that serves the arguments, and else the definition. `plainly()` takes the definition
everywhere: what is wrong with a way and right without it is the way's fault, and not the device's.

Nothing that is read first imports a way: `mamba2_lab/fast` does, for all of them, when the package is imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Way(Generic[Arguments, Result]):
    """One way to an operation's numbers.

    name: what it does otherwise, in a few words.
    serves: whether it may be taken for these arguments, here and now.
    within: how far from the definition's its values and gradients may be, relative to the largest.
    compute: the function itself.
    """

    name: str
    serves: Callable[..., bool]
    within: float
    compute: Callable[Arguments, Result]


class Operation(Generic[Arguments, Result]):
    """A function that may have faster ways; made by `operation`."""

    def __init__(self, plain: Callable[Arguments, Result]) -> None:
        functools.update_wrapper(self, plain)
        self.plain = plain
        self.ways: list[Way[Arguments, Result]] = []
        OPERATIONS[plain.__name__] = self

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not _plain:
            for way in self.ways:
                if way.serves(*args, **kwargs):
                    return way.compute(*args, **kwargs)
        return self.plain(*args, **kwargs)

    def way(
        self, name: str, *, serves: Callable[..., bool], within: float
    ) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
        """Register the function below as a way; those registered earlier are asked first."""

        def register(compute: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
            self.ways.append(Way(name, serves, within, compute))
            return compute

        return register


OPERATIONS: dict[str, Operation[Any, Any]] = {}  # all there are, by name
_plain = False


def operation(definition: Callable[Arguments, Result]) -> Operation[Arguments, Result]:
    """Make an operation of its definition: what a reader reads, and what every way is measured against."""
    return Operation(definition)


@contextmanager
def plainly() -> Iterator[None]:
    """Within, every operation is computed as it is defined, in all threads."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before
