"""The layout of state-spaces/mamba: its `MambaConfig`, our names behind "backbone.", a tied head stored twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.config import StackFields
from mamba2_lab.machine.untrusted import CheckpointError, shown
from mamba2_lab.weights.layouts.fields import as_config, require_fields, require_unset

THEIR_MIXERS = {"mamba1": "Mamba1", "mamba2": "Mamba2", "mamba3": "Mamba3"}  # ssm_cfg.layer; attention has attn_cfg
OUR_MIXERS = {theirs: ours for ours, theirs in THEIR_MIXERS.items()}

_SIZES = ("d_model", "n_layer", "vocab_size")
_DEFAULTS = {"pad_vocab_size_multiple": 8, "tie_embeddings": True, "d_intermediate": 0, "rms_norm": True}
_MIXER_DEFAULTS: Mapping[str, Mapping[str, Any]] = {  # those that differ from ours
    "mamba2": {"d_state": 128, "headdim": 64, "chunk_size": 256},
    "attention": {"causal": False},
}
_MOST_LAYERS_BY_NAME = 4096  # a config must not make a list as long as it likes

# What our fields can say and theirs cannot, with the value that theirs have.
_UNWRITTEN: Mapping[str, Mapping[str, Any]] = {
    "mamba1": {"b_c_dt_rms": False, "b_c_dt_rms_eps": 1e-6},
    "mamba2": {"norm_eps": 1e-5, "learnable_init_states": False},
    "mamba3": {"A_activation": "heavy_tail"},
}

# What theirs can say and our fields cannot: what changes nothing that is computed with given weights ...
_WITHOUT_EFFECT: Mapping[str, tuple[str, ...]] = {
    "mamba1": ("use_fast_path",),
    "mamba2": ("use_mem_eff_path", "sequence_parallel", "conv_init"),
    "mamba3": ("fuse_pregate_headwise_norm", "dropout", "n_layer"),
}
# ... and what does, with the value that ours have.
_UNREAD: Mapping[str, Mapping[str, Any]] = {
    "mamba2": {"d_ssm": None, "D_has_hdim": False, "rmsnorm": True, "process_group": None},
    "attention": {"mlp_dim": 0},
}


def recognises(found: Mapping[str, Any]) -> bool:
    """By its fields for the mixer; it names no type."""
    return "ssm_cfg" in found


def read_config(found: Mapping[str, Any], where: str) -> StackFields:
    """The fields of the model and of its mixers, with the official defaults.

    residual_in_fp32 and fused_add_norm are left out: here the residual stream is float32 in any case.
    """
    require_fields(found, _SIZES, where)
    layer = _object(found, "ssm_cfg", where).get("layer", "Mamba1")
    if layer not in list(OUR_MIXERS):
        raise CheckpointError(f"{where}: ssm_cfg.layer must be one of {', '.join(OUR_MIXERS)}; found {shown(layer)}")
    name = OUR_MIXERS[layer]
    mixers = _mixers(found, name, where)
    sizes = {name: found[name] for name in _SIZES}
    model = {name: found.get(name, default) for name, default in _DEFAULTS.items()}
    used = {name: _read_mixer(name, found, where) for name in (name, "attention") if name in mixers}
    return as_config({**sizes, **model, "mixers": mixers[0] if len(set(mixers)) == 1 else mixers, **used}, where)


def _read_mixer(name: str, found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Our fields of one kind of mixer."""
    place = "attn_cfg" if name == "attention" else "ssm_cfg"
    given = {**_MIXER_DEFAULTS.get(name, {}), **_object(found, place, where)}
    if name == "attention":
        require_fields(given, ["num_heads"], f"{where}: attn_cfg")
    for unread, value in _UNREAD.get(name, {}).items():
        if given.pop(unread, value) != value:
            raise CheckpointError(f"{where}: {place}.{unread} must be {value}; found {shown(found[place][unread])}")
    return {key: value for key, value in given.items() if key not in ("layer", *_WITHOUT_EFFECT.get(name, ()))}


def _object(found: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = found.get(name, {})
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: {name} must be an object; found {shown(value)}")
    return value


def _mixers(found: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """The mixer's name, or those of all layers if some have attention."""
    attention, n_layer = found.get("attn_layer_idx", []), found["n_layer"]
    if not isinstance(attention, list) or not all(type(i) is int and i >= 0 for i in attention):
        raise CheckpointError(f"{where}: attn_layer_idx must be a list of layers; found {shown(attention)}")
    if not attention:
        return (name,)
    if type(n_layer) is not int or not max(attention) < n_layer <= _MOST_LAYERS_BY_NAME:
        raise CheckpointError(
            f"{where}: n_layer must be above {max(attention)}, for attn_layer_idx names it, and at most "
            f"{_MOST_LAYERS_BY_NAME}; found {shown(n_layer)}"
        )
    return tuple("attention" if i in attention else name for i in range(n_layer))


def our_name(name: str) -> str:
    """Without the prefix."""
    return name.removeprefix("backbone.")


def their_name(name: str) -> str:
    """With the prefix, which the head has not."""
    return name if name.startswith("lm_head.") else f"backbone.{name}"


def written(config: StackFields, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Its config and its names; ValueError for a variant that it has no place for."""
    fields, theirs = _write_config(config), {their_name(name): tensor for name, tensor in weights.items()}
    if config.tie_embeddings:
        theirs["lm_head.weight"] = theirs["backbone.embedding.weight"].clone()
    return fields, theirs


def _write_config(config: StackFields) -> dict[str, Any]:
    if config.norm_eps != 1e-5:
        raise ValueError(f"the official layout has no norm_eps; it must be 1e-5 to convert, got {config.norm_eps}")
    written = {name: _write_mixer(name, config) for name in config.mixer_fields_by_name}
    attention = written.pop("attention", {})
    if len(written) > 1:
        raise ValueError(f"the official layout has one kind of mixer beside attention; got {', '.join(written)}")
    first = config.layer(0)
    return {
        "d_model": config.d_model,
        "d_intermediate": first.d_intermediate,
        "n_layer": config.n_layer,
        "vocab_size": config.vocab_size,
        "ssm_cfg": {key: value for name, fields in written.items() for key, value in _named(name, fields).items()},
        "attn_layer_idx": [i for i in range(config.n_layer) if config.layer(i).mixer == "attention"],
        "attn_cfg": attention,
        "rms_norm": first.rms_norm,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": config.pad_vocab_size_multiple,
        "tie_embeddings": config.tie_embeddings,
    }


def _named(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"layer": THEIR_MIXERS[name], **fields}


def _write_mixer(name: str, config: StackFields) -> dict[str, Any]:
    """The fields of one kind of mixer; its reader knows the bare Infinity that Python's json writes."""
    fields = config.mixer_fields_by_name[name].to_dict()
    del fields["d_model"]
    unwritten = _UNWRITTEN.get(name, {})
    require_unset(fields, unwritten, f"the official {THEIR_MIXERS.get(name, 'MHA')}")
    return {key: value for key, value in fields.items() if key not in unwritten}
