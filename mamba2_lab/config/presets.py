"""Shapes that have a name: those of the models in the box, and the published ones."""

from __future__ import annotations

from typing import Any

# The models in the box, for a laptop ...
_LAPTOP: dict[str, dict[str, Any]] = {
    "small": {"d_model": 128, "n_layer": 8, "vocab_size": 257, "d_state": 64, "headdim": 32},
    "medium": {"d_model": 320, "n_layer": 9, "vocab_size": 4096, "d_state": 128, "headdim": 64},
    "large": {"d_model": 512, "n_layer": 16, "vocab_size": 8192, "d_state": 128, "headdim": 64},
}

# ... and the published shapes: config.json of huggingface.co/state-spaces/NAME. Those of the first two generations
# share the vocabulary of GPT-NeoX, those of the third Llama 3.1's.
_GPT_NEOX, _LLAMA = {"vocab_size": 50277}, {"vocab_size": 128256, "pad_vocab_size_multiple": 16}
_MAMBA1 = {**_GPT_NEOX, "mixers": "mamba1"}
_MAMBA2 = {**_GPT_NEOX, "d_state": 128, "headdim": 64, "pad_vocab_size_multiple": 16}
_MAMBA2_SIZES = {
    "130m": {"d_model": 768, "n_layer": 24, **_MAMBA2},
    "370m": {"d_model": 1024, "n_layer": 48, **_MAMBA2},
    "780m": {"d_model": 1536, "n_layer": 48, **_MAMBA2},
    "1.3b": {"d_model": 2048, "n_layer": 48, **_MAMBA2},
    "2.7b": {"d_model": 2560, "n_layer": 64, **_MAMBA2},
}


def _mamba3(d_model: int, n_layer: int, d_intermediate: int, **mixer: Any) -> dict[str, Any]:
    """Each of its layers is a Mamba-3 and an MLP."""
    shape = {"d_model": d_model, "n_layer": n_layer, "d_intermediate": d_intermediate, **_LLAMA}
    return {**shape, "mixers": "mamba3", "mamba3": mixer}


_WITH_ATTENTION = {"d_model": 2560, **_GPT_NEOX, "pad_vocab_size_multiple": 16}
_NO_BIASES = {"qkv_proj_bias": False, "out_proj_bias": False}
_MIMO = {"is_mimo": True, "mimo_rank": 4, "chunk_size": 16}

PRESETS: dict[str, dict[str, Any]] = {
    **_LAPTOP,
    **_MAMBA2_SIZES,
    "mamba-130m": {"d_model": 768, "n_layer": 24, **_MAMBA1},
    "mamba-370m": {"d_model": 1024, "n_layer": 48, **_MAMBA1},
    "mamba-790m": {"d_model": 1536, "n_layer": 48, **_MAMBA1},
    "mamba-1.4b": {"d_model": 2048, "n_layer": 48, **_MAMBA1},
    "mamba-2.8b": {"d_model": 2560, "n_layer": 64, **_MAMBA1},
    **{f"mamba2-{size}": fields for size, fields in _MAMBA2_SIZES.items()},
    "mamba2attn-2.7b": {
        **_WITH_ATTENTION,
        "n_layer": 64,
        "mixers": tuple("attention" if i in (9, 18, 27, 36, 45, 56) else "mamba2" for i in range(64)),
        "mamba2": {"d_state": 128, "headdim": 64},
        "attention": {"num_heads": 30, "head_dim": 128, "d_conv": 4, "rotary_emb_dim": 64, **_NO_BIASES},
    },
    "transformerpp-2.7b": {
        **_WITH_ATTENTION,
        "n_layer": 32,
        "mixers": "attention",
        "attention": {"num_heads": 32, "head_dim": 80, "rotary_emb_dim": 40, **_NO_BIASES},
        "d_intermediate": 6912,
    },
    "mamba3-siso-187m": _mamba3(768, 12, 1536),
    "mamba3-siso-443m": _mamba3(1024, 24, 2048),
    "mamba3-siso-893m": _mamba3(1536, 24, 3072),
    "mamba3-siso-1.5b": _mamba3(2048, 24, 4096),
    "mamba3-mimo-187m": _mamba3(768, 12, 1264, **_MIMO),
    "mamba3-mimo-444m": _mamba3(1024, 24, 1792, **_MIMO),
    "mamba3-mimo-894m": _mamba3(1536, 24, 2800, **_MIMO),
    "mamba3-mimo-1.5b": _mamba3(2048, 24, 3824, **_MIMO),
}
