"""Threads that lend a hand."""

from __future__ import annotations

import os
import threading

import pytest

from mamba2_lab.machine.helpers import Helpers

SOON = 10.0  # seconds


def met(helpers: Helpers, count: int) -> bool:
    """Whether so many threads, and this one, are at work at the same time."""
    together = threading.Barrier(count + 1)
    helpers.ask(count, lambda: together.wait(SOON))
    together.wait(SOON)
    return not together.broken


def test_as_many_come_as_are_asked_and_the_same_come_again() -> None:
    helpers, before = Helpers(), threading.active_count()
    assert met(helpers, 2) and met(helpers, 3) and met(helpers, 1)
    assert threading.active_count() == before + 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_helpers_of_its_own() -> None:
    helpers = Helpers()
    assert met(helpers, 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if met(helpers, 1) else 1)
    assert os.waitpid(child, 0)[1] == 0
