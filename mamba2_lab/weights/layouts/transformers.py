"""The layout of transformers' `MambaForCausalLM`, `FalconMambaForCausalLM` and `Mamba2ForCausalLM`, and its models.

Its names are the official ones, but for "embeddings".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from mamba2_lab.config import StackFields
from mamba2_lab.machine.untrusted import CheckpointError, shown
from mamba2_lab.model import LanguageModel
from mamba2_lab.weights.build import Model, build, check_shapes, copied, renamed, weights_of
from mamba2_lab.weights.layouts.fields import as_config, as_json, require_fields, require_unset, without_padding
from mamba2_lab.weights.layouts.official import our_name as from_official
from mamba2_lab.weights.layouts.official import their_name as to_official

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Architecture(NamedTuple):
    """One of transformers' models, and which of ours that is."""

    name: str  # of its classes, NAMEConfig and NAMEForCausalLM
    mixer: str
    fields: Mapping[str, str]  # of the mixer: our names, and theirs
    of_all: Mapping[str, Any] = {}  # fields of ours that all of its kind have
    left_out: Mapping[str, Any] = {}  # what older files leave out of theirs, and what it then is
    unwritten: Mapping[str, Any] = {}  # what our mixer has and theirs has not, with the value to which that comes


STACK = {
    "d_model": "hidden_size",
    "n_layer": "num_hidden_layers",
    "vocab_size": "vocab_size",
    "tie_embeddings": "tie_word_embeddings",
    "norm_eps": "layer_norm_epsilon",
}
_ANY_MIXER = {
    "d_state": "state_size",
    "d_conv": "conv_kernel",
    "expand": "expand",
    "dt_min": "time_step_min",
    "dt_max": "time_step_max",
    "dt_init_floor": "time_step_floor",
    "bias": "use_bias",
    "conv_bias": "use_conv_bias",
}
_MAMBA1 = {
    **_ANY_MIXER,
    "dt_rank": "time_step_rank",
    "dt_init": "time_step_init_scheme",
    "dt_scale": "time_step_scale",
}
_MAMBA2 = {
    **_ANY_MIXER,
    "headdim": "head_dim",
    "ngroups": "n_groups",
    "chunk_size": "chunk_size",
    "dt_limit": "time_step_limit",
    "norm_eps": "layer_norm_epsilon",
}
_TIED = {"tie_word_embeddings": True}

ARCHITECTURES: Mapping[str, Architecture] = {  # by model_type
    "mamba2": Architecture(
        "Mamba2", "mamba2", _MAMBA2, unwritten={"norm_before_gate": False, "learnable_init_states": False}
    ),
    "mamba": Architecture("Mamba", "mamba1", _MAMBA1, {"b_c_dt_rms": False}, left_out=_TIED),
    "falcon_mamba": Architecture(
        "FalconMamba",
        "mamba1",
        {**_MAMBA1, "b_c_dt_rms_eps": "mixer_rms_eps"},
        {"b_c_dt_rms": True},
        left_out={**_TIED, "mixer_rms_eps": 1e-6},
    ),
}


def recognises(found: Mapping[str, Any]) -> bool:
    """By its model_type."""
    return found.get("model_type") in list(ARCHITECTURES)  # which a stranger may have made a list, without a hash


def read_config(found: Mapping[str, Any], where: str) -> StackFields:
    """Our names for its fields; the padding of a vocabulary counts as tokens there."""
    theirs = ARCHITECTURES[found["model_type"]]
    found = {**theirs.left_out, **found}
    if found.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError(f"{where}: hidden_act must be 'silu'; found {shown(found['hidden_act'])}")
    require_fields(found, [*STACK.values(), *theirs.fields.values()], where)
    stack = {ours: found[name] for ours, name in STACK.items()}
    mixer = {ours: found[name] for ours, name in theirs.fields.items()}
    if theirs.mixer == "mamba1" and "intermediate_size" in found:
        mixer["expand"] = _expand(found["intermediate_size"], found["hidden_size"], where)
    own = {"mixers": theirs.mixer, theirs.mixer: {**mixer, **theirs.of_all}}
    return as_config({**stack, **own, "pad_vocab_size_multiple": 1}, where)


def _expand(width: Any, d_model: Any, where: str) -> int:
    """Mamba-1 there goes by its width; FalconMamba-7B's expand is 16, and its 8192 channels are 2 times 4096."""
    if type(width) is int and type(d_model) is int and width > 0 and d_model > 0 and width % d_model == 0:
        return width // d_model
    raise CheckpointError(
        f"{where}: intermediate_size must be a multiple of hidden_size, {shown(d_model)}; found {shown(width)}"
    )


