"""Shapes that have a name."""

from __future__ import annotations

from typing import Any

# The models in the box, for a laptop ...
_LAPTOP: dict[str, dict[str, Any]] = {
    "small": {"d_model": 128, "n_layer": 8, "vocab_size": 257, "d_state": 64, "headdim": 32},
    "medium": {"d_model": 320, "n_layer": 9, "vocab_size": 4096, "d_state": 128, "headdim": 64},
    "large": {"d_model": 512, "n_layer": 16, "vocab_size": 8192, "d_state": 128, "headdim": 64},
}


# ... and the official shapes: d_state 128, headdim 64, the GPT-NeoX vocabulary padded to a multiple of 16
# (config.json of huggingface.co/state-spaces/mamba2-130m and its siblings).
_OFFICIAL = {"vocab_size": 50277, "d_state": 128, "headdim": 64, "pad_vocab_size_multiple": 16}

PRESETS: dict[str, dict[str, Any]] = {
    **_LAPTOP,
    "130m": {"d_model": 768, "n_layer": 24, **_OFFICIAL},
    "370m": {"d_model": 1024, "n_layer": 48, **_OFFICIAL},
    "780m": {"d_model": 1536, "n_layer": 48, **_OFFICIAL},
    "1.3b": {"d_model": 2048, "n_layer": 48, **_OFFICIAL},
    "2.7b": {"d_model": 2560, "n_layer": 64, **_OFFICIAL},
}
