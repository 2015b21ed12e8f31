"""The language model as it is used: loaded, saved, made to write, compiled."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from mamba2_lab import generation, weights
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
        return generation.generate(self, input_ids, **options)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Self:
        """Read a model: one of ours, of transformers, or of the official code.

        Args:
            source: the name of a model in the box ("small"), a folder, or a Hub id such as "owner/name" (downloaded,
                then cached). The folder of a training stands for its newest checkpoint.
            device: weights are read on the CPU, then moved.
            dtype: of the weights. float32, the default, holds every checkpoint exactly and is fastest on most laptops;
                states and the residual stream are float32 in any case.

        Raises:
            FileNotFoundError: if there is nothing at the source.
            CheckpointError: naming file, key, expected and found, if the file is damaged or does not fit; and for
                pickle.
        """
        return weights.load(source, cls, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path, *, tokenizer: Tokenizer | None = None, layout: str = "ours") -> None:
        """Write config and weights into a folder, each file whole: config.json and model.safetensors.

        Args:
            tokenizer: is written beside them.
            layout: "ours", or "official", for state-spaces/mamba. For transformers: `to_transformers`, and save that.

        Raises:
            ValueError: for another layout, and for a variant that the official one has no place for.
        """
        weights.save(self, folder, tokenizer=tokenizer, layout=layout)

    @classmethod
    def from_transformers(cls, hf_model: PreTrainedModel) -> Self:
        """The same model from a transformers `Mamba2ForCausalLM`, in its dtype; weights are copied.

        Raises:
            CheckpointError: for a setting that Mamba-2 has no place for (another activation, say).
        """
        return weights.from_transformers(hf_model, cls)

    def to_transformers(self) -> PreTrainedModel:
        """The same model as a transformers `Mamba2ForCausalLM`, in the same dtype; weights are copied.

        Raises:
            ValueError: for a variant that transformers does not have (norm_before_gate, learnable initial states).
        """
        return weights.to_transformers(self)
