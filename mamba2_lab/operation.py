"""An operation: its plain definition, and faster ways to the same numbers.

    @operation
    def turn(x_t, log_decay_t, B_t, C_t, state): ...        # in scan/: what is computed, as the paper writes it

    @turn.way("in place", serves=..., within=1e-6)          # in fast/: how it is computed sooner, and where
    def _(x_t, log_decay_t, B_t, C_t, state): ...

A call takes the first of its ways that serves the arguments, and else the definition. `plainly()` takes the definition
everywhere: what is wrong with a way and right without it is the way's fault, and not the device's. Nothing that is read
first imports a way: `mamba2_lab/fast` registers all of them when the package is imported.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


class Way(NamedTuple):
    """One way to an operation's numbers."""

    name: str  # what it does otherwise, in a few words
    serves: Callable[..., bool]  # whether it may be taken for these arguments, here and now
    within: float  # how far its values and gradients may be from the definition's, relative to the largest
    compute: Callable[..., Any]


class Operation(Generic[Arguments, Result]):
    """A function that may have faster ways; made by `operation`."""

    def __init__(self, plain: Callable[Arguments, Result]) -> None:
        functools.update_wrapper(self, plain)
        self.plain, self.ways = plain, list[Way]()
        OPERATIONS[plain.__name__] = self

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not _plain:
            for way in self.ways:
                if way.serves(*args, **kwargs):
                    return way.compute(*args, **kwargs)
        return self.plain(*args, **kwargs)

    def way(self, name: str, *, serves: Callable[..., bool], within: float) -> Callable[[Function], Function]:
        """Register the function below as a way; those registered earlier are asked first."""

        def register(compute: Function) -> Function:
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
