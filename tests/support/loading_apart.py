"""Loads model folders in a process of its own: with bounded memory, and noting every file that is opened.

    python loading_apart.py        reads a request a line, {"what": "model" or "tokenizer", "folder": path}
                                   writes an answer a line, {"result", "error", "message", "seconds", "outside"}

The result of a model is the SHA-256 of each weight by its name; that of a tokenizer, the ids of a text, or its refusal.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXT = "a<|end_of_text|>b def f(x):\n    return x  # né 🐍</s>"
MEMORY = 2 * 2**30  # bytes beyond what the libraries take


class Apart:
    """The other side: a process that is started once, asked many times, and must not die."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def load(self, what: str, folder: Path, patience: float = 60) -> dict[str, Any]:
        """The answer; AssertionError if none comes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, "folder": str(folder)}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        line = self._process.stdout.readline() if ready else ""
        assert line, f"loading {folder} hung, or ended the process: {self._process.poll()}"
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    import resource

    import safetensors
    import torch

    import mamba2_lab
    from mamba2_lab import Mamba2LM, load_tokenizer

    Mamba2LM.from_pretrained("small")  # what torch imports and opens the first time is not the folder's doing
    load_tokenizer("medium")
    opened: list[object] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def opens(path: Any, **options: Any) -> Any:
            opened.append(path)
            return function(path, **options)

        return opens

    # They open files outside of Python, where no hook sees it.
    safetensors.safe_open, torch.load = noted(safetensors.safe_open), noted(torch.load)
    sys.addaudithook(lambda event, details: opened.append(details[0]) if event == "open" else None)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    libraries = (Path(module.__file__).parents[1] for module in (safetensors, mamba2_lab))
    own = [Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *libraries)]

    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"]).resolve()
        opened.clear()
        began, answer = time.perf_counter(), {"result": None, "error": None, "message": ""}
        try:
            if request["what"] == "model":
                state = Mamba2LM.from_pretrained(folder).state_dict()
                result = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.items()}
            else:
                result = _ids(load_tokenizer(folder))
            answer["result"] = result
        except BaseException as error:
            answer |= {"error": type(error).__name__, "message": str(error)}
        answer["seconds"] = time.perf_counter() - began
        paths = [Path(os.fsdecode(path)).resolve() for path in opened if not isinstance(path, int)]
        answer["outside"] = [str(path) for path in paths if not any(map(path.is_relative_to, [folder, *own]))]
        print(json.dumps(answer), flush=True)


def _ids(tokenizer: Any) -> list[int] | str:
    """Of the text; or what is said of it by a tokenizer that is whole and cannot read it."""
    try:
        ids = tokenizer.encode(TEXT)
    except ValueError as error:
        if not str(error).startswith("text must "):
            raise
        return str(error)
    tokenizer.decode(ids)
    assert tokenizer.end_of_text not in ids
    return ids


if __name__ == "__main__":
    _serve()
