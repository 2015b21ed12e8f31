"""A playground driven through its controls, without a browser: the same class, the same thread, no page."""

from __future__ import annotations

import threading

import torch
from support.small_models import small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.widgets import Playground

SOON = 60  # seconds; nothing waits so long unless it hangs
TOKENIZER = ByteTokenizer()
END = TOKENIZER.end_of_text


def readable_model() -> Mamba2LM:
    """Random weights that write ASCII only, so that every token has a text at once, and never end."""
    model = small_model()
    unembed, others = model.unembed, torch.tensor([not 32 <= i < 127 for i in range(257)])
    model.unembed = lambda u: unembed(u).masked_fill(others, -1e4)  # type: ignore[method-assign]
    return model


def playground(model: Mamba2LM | None = None, **options) -> Playground:
    """One that is ready, with a model of the test's own."""
    found = Playground("own", "ab", models={"own": (model or readable_model(), TOKENIZER)}, **{"length": 12, **options})
    assert found.wait(SOON)
    return found


def press(found: Playground, name: str) -> None:
    found.controls[name].click()
    assert found.wait(SOON)


def shown(found: Playground) -> str:
    """All the words and figures of the widget."""
    parts, waiting = [], [found]
    while waiting:
        widget = waiting.pop(0)
        waiting += getattr(widget, "children", ())
        parts.append(widget.value if type(widget).__name__ == "HTML" else "")
    return "\n".join(parts)


def generated(model: Mamba2LM, count: int, seed: int, prompt: str = "ab", **settings) -> str:
    """The same by `model.generate`."""
    ids = torch.tensor([[END, *TOKENIZER.encode(prompt)]])
    new = model.generate(ids, max_new_tokens=count, seed=seed, **settings)[0, ids.shape[1] :]
    return TOKENIZER.decode(new.tolist())


SETTINGS = {"temperature": 1.2, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3}


class Gated:
    """Lets a model's steps through one by one."""

    def __init__(self, model: Mamba2LM) -> None:
        self.permits, self.reached, self.steps = threading.Semaphore(0), threading.Semaphore(0), 0
        advance = model.advance

        def gated(*args, **kwargs):
            self.reached.release()
            assert self.permits.acquire(timeout=SOON)
            self.steps += 1
            return advance(*args, **kwargs)

        model.advance = gated  # type: ignore[method-assign]

    def let(self, count: int) -> None:
        """Let so many steps happen, and wait until the next one stands at the gate."""
        for _ in range(count):
            self.permits.release()
            assert self.reached.acquire(timeout=SOON)


def started(seed: int = 3, **options) -> tuple[Playground, Gated, Mamba2LM]:
    """A run of which the first token is there, and the second waits."""
    model = readable_model()
    found = playground(model, seed=seed, **{"length": 1000, **options})
    gate = Gated(model)
    found.controls["generate"].click()
    assert gate.reached.acquire(timeout=SOON)
    return found, gate, model
