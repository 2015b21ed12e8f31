"""The layout of transformers' `Mamba2ForCausalLM`, and its models themselves.

Its names are the official ones, but for "embeddings". It is written by transformers: convert a model and save that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from mamba2_lab.config import Mamba2Config, StackFields
from mamba2_lab.machine.untrusted import CheckpointError, shown
from mamba2_lab.model import LanguageModel
from mamba2_lab.weights.build import Model, build, check_shapes, renamed, weights_of
from mamba2_lab.weights.layouts.fields import as_config, require_fields
from mamba2_lab.weights.layouts.official import our_name as from_official
from mamba2_lab.weights.layouts.official import their_name as to_official

if TYPE_CHECKING:
    from transformers import PreTrainedModel

THEIR_FIELDS = {
    "d_model": "hidden_size",
    "n_layer": "num_hidden_layers",
    "vocab_size": "vocab_size",
    "d_state": "state_size",
    "d_conv": "conv_kernel",
    "expand": "expand",
    "headdim": "head_dim",
    "ngroups": "n_groups",
    "chunk_size": "chunk_size",
    "dt_min": "time_step_min",
    "dt_max": "time_step_max",
    "dt_init_floor": "time_step_floor",
    "dt_limit": "time_step_limit",
    "bias": "use_bias",
    "conv_bias": "use_conv_bias",
    "tie_embeddings": "tie_word_embeddings",
    "norm_eps": "layer_norm_epsilon",
}


def recognises(found: Mapping[str, Any]) -> bool:
    """By its model_type."""
    return found.get("model_type") == "mamba2"


def read_config(found: Mapping[str, Any], where: str) -> StackFields:
    """Our names for its fields; the padding of a vocabulary counts as tokens there."""
    if found.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError(f"{where}: hidden_act must be 'silu'; found {shown(found['hidden_act'])}")
    require_fields(found, THEIR_FIELDS.values(), where)
    fields = {ours: found[theirs] for ours, theirs in THEIR_FIELDS.items()}
    return as_config({**fields, "pad_vocab_size_multiple": 1}, where)


def our_name(name: str) -> str:
    """The official name, the embedding's in the singular."""
    name = from_official(name)
    return name.replace("embeddings.", "embedding.", 1) if name.startswith("embeddings.") else name


def their_name(name: str) -> str:
    """What transformers calls a tensor of ours."""
    return to_official(name.replace("embedding.", "embeddings.", 1) if name.startswith("embedding.") else name)


def from_transformers(hf_model: PreTrainedModel, model_class: type[Model]) -> Model:
    """The same model from a transformers `Mamba2ForCausalLM`, in its dtype; weights are copied.

    Raises:
        CheckpointError: for a setting that Mamba-2 has no place for (another activation, say).
    """
    where = f"transformers model {type(hf_model).__name__}"
    config = read_config(hf_model.config.to_dict(), where)
    weights = {name: tensor.detach().clone() for name, tensor in hf_model.state_dict().items()}
    dtype = weights["backbone.embeddings.weight"].dtype
    weights = renamed(weights, our_name, where)
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in weights.items()}, where)
    model = build(model_class, config, weights, where, dtype)
    return model.to(hf_model.device).train(hf_model.training)


def to_transformers(model: LanguageModel) -> PreTrainedModel:
    """The same model as a transformers `Mamba2ForCausalLM`, in the same dtype; weights are copied.

    Raises:
        ValueError: for other mixers, and for a variant that transformers does not have (norm_before_gate, learnable
            initial states).
    """
    import transformers

    if not isinstance(model.config, Mamba2Config):
        mixers = ", ".join(model.config.mixer_fields_by_name)
        raise ValueError(f"a pure Mamba-2 alone can be made a transformers model; got one of {mixers}")
    for variant in ("norm_before_gate", "learnable_init_states"):
        if getattr(model.config, variant):
            raise ValueError(f"transformers' Mamba2 has no {variant}; it must be False to convert, got True")
    hf_config = transformers.Mamba2Config(**_write_config(model.config))
    with torch.device("meta"):
        hf_model = transformers.Mamba2ForCausalLM(hf_config)
    weights = {their_name(name): tensor.clone() for name, tensor in weights_of(model).items()}
    hf_model.load_state_dict(weights, strict=False, assign=True)
    hf_model.tie_weights()
    hf_model.to(model.device)  # type: ignore[arg-type]
    return hf_model.train(model.training)


def _write_config(config: Mamba2Config) -> dict[str, Any]:
    fields = {theirs: getattr(config, ours) for ours, theirs in THEIR_FIELDS.items()}
    sizes = {"vocab_size": config.padded_vocab_size, "num_heads": config.nheads}
    no_special_tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # by default id 2 ends a text
    return {**fields, **sizes, **no_special_tokens}
