"""The config.json of every published model, key by key, and what of it is changed to make the model small."""

from __future__ import annotations

import math
from typing import Any

NEOX_VOCAB = 261  # of `many_tokenizers.byte_level`, which stands for GPT-NeoX's tokenizer of 50277


def official(d_model: int, n_layer: int, **fields: Any) -> dict[str, Any]:
    """The config.json of a `MambaConfig`."""
    return {
        "d_model": d_model,
        "n_layer": n_layer,
        "vocab_size": 50277,
        "ssm_cfg": {},
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 8,
        **fields,
    }


def official2(d_model: int, n_layer: int, **fields: Any) -> dict[str, Any]:
    """The same of the second generation's code."""
    more = {"d_intermediate": 0, "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [], "attn_cfg": {}}
    return official(d_model, n_layer, **{**more, "pad_vocab_size_multiple": 16, "tie_embeddings": True, **fields})


def official3(d_model: int, n_layer: int, d_intermediate: int, *, is_mimo: bool) -> dict[str, Any]:
    """The same of the third's."""
    ssm = {
        "layer": "Mamba3",
        "d_state": 128,
        "expand": 2,
        "headdim": 64,
        "ngroups": 1,
        "rope_fraction": 0.5,
        "dt_min": 0.001,
        "dt_max": 0.1,
        "dt_init_floor": 0.0001,
        "A_floor": 0.0001,
        "is_mimo": is_mimo,
        "mimo_rank": 4,
        "chunk_size": 16 if is_mimo else 64,
        "is_outproj_norm": False,
    }
    return official2(d_model, n_layer, d_intermediate=d_intermediate, ssm_cfg=ssm, vocab_size=128256)


def _transformers(kind: str, hidden_size: int, layers: int, **fields: Any) -> dict[str, Any]:
    """What the config.json of all of transformers' have in common."""
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "bos_token_id": 0,
        "conv_kernel": 4,
        "eos_token_id": 0,
        "expand": 2,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "initializer_range": 0.1,
        "layer_norm_epsilon": 1e-05,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "rescale_prenorm_residual": False,
        "residual_in_fp32": True,
        "time_step_floor": 0.0001,
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "torch_dtype": "float32",
        "use_bias": False,
        "use_cache": True,
        "use_conv_bias": True,
        **fields,
    }


def mamba_hf(hidden_size: int, layers: int, **old: Any) -> dict[str, Any]:
    """state-spaces/mamba-*-hf: what the official code called its fields is still there, and says nothing of tying."""
    return _transformers(
        "Mamba",
        hidden_size,
        layers,
        d_model=hidden_size,
        d_inner=2 * hidden_size,
        fused_add_norm=True,
        intermediate_size=2 * hidden_size,
        model_type="mamba",
        n_layer=layers,
        pad_vocab_size_multiple=8,
        rms_norm=True,
        ssm_cfg={},
        state_size=16,
        time_step_init_scheme="random",
        time_step_rank=math.ceil(hidden_size / 16),
        time_step_scale=1.0,
        transformers_version="4.39.0.dev0",
        vocab_size=50280,
    ) | dict(old)


def mamba2_hf(hidden_size: int, layers: int, **fields: Any) -> dict[str, Any]:
    """AntonV/mamba2-*-hf. Its limit of the step is a bare Infinity, which Python's json reads."""
    common = {
        "chunk_size": 256,
        "head_dim": 64,
        "model_type": "mamba2",
        "n_groups": 1,
        "norm_before_gate": False,
        "num_heads": 2 * hidden_size // 64,
        "rms_norm": True,
        "state_size": 128,
        "tie_word_embeddings": True,
        "time_step_limit": [0.0, math.inf],
        "time_step_rank": math.ceil(hidden_size / 16),
        "transformers_version": "4.45.0.dev0",
        "vocab_size": 50288,
    }
    return _transformers("Mamba2", hidden_size, layers, **{**common, **fields})


FALCON = _transformers(
    "FalconMamba",
    4096,
    64,
    eos_token_id=11,
    expand=16,
    intermediate_size=8192,
    model_type="falcon_mamba",
    pad_token_id=11,
    state_size=16,
    tie_word_embeddings=False,
    time_step_init_scheme="random",
    time_step_rank=256,
    time_step_scale=1.0,
    torch_dtype="bfloat16",
    transformers_version="4.43.0.dev0",
    vocab_size=65024,
)
CODESTRAL = mamba2_hf(
    4096,
    64,
    eos_token_id=2,
    n_groups=8,
    norm_before_gate=True,
    pad_token_id=1,
    tie_word_embeddings=False,
    torch_dtype="bfloat16",
    transformers_version="4.44.0.dev0",
    vocab_size=32768,
)
_ATTENTION = {"causal": True, "out_proj_bias": False, "qkv_proj_bias": False}
HYBRID = official2(
    2560,
    64,
    attn_layer_idx=[9, 18, 27, 36, 45, 56],
    attn_cfg={**_ATTENTION, "d_conv": 4, "head_dim": 128, "num_heads": 30, "rotary_emb_dim": 64},
)
TRANSFORMER = official2(
    2560,
    32,
    d_intermediate=6912,
    ssm_cfg={},
    attn_layer_idx=list(range(32)),
    attn_cfg={**_ATTENTION, "head_dim": 80, "num_heads": 32, "rotary_emb_dim": 40},
)

SMALL = {"d_model": 64, "n_layer": 2, "vocab_size": NEOX_VOCAB}
SMALL_HYBRID = {
    **SMALL,
    "n_layer": 3,
    "attn_layer_idx": [1],
    "attn_cfg": {**HYBRID["attn_cfg"], "head_dim": 16, "num_heads": 5, "rotary_emb_dim": 8},
}
SMALL_TRANSFORMER = {
    **SMALL,
    "d_intermediate": 172,
    "attn_layer_idx": [0, 1],
    "attn_cfg": {**TRANSFORMER["attn_cfg"], "head_dim": 16, "num_heads": 4, "rotary_emb_dim": 8},
}
SMALL_MAMBA = {
    "hidden_size": 32,
    "d_model": 32,
    "d_inner": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "time_step_rank": 2,
    "vocab_size": 264,
}
SMALL_FALCON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "time_step_rank": 2,
    "vocab_size": 264,
}
SMALL_MAMBA2 = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_heads": 2,
    "time_step_rank": 4,
    "vocab_size": 272,
}
SMALL_CODESTRAL = {**SMALL_MAMBA2, "n_groups": 2, "state_size": 16}


def small3(config: dict[str, Any]) -> dict[str, Any]:
    ssm = {**config["ssm_cfg"], "d_state": 16, "headdim": 32}
    return {**SMALL, "vocab_size": 272, "ssm_cfg": ssm, "d_intermediate": 172}
