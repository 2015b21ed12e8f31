"""The language model as it is used: loaded, saved, made to write, compiled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mamba2_lab.fast import compiled
from mamba2_lab.generation import generate
from mamba2_lab.model import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mamba2_lab.text import Tokenizer


class Mamba2LM(LanguageModel):
    """A Mamba-2 language model, with all that is done with one."""

    def compile(self, **options: Any) -> None:
        """From now on let torch.compile fuse what `forward`, `prefill` and `step` do; `uncompile` takes it back.

        The first call of each kind takes a minute or so.

        Args:
            options: those of `torch.compile`; without any, those that serve the model's device.
        """
        compiled.compile_model(self, options)

    def uncompile(self) -> None:
        """Back to the code as it is written."""
        compiled.uncompile_model(self)

    def num_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def generate(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Continue each row; see `mamba2_lab.generation.generate` for the options."""
        return generate(self, input_ids, **options)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Mamba2LM:
        """A model in the box ("small"), a folder, or a Hub id; see `mamba2_lab.checkpoint.load`."""
        from mamba2_lab.weights import load

        return load(source, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path, *, tokenizer: Tokenizer | None = None) -> None:
        """Write config and weights into a folder; see `mamba2_lab.checkpoint.save`."""
        from mamba2_lab.weights import save

        save(self, folder, tokenizer=tokenizer)

    @classmethod
    def from_transformers(cls, hf_model: PreTrainedModel) -> Mamba2LM:
        """The same model from a transformers `Mamba2ForCausalLM`."""
        from mamba2_lab.weights import from_transformers

        return from_transformers(hf_model)

    def to_transformers(self) -> PreTrainedModel:
        """The same model as a transformers `Mamba2ForCausalLM`."""
        from mamba2_lab.weights import to_transformers

        return to_transformers(self)
