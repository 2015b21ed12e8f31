"""Ctrl-C beside work that must stay whole: it asks for an end, and what is being changed is changed to the end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class GivenUp(KeyboardInterrupt):
    """A second Ctrl-C has come, and what was being computed is dropped."""


class CtrlC:
    """Counts how often Ctrl-C was pressed. The first press raises nothing, anywhere; from the second on, what is
    computed inside `may_be_given_up` ends with GivenUp, and nothing else does.

    Outside the main thread signals cannot be caught, and the count stays 0.
    """

    def __init__(self) -> None:
        self.presses = 0
        self._may_raise = False

    def listen(self, afterwards: contextlib.ExitStack) -> None:
        """Take Ctrl-C from now until `afterwards` ends."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGINT)
        if before is None:  # set by no Python code, which could not set it again
            return
        afterwards.callback(signal.signal, signal.SIGINT, before)
        signal.signal(signal.SIGINT, self._pressed)

    @contextlib.contextmanager
    def may_be_given_up(self) -> Iterator[None]:
        """Work that may be dropped anywhere: it changes nothing that lasts."""
        self._may_raise = True
        try:
            self._give_up_if_asked()
            yield
        finally:
            self._may_raise = False

    def _pressed(self, *_: object) -> None:
        self.presses += 1
        self._give_up_if_asked()

    def _give_up_if_asked(self) -> None:
        if self._may_raise and self.presses > 1:
            self._may_raise = False  # once: a third press must not end what comes after
            raise GivenUp
