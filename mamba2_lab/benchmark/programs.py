"""Programs that run a Mamba-2 on a CPU, this package and others: each from a folder that `save_pretrained` wrote.

All get the same weights by our own export, and each runs in a process of its own, so that its threads, its allocator
and its libraries are those that it has where nothing else runs. This module is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from mamba2_lab.benchmark.child import told
from mamba2_lab.benchmark.measures.contestants import peer_of
from mamba2_lab.machine.freed_memory import keep_freed_memory
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.weights import PRECISIONS
from mamba2_lab.weights.convert import convert

TOKEN = 1  # the one that is written: what a token costs is the same for each


class Program(Protocol):
    """A model in memory, and what it keeps of a text."""

    def read(self, ids: list[int]) -> Any:
        """Logits (vocab_size,) after this text, read from its beginning."""

    def step(self, token: int) -> Any:
        """Logits (vocab_size,) after one token more."""


class Ours:
    """This package, with weights of a precision that `from_pretrained` takes."""

    def __init__(self, folder: Path, threads: int, *, precision: str) -> None:
        torch.set_num_threads(threads)
        self._model = Mamba2LM.from_pretrained(folder, **PRECISIONS[precision]).eval()

    @torch.no_grad()
    def read(self, ids: list[int]) -> Any:
        logits, self._cache = self._model.prefill(torch.tensor([ids]))
        return logits[0]

    @torch.no_grad()
    def step(self, token: int) -> Any:
        """As `generate` does: a cache that nobody else has is used up."""
        logits, self._cache = self._model.advance(torch.tensor([token]), self._cache, use_up=True)
        return logits[0]


class Transformers:
    """transformers' Mamba2 in plain torch, float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = peer_of(Mamba2LM.from_pretrained(folder).eval())

    def read(self, ids: list[int]) -> Any:
        return self._logits(ids, None)

    def step(self, token: int) -> Any:
        return self._logits([token], self._cache)

    @torch.no_grad()
    def _logits(self, ids: list[int], cache: Any) -> Any:
        found = self._model(torch.tensor([ids]), cache_params=cache, use_cache=True, logits_to_keep=1)
        self._cache = found.cache_params
        return found.logits[0, -1]


class LlamaCpp:
    """llama.cpp, as the package llama_cpp builds it, with weights in a format of its own.

    What it does not hold in floats it rounds itself, from the file in float16. In Q4_0 a tied head is Q6_K: so it
    chooses.
    """

    def __init__(self, folder: Path, threads: int, *, kind: str) -> None:
        import llama_cpp

        llama_cpp._logger.set_verbose(False)  # loading and rounding tell of every tensor else
        with tempfile.TemporaryDirectory() as aside:
            self._model = llama_cpp.Llama(
                str(_gguf(folder, Path(aside), kind, threads)),
                n_gpu_layers=0,
                n_ctx=0,  # as long as the file allows; a state does not grow
                n_threads=threads,
                n_threads_batch=threads,
                use_mmap=False,  # the file is gone in a moment
                verbose=False,
            )

    def read(self, ids: list[int]) -> Any:
        self._model.reset()
        return self._logits(ids)

    def step(self, token: int) -> Any:
        return self._logits([token])

    def _logits(self, ids: list[int]) -> Any:
        import llama_cpp

        self._model.eval(ids)
        return llama_cpp.llama_get_logits_ith(self._model.ctx, -1)  # where they lie


def _gguf(folder: Path, aside: Path, kind: str, threads: int) -> Path:
    """The file of that kind."""
    import llama_cpp

    floats = {"F32": "float32"}.get(kind, "float16")
    path = convert(folder, aside / f"{floats}.gguf", "gguf", dtype=floats).path
    if kind in ("F32", "F16"):
        return path
    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype, how.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}"), threads
    smaller = aside / f"{kind}.gguf"
    if status := llama_cpp.llama_model_quantize(str(path).encode(), str(smaller).encode(), how):
        raise RuntimeError(f"llama.cpp makes no {kind} of a file in {floats}: it says {status}")
    return smaller


class MlxLm:
    """mlx-lm on the CPU, float32. Its threads are those of the BLAS that its build has: away from a Mac it is one."""

    def __init__(self, folder: Path, threads: int) -> None:
        import mlx.core as mx
        from mlx_lm.utils import load_model

        mx.set_default_device(mx.cpu)
        with tempfile.TemporaryDirectory() as aside:
            self._model, _ = load_model(convert(folder, Path(aside) / "mlx", "mlx").path)

    def read(self, ids: list[int]) -> Any:
        """As `mlx_lm.generate` does: all but the last token without a head."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        self._cache = make_prompt_cache(self._model)
        if ids[:-1]:
            self._model(mx.array([ids[:-1]]), cache=self._cache)
            mx.eval([layer.state for layer in self._cache])
        return self.step(ids[-1])

    def step(self, token: int) -> Any:
        import mlx.core as mx

        logits = self._model(mx.array([[token]]), cache=self._cache)[0, -1]
        mx.eval(logits, [layer.state for layer in self._cache])
        return logits


class Contestant(NamedTuple):
    """How a program is made, of a folder and a number of threads; and the modules that it cannot do without."""

    make: Callable[[Path, int], Program]
    needs: tuple[str, ...] = ()


PROGRAMS: dict[str, Contestant] = {
    **{f"ours, {precision}": Contestant(partial(Ours, precision=precision)) for precision in PRECISIONS},
    **{
        f"llama.cpp, {kind}": Contestant(partial(LlamaCpp, kind=kind), ("llama_cpp", "gguf"))
        for kind in ("F32", "F16", "Q8_0", "Q4_0")
    },
    "mlx-lm": Contestant(MlxLm, ("mlx.core", "mlx_lm")),
    "transformers": Contestant(Transformers),
}
INSTALLED_BY = {"llama_cpp": "llama-cpp-python", "gguf": "gguf", "mlx.core": "mlx[cpu]", "mlx_lm": "mlx-lm"}


def absent(names: Iterable[str]) -> dict[str, str]:
    """Those of the programs that cannot run here, with the reason."""
    reasons = {name: next(filter(None, map(_obstacle, PROGRAMS[name].needs)), None) for name in names}
    return {name: reason for name, reason in reasons.items() if reason is not None}


@cache
def _obstacle(module: str) -> str | None:
    """Why a module cannot be imported, if so. Another process tries: what it loads is not to stand beside the rest."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    tried = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, env=environment, check=False
    )
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().rpartition("\n")[2] or f"the process ended with status {tried.returncode}"
    return f"{said} (pip install {INSTALLED_BY[module]})"


def main(name: str, folder: str, threads: str) -> None:
    """What the process does: for every line that is a list of ids, read that text; for a number, write so many tokens.

    Each is answered when it is done.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    lines = told()
    keep_freed_memory()  # as `mamba2-lab` does; nobody is slower for it
    program = PROGRAMS[name].make(Path(folder), int(threads))
    print("ready", file=answers)
    while True:
        order = json.loads(lines.get())
        if isinstance(order, list):
            program.read(order)
        for _ in range(order if isinstance(order, int) else 0):
            program.step(TOKEN)
        print("done", file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
