"""A sweep in a process of its own, which can be ended at any moment: one call of what is timed may take seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from mamba2_lab.benchmark import suite
from mamba2_lab.benchmark.measurement import Measurement, read, write

LOOK_SECONDS = 0.03  # between two looks at what the process has measured, and whether it lives


def run(
    name: str, device: torch.device | str, seconds: float, threads: int, stop: threading.Event
) -> Iterator[list[Measurement]]:
    """The records of each point of a sweep as they are measured, until all are there or `stop` is set.

    Args:
        seconds: for each point.
        threads: of the CPU, for torch.

    Raises:
        RuntimeError: with what the process said, if it ends before all is measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.txt"
        command = [sys.executable, "-m", __name__, name, str(device), str(seconds), str(threads), folder]
        with said.open("w") as output, _started(command, output) as process:
            # A thread of its own looks after Stop: who takes the records may be drawing them.
            threading.Thread(target=_kill_at, args=(stop, process), daemon=True).start()
            try:
                for number in range(len(suite.SUITE[name].points())):
                    path = _of_point(folder, number)
                    while not path.exists():
                        ended = process.poll() is not None
                        if ended and stop.is_set():
                            return
                        if ended and not path.exists():
                            raise RuntimeError(_last_words(process.returncode, said))
                        time.sleep(LOOK_SECONDS)
                    yield read(path)
            finally:
                process.kill()


def _kill_at(stop: threading.Event, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if stop.wait(LOOK_SECONDS):
            process.kill()
            return


def _started(command: list[str], output: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # it finds what this process finds
        start_new_session=True,  # a kernel's interrupt is not meant for it
    )


def _of_point(folder: str, number: int) -> Path:
    return Path(folder) / f"{number}.jsonl"


def _last_words(status: int, said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"the process of the sweep ended with {status}")


def main(name: str, device: str, seconds: str, threads: str, folder: str) -> None:
    """What the process does: measure point after point, and write the records of each into a file of its own."""
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    torch.set_num_threads(int(threads))
    for number, point in enumerate(suite.SUITE[name].points()):
        write(suite.run_point(name, point, device, float(seconds), memory=False), _of_point(folder, number))


def _end_with_the_other() -> None:
    """Nobody waits for the records of a process whose parent is gone: then the pipe from there is closed."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
