"""A transformer to compare with: Llama's architecture, as large as `medium`, trained by the same loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

WINDOW = 1024  # tokens that it attends to, the length that it is trained on


class Transformer(nn.Module):
    """What `training.fit` and `training.bits_per_byte` ask of a model, around a Llama with random weights.

    Rotary positions, RMSNorm, SwiGLU, tied embeddings; shaped so that it has as many weights as `medium`.
    """

    def __init__(self, vocab_size: int, seed: int, **shape: int) -> None:
        super().__init__()
        fields: dict[str, Any] = {
            "hidden_size": 320,
            "num_hidden_layers": 6,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "intermediate_size": 674,
            "max_position_embeddings": WINDOW,
            "tie_word_embeddings": True,
            "use_cache": False,
        }
        config = LlamaConfig(vocab_size=vocab_size, **{**fields, **shape})
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.llama = LlamaForCausalLM(config)
        self.checkpoint_blocks = False  # `fit` sets it; there is memory enough

    @property
    def config(self) -> LlamaConfig:
        """Its shape, as transformers has it."""
        return self.llama.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.llama.device

    def num_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, input_ids: Tensor, *, document_ids: Tensor | None = None) -> Tensor:
        """(b,l) -> next-token logits (b,l,vocab_size), each token attending to earlier ones of its own document."""
        input_ids = input_ids.to(self.device)
        l = input_ids.shape[1]
        allowed = torch.ones(l, l, dtype=torch.bool, device=self.device).tril()[None, None]
        if document_ids is not None:
            document_ids = document_ids.to(self.device)
            allowed = allowed & (document_ids[:, None, :, None] == document_ids[:, None, None, :])
        return self.llama(input_ids=input_ids, attention_mask=allowed).logits.float()

    def prefill(
        self, input_ids: Tensor, cache: Tensor | None = None, *, all_positions: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Logits for one text of any length, and what the next call needs: its last tokens.

        The text is read in windows that overlap by half, so every token sees at least half a window before it, or all
        there is. input_ids (1,l) -> (1,l,vocab_size); all_positions is what `bits_per_byte` asks for, and all there is.
        """
        half = WINDOW // 2
        past = input_ids[:, :0] if cache is None else cache
        text = torch.cat([past, input_ids], dim=1)
        logits = []
        for start in range(past.shape[1], text.shape[1], half):
            first = max(0, start - half)
            logits.append(self(text[:, first : start + half])[:, start - first :])
        return torch.cat(logits, dim=1), text[:, -half:]
