"""Where the playground's models come from: the box, a folder, the Hub, or the notebook that it stands in."""

from __future__ import annotations

from collections.abc import Mapping

from mamba2_lab.health import choose
from mamba2_lab.machine import devices
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer
from mamba2_lab.weights import PRECISIONS, load_tokenizer, models_in_the_box
from mamba2_lab.widgets.playground.writing import Loaded


class Shelf:
    """Models by name, loaded when they are first asked for. The newest is kept, so that asking again takes no time.

    Args:
        own: models of the notebook; they stay on their devices.
    """

    def __init__(self, own: Mapping[str, tuple[MambaLM, Tokenizer]]) -> None:
        self._own = {name: Loaded(name, *pair) for name, pair in own.items()}
        self._newest: Loaded | None = None
        self._choice = choose()
        self._described = devices.describe(self._choice.device.type)

    @property
    def names(self) -> list[str]:
        """Models that need no path: those of the notebook, then those in the box."""
        box = models_in_the_box()
        return [*self._own, *(name for name in box if name not in self._own)]

    def devices(self) -> list[str]:
        """What this machine can compute on, what is best first."""
        best = self._choice.device.type
        return [best, *(kind for kind in ("cpu", "cuda", "mps") if kind != best and devices.is_available(kind))]

    def moves(self, source: str) -> bool:
        """Whether device and weights can be chosen."""
        return source not in self._own

    def reason(self, source: str, kind: str) -> str:
        """Why it computes where it does; on a CPU, with as many threads as the thread has that asks."""
        if source in self._own:
            return f"{devices.describe(self._own[source].device)}, where the notebook has put {source}"
        if kind != self._choice.device.type:
            return f"{kind}: {devices.describe(kind)}; asked for"
        return str(self._choice).replace(self._described, devices.describe(kind))

    def get(self, source: str, kind: str, weights: str) -> Loaded:
        """The model of that name, folder or Hub id, on that kind of device, its weights stored so (int8 stays int8).

        Raises:
            FileNotFoundError, CheckpointError, ValueError: as `weights.load` and `tokenizer.load` say it.
        """
        if source in self._own:
            return self._own[source]
        if self._newest is None or not self.is_meant(self._newest, source, kind, weights):
            model = MambaLM.from_pretrained(source, device=kind, **PRECISIONS[weights])
            self._newest = Loaded(source, model.eval(), load_tokenizer(source), weights)
        return self._newest

    def is_meant(self, loaded: Loaded, source: str, kind: str, weights: str) -> bool:
        """Whether this is the model that `get` would give."""
        return loaded.name == source and (source in self._own or (loaded.device, loaded.weights) == (kind, weights))
