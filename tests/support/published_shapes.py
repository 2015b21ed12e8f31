"""The tensors that published models hold, by the config.json that lies beside them: names and shapes.

Written down from the official code (state-spaces/mamba) and from transformers' `modeling_*` files, nothing taken from
the package: what it expects of a folder is compared with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Shape = tuple[int, ...]
Fields = Mapping[str, Any]


# Names and shapes of the official code


def official_shapes(config: Fields) -> dict[str, Shape]:
    """The tensors of `MambaLMHeadModel`, a tied head among them."""
    d, multiple = config["d_model"], config.get("pad_vocab_size_multiple", 8)
    rows = -(-config["vocab_size"] // multiple) * multiple
    shapes: dict[str, Shape] = {"backbone.embedding.weight": (rows, d)}
    for i in range(config["n_layer"]):
        block = {"norm.weight": (d,), **_inside("mixer", _mixer_shapes(config, i))}
        if config.get("d_intermediate", 0):
            hidden = -(-config["d_intermediate"] // 128) * 128
            block |= {"norm2.weight": (d,), "mlp.fc1.weight": (2 * hidden, d), "mlp.fc2.weight": (d, hidden)}
        shapes |= _inside(f"backbone.layers.{i}", block)
    return {**shapes, "backbone.norm_f.weight": (d,), "lm_head.weight": (rows, d)}


def _inside(prefix: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _mixer_shapes(config: Fields, i: int) -> dict[str, Shape]:
    d, ssm = config["d_model"], config["ssm_cfg"]
    if i in config.get("attn_layer_idx", []):
        return _attention_shapes(d, config["attn_cfg"])
    kinds = {"Mamba1": _mamba1_shapes, "Mamba2": _mamba2_shapes, "Mamba3": _mamba3_shapes}
    return kinds[ssm.get("layer", "Mamba1")](d, ssm)


def _mamba1_shapes(d: int, ssm: Fields) -> dict[str, Shape]:
    inner, n, width = ssm.get("expand", 2) * d, ssm.get("d_state", 16), ssm.get("d_conv", 4)
    rank = ssm.get("dt_rank", math.ceil(d / 16))
    return {
        "A_log": (inner, n),
        "D": (inner,),
        "in_proj.weight": (2 * inner, d),
        "conv1d.weight": (inner, 1, width),
        "conv1d.bias": (inner,),
        "x_proj.weight": (rank + 2 * n, inner),
        "dt_proj.weight": (inner, rank),
        "dt_proj.bias": (inner,),
        "out_proj.weight": (d, inner),
    }


def _mamba2_shapes(d: int, ssm: Fields) -> dict[str, Shape]:
    inner, n, groups = ssm.get("expand", 2) * d, ssm.get("d_state", 128), ssm.get("ngroups", 1)
    heads, channels = inner // ssm.get("headdim", 64), inner + 2 * groups * n
    return {
        "dt_bias": (heads,),
        "A_log": (heads,),
        "D": (heads,),
        "in_proj.weight": (2 * inner + 2 * groups * n + heads, d),
        "conv1d.weight": (channels, 1, ssm.get("d_conv", 4)),
        "conv1d.bias": (channels,),
        "norm.weight": (inner,),
        "out_proj.weight": (d, inner),
    }


def _mamba3_shapes(d: int, ssm: Fields) -> dict[str, Shape]:
    inner, n, p, groups = ssm["expand"] * d, ssm["d_state"], ssm["headdim"], ssm["ngroups"]
    heads, rank, angles = inner // p, ssm["mimo_rank"] if ssm["is_mimo"] else 1, int(n * ssm["rope_fraction"]) // 2
    mimo = dict.fromkeys(("mimo_x", "mimo_z", "mimo_o"), (heads, rank, p)) if ssm["is_mimo"] else {}
    return {
        "dt_bias": (heads,),
        "B_bias": (heads, rank, n),
        "C_bias": (heads, rank, n),
        **mimo,
        "D": (heads,),
        "in_proj.weight": (2 * inner + 2 * rank * groups * n + 3 * heads + angles, d),
        "B_norm.weight": (n,),
        "C_norm.weight": (n,),
        "out_proj.weight": (d, inner),
    }


def _attention_shapes(d: int, attn: Fields) -> dict[str, Shape]:
    inner = attn["num_heads"] * attn["head_dim"]
    kept = attn.get("num_heads_kv", attn["num_heads"]) * attn["head_dim"]
    channels, width = inner + 2 * kept, attn.get("d_conv", 0)
    convolution = {"conv1d.weight": (channels, 1, width), "conv1d.bias": (channels,)} if width else {}
    return {"in_proj.weight": (channels, d), **convolution, "out_proj.weight": (d, inner)}


# Names and shapes of transformers


def transformers_shapes(config: Fields) -> dict[str, Shape]:
    """The tensors of `MambaForCausalLM` and the like, as they lie in its files: without a tied head."""
    shapes = official_shapes(_as_official(config))
    if config.get("tie_word_embeddings", True):
        del shapes["lm_head.weight"]
    return {"backbone.embeddings.weight": shapes.pop("backbone.embedding.weight"), **shapes}


def _as_official(config: Fields) -> dict[str, Any]:
    ssm = {"expand": config["expand"], "d_state": config["state_size"], "d_conv": config["conv_kernel"]}
    if config["model_type"] == "mamba2":
        ssm |= {"layer": "Mamba2", "headdim": config["head_dim"], "ngroups": config["n_groups"]}
    else:
        expand = config["intermediate_size"] // config["hidden_size"]
        ssm |= {"layer": "Mamba1", "expand": expand, "dt_rank": config["time_step_rank"]}
    sizes = {"d_model": config["hidden_size"], "n_layer": config["num_hidden_layers"]}
    return {**sizes, "vocab_size": config["vocab_size"], "pad_vocab_size_multiple": 1, "ssm_cfg": ssm}
