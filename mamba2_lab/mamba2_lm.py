"""The language model as it is used: loaded, saved, made to write, compiled."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mamba2_lab.layers import Block, LayerState
from mamba2_lab.model import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mamba2_lab.text import Tokenizer

# For torch.compile's own backend on a CPU. A step multiplies matrices with one vector each; a short chain of operations
# that made the vector would be computed again for every row, so let a chain be 8 operations at most. The sizes of a
# thousand tensors need not be asserted in each step: they were guarded when it was called. And loops are vectorised
# even where one of their inputs, such as the taps of the convolution, is not read in order: 0.93 of 130m's prefill.
CPU_OPTIONS = {"realize_opcount_threshold": 8, "size_asserts": False, "cpp.enable_tiling_heuristics": False}


class Mamba2LM(LanguageModel):
    """A Mamba-2 language model, with all that is done with one."""

    def compile(self, **options: Any) -> None:
        """From now on let torch.compile fuse what `forward`, `prefill` and `step` do.

        The first call of each kind takes a minute or so. For sequences one block is compiled and all use it, in a third
        of the time that the whole stack would take; but a step does so little that going in and out of each block
        would be a tenth to a third of it, so that one is compiled whole. `uncompile` takes it back.

        Args:
            options: those of `torch.compile`; without any, `CPU_OPTIONS` go to its backend on a CPU.
        """
        if not options and self.device.type == "cpu":
            options = {"options": CPU_OPTIONS}
        read = torch.compile(Block.forward, **options)
        # For sizes left open torch 2.13 writes loops on a CPU that, with gradients, write outside of their tensors.
        learn = torch.compile(Block.forward, **{"dynamic": False, **options})

        def forward(block: Block, *args: Any, **kwargs: Any) -> tuple[Tensor, LayerState]:
            return (learn if torch.is_grad_enabled() else read)(block, *args, **kwargs)

        for block in self.blocks:
            block.forward = functools.partial(forward, block)  # type: ignore[method-assign]
        self._step = functools.partial(torch.compile(Mamba2LM._step, **options), self)  # type: ignore[method-assign]

    def uncompile(self) -> None:
        """Back to the code as it is written."""
        self.__dict__.pop("_step", None)
        for block in self.blocks:
            block.__dict__.pop("forward", None)

    def generate(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Continue each row; see `mamba2_lab.generation.generate` for the options."""
        from mamba2_lab.generation import generate

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
