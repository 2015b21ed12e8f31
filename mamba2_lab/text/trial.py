"""A tokenizer from a stranger is tried in a process of its own before it is let into ours.

The tokenizers library does what a description asks of it: it matches expressions that take a second for each letter,
and makes replacements that grow tenfold twenty times over, some of them while it loads. Nothing can interrupt it there,
and where memory ends it takes the whole process with it. So another process loads the description first, and reads
texts that make such expressions explode, with so much time and memory and no more.

That process runs this file by its path, without the package: it needs the tokenizers library alone.
"""

from __future__ import annotations

import contextlib
import os
import string
import subprocess
import sys

import tokenizers

SECONDS, BYTES_PER_SECOND = 2, 5_000_000  # of the processor: two, and one more for every five megabytes
MEMORY = 4 * 2**30  # bytes
PATIENCE = 10  # how many times longer than that it may take on a machine that is busy
REFUSED = 64  # the exit status that says so; 1 is that of any failure of Python
RUN = 40  # repetitions: 2^40 ways to cut them are too many for any expression that tries all


def hard_texts() -> list[str]:
    """Repetitions that end otherwise, which make an expression go back over all that it has tried; and all scripts."""
    pieces = [*string.printable, "é", "日", "🐍", "ab", "a ", " a", "a1", "\n ", "\r\n", "_a", "''", '"a"']
    return [
        *(piece * RUN + end for piece in pieces for end in "!a\n"),
        "Grüße, мир! 你好，世界 123\t\0\ufffd नमस्ते 🧑‍🚀",
    ]


def try_out(description: str) -> None:
    """Let another process load a tokenizer and read with it.

    Args:
        description: the JSON of the tokenizers library.

    Raises:
        ValueError: if it is refused there, or takes more than its time or memory.
        RuntimeError: if this Python cannot be started once more.
    """
    seconds = SECONDS + len(description) // BYTES_PER_SECOND
    path = os.pathsep.join(filter(None, sys.path))  # where this process has found the library
    try:
        trial = subprocess.run(
            [sys.executable, "-P", __file__, str(seconds)],
            input=description.encode("utf-8"),
            capture_output=True,
            timeout=PATIENCE * seconds,
            env={**os.environ, "PYTHONPATH": path, "RUST_BACKTRACE": "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"one that takes more than {error.timeout} s to be tried") from error
    if trial.returncode == REFUSED:
        raise ValueError(trial.stdout.decode("utf-8"))
    if trial.returncode == 1:
        raise RuntimeError(f"a tokenizer could not be tried: {trial.stderr.decode('utf-8', 'replace')}")
    if trial.returncode:
        raise ValueError(f"one that takes more than {seconds} s or {MEMORY / 2**30:.0f} GiB to be tried")


def _limit(seconds: int) -> None:
    """Let the system end this process when it takes more. Windows has no such limits: there, only patience ends it."""
    try:
        import resource
    except ImportError:
        return
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY)):
        _, most = resource.getrlimit(kind)
        within = limit if most == resource.RLIM_INFINITY else min(limit, most)
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of memory: there, the one of time ends it
            resource.setrlimit(kind, (within, most))


def _load_and_read() -> None:
    tokenizer = tokenizers.Tokenizer.from_str(sys.stdin.buffer.read().decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    tokenizer.decode(list(tokenizer.get_vocab().values()))
    for text in hard_texts():
        try:
            tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
        except Exception:  # a text that it has no tokens for: it will say so again where somebody brings one
            continue


if __name__ == "__main__":
    _limit(int(sys.argv[1]))
    try:
        _load_and_read()
    except BaseException as error:  # a panic of the library is no Exception
        sys.stdout.buffer.write(str(error).encode("utf-8", "replace"))
        sys.exit(REFUSED)
