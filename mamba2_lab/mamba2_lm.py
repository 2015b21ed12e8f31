"""The language model as it is used: loaded, saved, made to write, compiled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from mamba2_lab import weights
from mamba2_lab.fast import compiled
from mamba2_lab.generation import generate
from mamba2_lab.model import LanguageModel
from mamba2_lab.weights.loading import load
from mamba2_lab.weights.publishing import require_destination
from mamba2_lab.weights.stored import number_of_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mamba2_lab.text import Tokenizer


class MambaLM(LanguageModel):
    """A language model of Mambas, of any generation, and of attention among them.

    >>> model = MambaLM(d_model=256, n_layer=4, mixers="mamba3", vocab_size=100)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 100])

    Args:
        config: the shape of the model; or give its fields as keywords instead: those of `MambaConfig` if `mixers` is
            among them, and else those of `Mamba2Config`.
        device: where the weights go. They are drawn on the CPU first, so a seed gives the same model everywhere.
        seed: draw the weights from this seed; None draws from torch's own CPU generator.
        fields: of the config.

    Raises:
        TypeError: if both a config and fields are given.
        ValueError: for an unknown field or a value that does not fit, as the config says it.
    """

    def compile(self, **options: Any) -> None:
        """From now on let torch.compile fuse what `forward`, `prefill` and `step` do; `uncompile` takes it back.

        The first call of each kind takes a minute or so: a step, a sequence of so many chunks. torch keeps what it
        compiled in the folder that TORCHINDUCTOR_CACHE_DIR names, by default one for temporary files: there the next
        process finds it, and needs some seconds. In a process it keeps eight compilations of a function, for all models
        together; beyond them it runs the code as written, and says nothing. (To keep more, set
        `torch._dynamo.config.recompile_limit`.)

        On a CPU tokens are written by compiled loops anyway, and beside other processes as without this, so nothing
        compiles by itself, or behind a text that is being written: that would take the cores from it for as long as
        many thousand tokens need. `mamba2-lab bench decode-compiled decode-laptop-compiled` tells what there is to
        gain.

        Args:
            options: those of `torch.compile`; without any, those that serve the model's device.
        """
        compiled.compile_model(self, options)

    def uncompile(self) -> None:
        """Back to the code as it is written."""
        compiled.uncompile_model(self)

    def num_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return number_of_weights(self)

    def generate(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Continue each row; see `mamba2_lab.generation.generate` for the options."""
        return generate(self, input_ids, **options)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        weights: str | None = None,
    ) -> Self:
        """Read a model: one of ours, of transformers, or of the official code.

        Args:
            source: the name of a model in the box ("small"), a folder, or a Hub id, "owner/name" or
                "owner/name@revision": what it needs is downloaded, and cached. The folder of a training stands for its
                newest checkpoint; that of an adapter (LoRA, in peft's format) for the model that it names, with the
                adapter added to its weights; config.json for its folder; a file of weights, or the index of several,
                for the model that has these.
            device: weights are read on the CPU, then moved.
            dtype: of the weights. float32, the default, holds every checkpoint exactly and is fastest on most laptops;
                states and the residual stream are float32 in any case.
            weights: "int8" or "int4" stores the matrices and the embedding in 8 or 4 bits, rounded one by one as they
                are read: `dtype` is then that of what is left, and of what is computed with. Such a model reads, writes
                and is saved, and cannot be trained. None leaves them as they lie there: floats in `dtype`, or stored.

        Raises:
            FileNotFoundError: if there is nothing at the source, or the Hub does not give it, and why.
            OSError: if the disk has no room for a download, or it breaks off; the next one goes on from there.
            CheckpointError: naming file, key, expected and found, if the file is damaged or does not fit; and for a
                pickle that is more than weights: see `mamba2_lab.weights.pickled`, which says why reading one is safe.
            ValueError: for an unknown `weights`, or another than they are stored in.
        """
        return load(source, cls, device=device, dtype=dtype, weights=weights)

    def save_pretrained(self, folder: str | Path, *, tokenizer: Tokenizer | None = None, layout: str = "ours") -> None:
        """Write config and weights into a folder, each file whole: config.json and model.safetensors.

        Matrices in 8 or 4 bits are written as they are, and config.json says how they are stored.

        Args:
            tokenizer: is written beside them.
            layout: "ours"; "official", for state-spaces/mamba; "transformers"; or "mlx", for mlx-lm. For llama.cpp
                there is `mamba2_lab.convert`.

        Raises:
            ValueError: for another layout, for a variant that the layout has no place for, and in others than
                ours for matrices in 8 or 4 bits.
        """
        weights.save(self, folder, tokenizer=tokenizer, layout=layout)

    def push_to_hub(
        self,
        hub_id: str,
        *,
        tokenizer: Tokenizer | None = None,
        layout: str = "ours",
        record: str | Path | None = None,
        licence: str | None = None,
        private: bool = True,
        dry_run: bool = True,
    ) -> weights.Plan:
        """Upload what `save_pretrained` writes, with a card, to the Hub; for a folder there is `weights.publish`.

        Args:
            hub_id: "owner/name"; made if it is not there.
            record: the folder of the training, or of the model, that the card speaks of.
            licence: of the weights, for the card: "apache-2.0".
            private: for the owner alone.
            dry_run: upload nothing, and say what would be.

        Returns:
            What was uploaded, or would be: print it.

        Raises:
            ValueError: as `save_pretrained` does, for an id that is none, and if the repository is there and public.
            PermissionError: if nobody is logged in.
            OSError: if the upload fails, with what is there and what is not.
        """
        require_destination(hub_id, really=not dry_run)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, tokenizer=tokenizer, layout=layout)
            return weights.publish(folder, hub_id, really=not dry_run, private=private, licence=licence, record=record)

    @classmethod
    def from_transformers(cls, hf_model: PreTrainedModel) -> Self:
        """The same model from a transformers `MambaForCausalLM`, `FalconMambaForCausalLM` or `Mamba2ForCausalLM`.

        It has their dtype; weights are copied.

        Raises:
            CheckpointError: for another kind of model, and a setting that ours has no place for (another activation).
        """
        return weights.from_transformers(hf_model, cls)

    def to_transformers(self) -> PreTrainedModel:
        """The same model as one of transformers, a Mamba-1 or a Mamba-2, in the same dtype; weights are copied.

        Rows that only pad the vocabulary are left out: transformers would choose such a token.

        Raises:
            ValueError: for other mixers, and a variant that transformers does not have (norm_before_gate, an MLP).
        """
        return weights.to_transformers(self)


class Mamba2LM(MambaLM):
    """`MambaLM` by the name of the family that the notebooks teach.

    >>> model = Mamba2LM(d_model=256, n_layer=4, d_state=16, vocab_size=100)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 100])
    """
