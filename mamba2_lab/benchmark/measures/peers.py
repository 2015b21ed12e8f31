"""This package beside other programs with the same weights: reading a prompt, writing, and writing on a busy machine.

Each runs in a process of its own with the same number of threads, and they take turns: while one computes, the others
sleep. A peer that is slower can still hide a fault of ours: `prefill`, `decode` and `precisions` hold this package
against what the machine needs for the indispensable part.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from mamba2_lab.benchmark import programs
from mamba2_lab.benchmark.child import Child
from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.measures.contestants import Contestants, new_model, random_ids
from mamba2_lab.benchmark.neighbour import Neighbour

PEERS = ("llama-cpp-python", "mlx", "mlx-lm")  # packages whose versions a record keeps
SHORT = 8  # tokens of the prompt before what is written


def peers_prefill(device: torch.device | str, *, preset: str, l: int, **shape: Any) -> Contestants:
    """Reading a prompt, and the logits after it."""
    order = json.dumps(random_ids(preset, (1, l), device, **shape)[0].tolist())
    names = programs.PROGRAMS.keys() - peers_without_prefill()
    return {name: partial(child.tell, order) for name, child in _children(names, preset, **shape).items()}


def peers_decode(device: torch.device | str, *, preset: str, steps: int, **shape: Any) -> Contestants:
    """So many tokens, one after another at batch 1, behind a short prompt and all that was written before."""
    names = programs.PROGRAMS.keys() - peers_without()
    return {name: _writing(child, preset, steps, **shape) for name, child in _children(names, preset, **shape).items()}


def peers_beside(device: torch.device | str, *, program: str, preset: str, steps: int) -> Contestants:
    """The same of one program: alone, and beside a process that keeps every core busy. Nobody, if it is not there."""
    children = _children({program} - peers_without().keys(), preset)
    if program not in children:
        return {}
    write, neighbour = _writing(children[program], preset, steps), Neighbour()
    return {"alone": write, "beside a busy process": lambda: neighbour.beside(write)}


def peers_without() -> dict[str, str]:
    """Who does not write here, with the reason."""
    return programs.absent(programs.PROGRAMS)


def peers_without_prefill() -> dict[str, str]:
    """Who does not read a prompt here, with the reason."""
    slow = {"mlx-lm": "away from a Mac it multiplies with one thread of a plain BLAS: minutes for a prompt"}
    return {**(slow if sys.platform != "darwin" else {}), **peers_without()}


def _children(names: Iterable[str], preset: str, **shape: Any) -> dict[str, Child]:
    """The processes of these programs, in the order of PROGRAMS, with the same model in each."""
    with tempfile.TemporaryDirectory() as folder:
        new_model(preset, "cpu", **shape).save_pretrained(folder)
        threads = str(torch.get_num_threads())
        chosen = [name for name in programs.PROGRAMS if name in names]
        return {name: Child(programs.__name__, name, folder, threads) for name in chosen}


def _writing(child: Child, preset: str, steps: int, **shape: Any) -> Work:
    child.tell(json.dumps(random_ids(preset, (1, SHORT), "cpu", **shape)[0].tolist()))
    return partial(child.tell, json.dumps(steps))
