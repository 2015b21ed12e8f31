"""The layout of state-spaces/mamba: its `MambaConfig`, our names behind "backbone.", a tied head stored twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.config import Mamba2Config
from mamba2_lab.machine.untrusted import CheckpointError, shown
from mamba2_lab.weights.layouts.fields import as_config, require_fields

_PURE_MAMBA_2 = {"rms_norm": True, "d_intermediate": 0, "attn_layer_idx": []}
_MIXER_DEFAULTS = {"d_state": 128, "headdim": 64, "chunk_size": 256}  # those that differ from ours
_MODEL_DEFAULTS = {"pad_vocab_size_multiple": 8, "tie_embeddings": True}
_SIZES = ("d_model", "n_layer", "vocab_size")


def recognises(found: Mapping[str, Any]) -> bool:
    """By its fields for the mixer; it names no type."""
    return "ssm_cfg" in found


def read_config(found: Mapping[str, Any], where: str) -> Mamba2Config:
    """The fields of the model and of the mixer, with the official defaults."""
    for name, value in _PURE_MAMBA_2.items():
        if found.get(name, value) != value:
            raise CheckpointError(f"{where}: {name} must be {value!r}, a pure Mamba-2; found {shown(found[name])}")
    require_fields(found, _SIZES, where)
    if not isinstance(found["ssm_cfg"], dict):
        raise CheckpointError(f"{where}: ssm_cfg must be an object; found {shown(found['ssm_cfg'])}")
    mixer = dict(found["ssm_cfg"])
    if (layer := mixer.pop("layer", "Mamba1")) != "Mamba2":
        raise CheckpointError(f"{where}: ssm_cfg.layer must be 'Mamba2'; found {shown(layer)}")
    sizes = {name: found[name] for name in _SIZES}
    model = {name: found.get(name, default) for name, default in _MODEL_DEFAULTS.items()}
    return as_config({**sizes, **model, **_MIXER_DEFAULTS, **mixer}, where)


def our_name(name: str) -> str:
    """Without the prefix."""
    return name.removeprefix("backbone.")


def their_name(name: str) -> str:
    """With the prefix, which the head has not."""
    return name if name.startswith("lm_head.") else f"backbone.{name}"


def written(config: Mamba2Config, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Its config and its names; ValueError for learnable initial states, and for another norm_eps than 1e-5."""
    fields, theirs = _write_config(config), {their_name(name): tensor for name, tensor in weights.items()}
    if config.tie_embeddings:
        theirs["lm_head.weight"] = theirs["backbone.embedding.weight"].clone()
    return fields, theirs


def _write_config(config: Mamba2Config) -> dict[str, Any]:
    mixer = config.mixer_fields()  # its reader knows the bare Infinity that Python's json writes
    del mixer["d_model"], mixer["norm_eps"], mixer["learnable_init_states"]
    if config.norm_eps != 1e-5:
        raise ValueError(f"the official layout has no norm_eps; it must be 1e-5 to convert, got {config.norm_eps}")
    if config.learnable_init_states:
        raise ValueError("the official Mamba2 has no learnable_init_states; it must be False to convert, got True")
    return {
        "d_model": config.d_model,
        "d_intermediate": 0,
        "n_layer": config.n_layer,
        "vocab_size": config.vocab_size,
        "ssm_cfg": {"layer": "Mamba2", **mixer},
        "attn_layer_idx": [],
        "attn_cfg": {},
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": config.pad_vocab_size_multiple,
        "tie_embeddings": config.tie_embeddings,
    }
