"""What was found out about code that must prove itself on the machine it runs on: taken or not, and why."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class Verdict(NamedTuple):
    """Whether something is used here, and the reason, as a report gives it."""

    what: str
    given: str  # with what it was tried
    is_taken: bool
    reason: str


_found: dict[Hashable, Verdict] = {}  # in the order in which they were asked for


def find(key: Hashable) -> Verdict | None:
    """What was found out; None if nobody asked yet."""
    return _found.get(key)


def keep(key: Hashable, verdict: Verdict) -> None:
    """From now on this holds."""
    _found[key] = verdict


def forget() -> None:
    """Ask everything anew."""
    _found.clear()


def report() -> list[Verdict]:
    """All that was found out so far."""
    return list(_found.values())
