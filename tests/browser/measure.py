"""Print what streaming costs: the playground's run against `model.generate`, in turn, for the same tokens.

    python tests/browser/measure.py

It counts the time of the processor, of all threads together: what else the machine does changes that little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.widgets import Playground

TOKENS, ROUNDS = 256, 5
PROMPT = "def area(radius):\n    "
SETTINGS = {"temperature": 0.7, "top_k": 40, "top_p": 0.95}


def seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)  # for both alike
    model, tokenizer = Mamba2LM.from_pretrained("small"), load_tokenizer("small")
    ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(PROMPT)]])
    playground = Playground(prompt=PROMPT, length=TOKENS, models={"own": (model, tokenizer)}, model="own", **SETTINGS)
    playground.wait()

    def streamed() -> None:
        playground.controls["generate"].click()
        playground.wait()

    def generated() -> None:
        model.generate(ids, max_new_tokens=TOKENS, seed=0, stop=tokenizer.end_of_text, **SETTINGS)

    pairs = [(seconds(generated), seconds(streamed)) for _ in range(ROUNDS + 1)][1:]
    plain, shown = (statistics.median(times) for times in zip(*pairs, strict=True))
    best = [min(times) for times in zip(*pairs, strict=True)]
    print(f"{TOKENS} tokens, medians of {ROUNDS}: generate {plain:.2f} s, streamed {shown:.2f} s")
    print(f"streaming adds {shown / plain - 1:.1%} by the medians, {best[1] / best[0] - 1:.1%} by the best")


if __name__ == "__main__":
    main()
