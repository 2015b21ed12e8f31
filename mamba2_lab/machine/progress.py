"""How much of some work is done, told to who waits for it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mamba2_lab.machine.devices import synchronise


class Progress:
    """Tells a listener which share of the work is done, once it really is: a GPU works behind the program."""

    def __init__(self, listener: Callable[[float], None] | None, total: int, device: torch.device) -> None:
        self._listener, self._total, self._device = listener, total, device
        self._done = 0

    def go_on(self) -> None:
        """One part more is done."""
        if self._listener is not None:
            self._done += 1
            synchronise(self._device)
            self._listener(self._done / self._total)
