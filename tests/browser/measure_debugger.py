"""Print what each kind of move in the state debugger costs, for a text of 512 tokens.

    python tests/browser/measure_debugger.py

It counts the time of the processor, of all threads together: what else the machine does changes that little. What the
page does with what it is sent comes on top; the test in a browser prints it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measure import seconds

from mamba2_lab import Mamba2LM, inspect, load_tokenizer
from mamba2_lab.scan import recurrence
from mamba2_lab.widgets import StateDebugger

TOKENS, ROUNDS = 512, 15


def debugger() -> StateDebugger:
    """Of the beginning of a Python file."""
    model, tokenizer = Mamba2LM.from_pretrained("small"), load_tokenizer("small")
    ids = tokenizer.encode(Path(recurrence.__file__).read_text(encoding="utf-8"))[:TOKENS]
    return StateDebugger(inspect.trace(model, torch.tensor(ids)), [tokenizer.decode([i]) for i in ids])


def moves(view: StateDebugger) -> dict[str, Callable[[], None]]:
    """Each of them changes what is shown whenever it is called."""
    strip = view.controls["token"]

    def walk() -> None:
        strip.selected = (strip.selected - 7) % TOKENS

    def next_one(name: str) -> Callable[[], None]:
        picker = view.controls[name]

        def act() -> None:
            picker.value = (picker.value + 1) % (picker.max + 1)

        return act

    return {"another token": walk, "another head": next_one("head"), "another layer": next_one("layer")}


def main() -> None:
    torch.set_num_threads(1)
    view = debugger()
    lock = view.controls["lock"]
    print(f"{TOKENS} tokens, medians of {ROUNDS} moves and the longest of them, in milliseconds")
    for locked in (False, True):
        view.controls["token"].selected = TOKENS // 2
        lock.value = locked
        view.controls["token"].selected = TOKENS - 1
        for name, act in moves(view).items():
            times = [1000 * seconds(act) for _ in range(ROUNDS + 1)][1:]
            title = f"{name}, one locked" if locked else name
            print(f"{title:26}{statistics.median(times):5.0f}{max(times):5.0f}")
    if view.last_error is not None:
        raise view.last_error


if __name__ == "__main__":
    main()
