"""Ctrl-C is quiet from the first line of the command to the end of its process, torch's import included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mamba2_lab
from mamba2_lab import interrupts

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process does with signals")

# What pip writes for an entry of [project.scripts].
SCRIPT = "import sys\nfrom mamba2_lab.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
GENERATE = ["generate", "def f(", "--device", "cpu", "--max-new-tokens", "100000"]


@pytest.fixture(params=["python -m mamba2_lab", "mamba2-lab"])
def command(request, tmp_path) -> list[str]:
    """Each of the two ways of starting it."""
    if request.param != "mamba2-lab":
        return [sys.executable, "-m", "mamba2_lab"]
    (tmp_path / "mamba2-lab").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "mamba2-lab")]


def start(command: list[str], folder: Path, **options) -> subprocess.Popen:
    """A process that has come to the package's first line. Python's own start is before, and no concern of ours."""
    (folder / "sitecustomize.py").write_text(f"open({str(folder / 'begun')!r}, 'w').close()")
    places = [str(folder), str(Path(mamba2_lab.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )
    wait_until(process, lambda: (folder / "begun").exists() and not raises(process))
    return process


def raises(process: subprocess.Popen) -> bool:
    """Whether Python takes SIGINT, rather than the system."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1)


def wait_until(process: subprocess.Popen, holds) -> None:
    end = time.monotonic() + 60
    while not holds():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"it should have come to be: {process.communicate()}")
        time.sleep(0.0005)


def interrupt(process: subprocess.Popen, times: int = 1) -> None:
    """Press Ctrl-C. The process ends as interrupted, or had ended, and says nothing of it."""
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == "" and process.returncode in (-signal.SIGINT, 130, 0)


@on_linux
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.4, 1.0])
def test_while_the_package_is_imported_it_ends_in_the_systems_way(command, tmp_path, seconds):
    process = start([*command, *GENERATE], tmp_path)
    time.sleep(seconds)
    interrupt(process)
    assert process.returncode == -signal.SIGINT


@on_linux
@pytest.mark.parametrize("times", [1, 3])
def test_as_soon_as_main_begins(tmp_path, times):
    process = start([sys.executable, "-m", "mamba2_lab", *GENERATE], tmp_path)
    wait_until(process, lambda: raises(process))
    interrupt(process, times)
    assert process.returncode != 0


@on_linux
def test_when_all_is_said(command, tmp_path):
    process = start([*command, "--version"], tmp_path)
    assert process.stdout is not None and process.stdout.readline() == f"mamba2-lab {mamba2_lab.__version__}\n"
    interrupt(process)


@on_linux
def test_a_parents_choice_stands(tmp_path):
    """Under nohup, and in the background of a script, SIGINT is ignored."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = start([sys.executable, "-m", "mamba2_lab", "--version"], tmp_path, **ignore)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    assert process.communicate(timeout=60) == (f"mamba2-lab {mamba2_lab.__version__}\n", "")
    assert process.returncode == 0


BETWEEN_LINES = """
import os, signal, sys
from mamba2_lab import __main__ as entry, cli, interrupts
from mamba2_lab.cli import program

interrupts.taken = True
FILES = {module.__file__ for module in (entry, interrupts, program)}

def press_at(line):
    passed = 0

    def trace(frame, event, _):
        nonlocal passed
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            passed += 1
            if passed == line:
                os.kill(os.getpid(), signal.SIGINT)
        return trace

    sys.settrace(trace)

for line in range(1, 200):
    if os.fork() == 0:
        interrupts.leave_to_the_system()
        sys.argv = ["mamba2-lab", "--version"]
        press_at(line)
        try:
            status = entry.main()
        except SystemExit as ended:
            status = ended.code
        sys.stdout.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    print("status", line, status)
    if status == 0:  # there was no such line
        break

def press_again():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)

if os.fork() == 0:
    cli.main = press_again
    interrupts.leave_to_the_system()
    entry.main()
print("twice", os.waitstatus_to_exitcode(os.wait()[1]))
"""


@on_linux
def test_between_any_two_lines_of_main_and_again_while_one_is_seen_to():
    process = subprocess.run([sys.executable, "-c", BETWEEN_LINES], capture_output=True, text=True, timeout=120)
    assert process.stderr == ""
    statuses = [int(line.split()[2]) for line in process.stdout.splitlines() if line.startswith("status")]
    assert len(statuses) > 25 and set(statuses[:-1]) == {-signal.SIGINT, 130} and statuses[-1] == 0
    assert process.stdout.splitlines()[-1] == f"twice {-signal.SIGINT}"


# Whose process it is


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        (["python", "/usr/bin/mamba2-lab"], ["/usr/bin/mamba2-lab", "train"]),
        (["python", r"mamba2-lab.exe"], ["mamba2-lab.exe"]),
        (["python", "-m", "mamba2_lab"], ["-m", "generate", "def f("]),
        (["python", "-mmamba2_lab"], ["-m"]),
        (["python", "-X", "dev", "-u", "-m", "mamba2_lab"], ["-m", "train", "--folder", "mamba2_lab"]),  # as launchers
    ],
)
def test_the_command_is_known_by_what_python_was_asked_to_run(monkeypatch, asked, arguments):
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "orig_argv", [*asked, *arguments[1:]])
    assert interrupts._was_asked_for()


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        (["python"], [""]),
        (["python", "-c", "import mamba2_lab"], ["-c"]),
        (["python", "-m", "timeit", "mamba2_lab"], ["-m", "mamba2_lab"]),
        (["python", "-m", "mamba2_lab.pretrained.sweep"], ["-m"]),
        (["python", "-m", "ipykernel_launcher", "-f", "x.json"], ["/lib/ipykernel_launcher.py", "-f", "x.json"]),
        (["python", "mine.py", "mamba2-lab"], ["mine.py", "mamba2-lab"]),
        (["python", "mine.py", "mamba2-lab"], ["mine.py"]),  # which took its arguments off
        (["python", "-c", "from multiprocessing.spawn import spawn_main"], ["/usr/bin/mamba2-lab", "bench", "decode"]),
        (["python"], ["/usr/bin/mamba2-lab", "generate"]),  # set by a program that has Python inside
    ],
)
def test_another_program_is_not_the_command(monkeypatch, asked, arguments):
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "orig_argv", asked)
    assert not interrupts._was_asked_for()


def test_imported_as_a_library_the_package_has_changed_nothing():
    assert not interrupts.taken
    assert signal.getsignal(signal.SIGINT) not in (signal.SIG_DFL, interrupts._raise)
