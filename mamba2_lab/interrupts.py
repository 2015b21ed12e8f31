"""Ctrl-C in a process that is the command: what it does before `main` begins, and after it has ended.

torch takes seconds to be imported, and a KeyboardInterrupt in there ends in a traceback. So this module is imported
first of all. Where the process was started as `mamba2-lab ...` or `python -m mamba2_lab ...`, by whatever launcher, it
leaves SIGINT to the system, which ends the process at once and without a word; `main` takes it while it runs. Wherever
else the package is imported, nothing is changed, nor where somebody has settled what SIGINT does: nohup has it ignored.
"""

from __future__ import annotations

import os.path
import signal
import sys

COMMAND, PACKAGE = "mamba2-lab", "mamba2_lab"


def _was_asked_for() -> bool:
    """Whether Python was told to run the command: its script, or this package with -m."""
    told = "".join(sys.orig_argv[-len(sys.argv) :][:1])  # where the program's own arguments begin
    if sys.argv[0] == "-m":  # so it stands as long as Python looks for the module
        return told.removeprefix("-m") == PACKAGE
    return told == sys.argv[0] and os.path.splitext(os.path.basename(told))[0] == COMMAND


def leave_to_the_system() -> None:
    """From now on Ctrl-C ends the process, silently."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_the_next() -> None:
    """The next Ctrl-C raises KeyboardInterrupt; one after it does not wait for what comes of that."""
    signal.signal(signal.SIGINT, _raise)


def _raise(*_: object) -> None:
    leave_to_the_system()
    raise KeyboardInterrupt


taken = _was_asked_for() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if taken:
    leave_to_the_system()
