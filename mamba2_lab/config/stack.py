"""What a language model is made of: mixers in a stack, between an embedding and a head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mamba2_lab.checks import require
from mamba2_lab.config.mamba2 import Mamba2Fields
from mamba2_lab.config.presets import PRESETS


@dataclass(frozen=True)
class Mamba2Config(Mamba2Fields):
    """The shape and the initialisation of a Mamba-2 language model: the fields of its mixers, `Mamba2Fields`, and

    n_layer: number of blocks.
    vocab_size: number of tokens; the embedding has `padded_vocab_size` rows.
    tie_embeddings: the output head shares the embedding's weights.
    pad_vocab_size_multiple: the embedding's rows are rounded up to a multiple of it.

    Raises:
        TypeError, ValueError: naming the field, what was expected, and the value that came.
    """

    n_layer: int = 4
    vocab_size: int = 257
    tie_embeddings: bool = True
    pad_vocab_size_multiple: int = 8

    @property
    def padded_vocab_size(self) -> int:
        """vocab_size rounded up to a multiple of pad_vocab_size_multiple: rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Mamba2Config:
        """The named preset, with any field replaced: `Mamba2Config.preset("small", n_layer=2)`."""
        require(name in PRESETS, "preset", f"one of {', '.join(PRESETS)}", name)
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def given(cls, config: Mamba2Config | None, fields: dict[str, Any]) -> Mamba2Config:
        """The config that is given whole, or by its fields.

        Raises:
            TypeError: if both are given, or something else than a config.
        """
        if config is not None and fields:
            raise TypeError(f"give a config or its fields, not both; got a config and {', '.join(fields)}")
        if not isinstance(config, Mamba2Config | None):
            raise TypeError(f"config must be a Mamba2Config; got {type(config).__name__}")
        return config or cls.from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, in the order in which people give them: first the size of the model."""
        return {"d_model": self.d_model, "n_layer": self.n_layer, "vocab_size": self.vocab_size} | super().to_dict()

    def mixer_fields(self) -> dict[str, Any]:
        """The fields that one `Mamba2` takes: all but those of the model around it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Mamba2Fields)}


def tokens_per_piece(config: Mamba2Config) -> int:
    """How many tokens of a long prompt are read at once, in whole chunks.

    The scan takes a thousand at once anyway, so pieces of as many cost nothing. Wide models take fewer: a layer of a
    piece has to end before somebody who asks to stop is heard.
    """
    most = min(1024, max(256, 2**30 // config.d_model**2))
    return max(1, most // config.chunk_size) * config.chunk_size
