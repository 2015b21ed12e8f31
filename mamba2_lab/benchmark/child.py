"""A process of this one's own that does what it is told, a line at a time: both ends of it."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import weakref


class Child:
    """A process that runs a module, and answers every line that it is told by one of its own, the first unasked.

    It ends with this object, and with the process that made it.

    Args:
        module: its name. What it writes to standard output are its answers.
        arguments: of its command line.

    Raises:
        RuntimeError: here and in `tell`, if it ends; why, it has told on standard error.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # it finds what this one finds
            start_new_session=True,  # Ctrl-C is meant for the one who waits for it
        )
        self._module = module
        self.end = weakref.finalize(self, _end, self.process)
        try:
            self._hear()
        except BaseException:  # an interrupt as well
            self.end()
            raise

    def tell(self, line: str = "") -> str:
        """Its answer."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self._hear()

    def _hear(self) -> str:
        assert self.process.stdout is not None
        if not (answer := self.process.stdout.readline()):
            raise RuntimeError(f"the process of {self._module} ended, with status {self.process.wait()}")
        return answer.rstrip("\n")


def told() -> queue.SimpleQueue[str]:
    """In such a process: the lines that it is told. From now on it ends when the one who made it is gone."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    return lines


def _listen(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # also in the middle of its work


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