def our_name(name: str) -> str:
    """The official name, the embedding's in the singular. Mistral's own files have "model." before it."""
    name = from_official(name.removeprefix("model."))
    return name.replace("embeddings.", "embedding.", 1) if name.startswith("embeddings.") else name


def their_name(name: str) -> str:
    """What transformers calls a tensor of ours."""
    return to_official(name.replace("embedding.", "embeddings.", 1) if name.startswith("embedding.") else name)


def written(config: StackFields, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What config.json and model.safetensors hold; transformers is not needed for it.

    Raises:
        ValueError: as `to_transformers`.
    """
    theirs = _architecture_of(config)
    fields = _write_config(theirs, config)
    if theirs.mixer == "mamba1":
        mixer: Any = config.mixer_fields_by_name["mamba1"]
        fields |= {"time_step_rank": mixer.rank, "intermediate_size": mixer.d_inner}
    [model_type] = [name for name, architecture in ARCHITECTURES.items() if architecture is theirs]
    kind = {"model_type": model_type, "architectures": [f"{theirs.name}ForCausalLM"]}
    dtype = str(weights["embedding.weight"].dtype).removeprefix("torch.")
    return {**kind, **as_json(fields), "dtype": dtype}, _their_names(config, weights)


def _their_names(config: StackFields, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under its names, without the rows that only pad the vocabulary: it would choose such tokens."""
    return {their_name(name): tensor for name, tensor in without_padding(config, weights).items()}


def from_transformers(hf_model: PreTrainedModel, model_class: type[Model]) -> Model:
    """The same model from one of transformers, in its dtype; weights are copied.

    Raises:
        CheckpointError: for another kind of model, and for a setting that ours has no place for (another activation,
            say).
    """
    where = f"transformers model {type(hf_model).__name__}"
    fields = hf_model.config.to_dict()
    if not recognises(fields):
        kinds = ", ".join(f"{theirs.name}ForCausalLM" for theirs in ARCHITECTURES.values())
        raise CheckpointError(f"{where}: expected one of {kinds}")
    config = read_config(fields, where)
    weights = dict(renamed(hf_model.state_dict().items(), our_name, where))
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in weights.items()}, where)
    keep = copied(weights["embedding.weight"].dtype, hf_model.device)
    model = build(model_class, config, weights.items(), where, keep)
    return model.train(hf_model.training)


def to_transformers(model: LanguageModel) -> PreTrainedModel:
    """The same model as one of transformers, in the same dtype; weights are copied, but for rows of mere padding.

    Raises:
        ValueError: for other mixers, and for a variant that transformers does not have (norm_before_gate, learnable
            initial states).
    """
    import transformers
    from accelerate import init_empty_weights

    theirs = _architecture_of(model.config)
    hf_config = getattr(transformers, f"{theirs.name}Config")(**_write_config(theirs, model.config))
    with init_empty_weights():  # but its buffers have their numbers: FalconMamba keeps the norms' weights, ones, there
        hf_model = getattr(transformers, f"{theirs.name}ForCausalLM")(hf_config)
    weights = {name: tensor.clone() for name, tensor in _their_names(model.config, weights_of(model)).items()}
    hf_model.load_state_dict(weights, strict=False, assign=True)
    hf_model.tie_weights()
    hf_model.to(model.device)
    return hf_model.train(model.training)


def _architecture_of(config: StackFields) -> Architecture:
    """Which of its models this is; ValueError if none."""
    mixers = config.mixer_fields_by_name
    for theirs in ARCHITECTURES.values():
        fields = mixers[theirs.mixer].to_dict() if [*mixers] == [theirs.mixer] else None
        if fields is not None and all(fields[name] == value for name, value in theirs.of_all.items()):
            layer, whose = config.layer(0), f"transformers' {theirs.name}"
            around = {"d_intermediate": layer.d_intermediate, "rms_norm": layer.rms_norm}
            require_unset({**around, **fields}, {"d_intermediate": 0, "rms_norm": True, **theirs.unwritten}, whose)
            if fields.get("norm_eps", config.norm_eps) != config.norm_eps:
                norms = f"{config.norm_eps}, and {fields['norm_eps']} in its mixers"
                raise ValueError(f"{whose} has one norm_eps for all its norms; got {norms}")
            return theirs
    raise ValueError(f"a Mamba-1 or a Mamba-2 alone can be made a transformers model; got one of {', '.join(mixers)}")


def _write_config(theirs: Architecture, config: StackFields) -> dict[str, Any]:
    mixer: Any = config.mixer_fields_by_name[theirs.mixer]
    fields = {name: getattr(config, ours) for ours, name in STACK.items()}
    fields |= {name: getattr(mixer, ours) for ours, name in theirs.fields.items()}
    if theirs.mixer == "mamba2":
        fields["num_heads"] = mixer.nheads
    no_special_tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # by default id 2 ends a text
    return {**fields, **no_special_tokens}
