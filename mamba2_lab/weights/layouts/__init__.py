"""The ways to write a model down in a folder, a file each. Loading asks them in the order of LAYOUTS.

    ours          config.json of the fields of our configs
    transformers  what `save_pretrained` of its `MambaForCausalLM`, `Mamba2ForCausalLM` and the like writes
    official      config.json of state-spaces/mamba's `MambaConfig`
    mlx           that of transformers, with what mlx-lm asks for beside it: read as such, and written

They hold the same tensors under different names, in model.safetensors. All that is known of a layout is in its file:
how its config.json is told from the others and read, what it calls the tensors, and how it is written. gguf.py stands
apart: one file for llama.cpp, with everything in it, and written alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from mamba2_lab.config import StackFields
from mamba2_lab.machine.untrusted import CheckpointError, shown
from mamba2_lab.weights.layouts import mlx, official, ours, transformers


class Layout(Protocol):
    """What loading needs of a layout. Modules keep it."""

    def recognises(self, found: Mapping[str, Any]) -> bool:
        """Whether a config.json with these fields is of this layout."""

    def read_config(self, found: Mapping[str, Any], where: str) -> StackFields:
        """Our config of these fields; CheckpointError, beginning with `where`, if we have none such."""

    def our_name(self, name: str) -> str:
        """What we call the tensor that is called so in its files."""


class WrittenLayout(Protocol):
    """What saving needs of one."""

    def written(self, config: StackFields, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What config.json and model.safetensors hold, of weights under our names, a tied head left out.

        Raises:
            ValueError: for a variant that the layout has no place for.
        """


LAYOUTS: tuple[Layout, ...] = (ours, transformers, official)
WRITTEN: Mapping[str, WrittenLayout] = {
    "ours": ours,
    "official": official,
    "transformers": transformers,
    "mlx": mlx,
}
FOR_TRANSFORMERS = ("transformers", "mlx")  # what is read with a tokenizer of transformers


def layout_of(found: Mapping[str, Any], where: str) -> Layout:
    """The layout that a config.json is of.

    Raises:
        CheckpointError: if it is of none.
    """
    for layout in LAYOUTS:
        if layout.recognises(found):
            return layout
    types = ", ".join(map(repr, (ours.MODEL_TYPE, *transformers.ARCHITECTURES)))
    raise CheckpointError(
        f"{where}: expected the config of a Mamba (model_type one of {types}, or the official ssm_cfg); "
        f"found model_type {shown(found.get('model_type'))}"
    )
