"""Weights in and out: safetensors only, three layouts.

    ours          config.json of `Mamba2Config` fields, model.safetensors
    transformers  what `Mamba2ForCausalLM.save_pretrained` writes
    official      config.json of state-spaces/mamba's `MambaConfig`, weights under its names

The layouts hold the same tensors under different names, so conversions only rename. Pickle files (.bin, .pt) are
refused: unpickling runs whatever code the file holds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mamba2_lab import tokenizer as tokenizers
from mamba2_lab.config import Mamba2Config
from mamba2_lab.files import replacing, write_text
from mamba2_lab.model import Mamba2LM
from mamba2_lab.quantise import require_whole_weights
from mamba2_lab.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
MODEL_TYPE = "mamba2_lab"
BOX = Path(__file__).parent / "pretrained"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class CheckpointError(ValueError):
    """A file that does not hold what it should: the message names the file, the key, what was expected and found."""


def save(model: Mamba2LM, folder: str | Path, *, tokenizer: Tokenizer | None = None) -> None:
    """Write config.json and model.safetensors (and the tokenizer) into a folder, each file whole."""
    config = {"model_type": MODEL_TYPE, **_jsonable(model.config.to_dict())}
    _write(Path(folder), config, _weights(model), tokenizer)


def save_official(model: Mamba2LM, folder: str | Path) -> None:
    """Write the layout of state-spaces/mamba: its config.json, and its names in model.safetensors."""
    weights = {_official_name(name): tensor for name, tensor in _weights(model).items()}
    if model.config.tie_embeddings:
        weights["lm_head.weight"] = weights["backbone.embedding.weight"].clone()
    _write(Path(folder), _official_config(model.config), weights, None)


@torch.inference_mode(False)  # weights read under inference_mode could never be trained
def load(source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Mamba2LM:
    """Read a model in any of the three layouts.

    Args:
        source: the name of a model in the box, a folder, or a Hub id such as "owner/name" (downloaded, then cached).
            The folder of a training stands for its newest checkpoint.
        device: weights are read on the CPU, then moved.
        dtype: of the weights. float32, the default, holds every checkpoint exactly and is fastest on most laptops;
            states and the residual stream are float32 in any case.

    Raises:
        FileNotFoundError: if there is nothing at the source.
        CheckpointError: naming file, key, expected and found, if the file is damaged or does not fit; and for pickle.
    """
    folder = _locate(source)
    config_path, path = folder / CONFIG_NAME, _weights_path(folder)
    found = _read_config(config_path)
    config, rename = _understand(found, config_path)
    weights = read_tensors(path)
    renamed = _rename_all(weights, rename)
    return build(config, renamed, str(path), dtype).to(device)


def load_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer that belongs to a model: the same sources as `load`."""
    return tokenizers.load(_locate(source))


def build(config: Mamba2Config, weights: Mapping[str, Tensor], where: str, dtype: torch.dtype) -> Mamba2LM:
    """A model from weights under our names, each checked; `where` names their origin in errors."""
    model = Mamba2LM(config, device="meta")
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    weights = dict(weights)
    if config.tie_embeddings:
        _drop_tied_head(weights, where)
    _check_weights(weights, expected, where)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, strict=False, assign=True)
    if config.tie_embeddings:  # assign=True has put new parameters in place: tie them again
        model.lm_head.weight = model.embedding.weight
    return model.requires_grad_(True)


def from_transformers(hf_model: PreTrainedModel) -> Mamba2LM:
    """The same model from a transformers `Mamba2ForCausalLM`, in its dtype; weights are copied.

    Raises:
        CheckpointError: for a setting that Mamba-2 has no place for (another activation, say).
    """
    where = f"transformers model {type(hf_model).__name__}"
    config = _config_from_transformers(hf_model.config.to_dict(), where)
    weights = {name: tensor.detach().clone() for name, tensor in hf_model.state_dict().items()}
    dtype = weights["backbone.embeddings.weight"].dtype
    model = build(config, _rename_all(weights, _from_transformers_name), where, dtype)
    return model.to(hf_model.device).train(hf_model.training)


def to_transformers(model: Mamba2LM) -> PreTrainedModel:
    """The same model as a transformers `Mamba2ForCausalLM`, in the same dtype; weights are copied.

    Raises:
        ValueError: for a variant that transformers does not have (norm_before_gate, learnable initial states).
    """
    import transformers

    for variant in ("norm_before_gate", "learnable_init_states"):
        if getattr(model.config, variant):
            raise ValueError(f"transformers' Mamba2 has no {variant}; it must be False to convert, got True")
    hf_config = transformers.Mamba2Config(**_transformers_fields(model.config))
    with torch.device("meta"):
        hf_model = transformers.Mamba2ForCausalLM(hf_config)
    weights = {_to_transformers_name(name): tensor.clone() for name, tensor in _weights(model).items()}
    hf_model.load_state_dict(weights, strict=False, assign=True)
    hf_model.tie_weights()
    hf_model.to(model.device)  # type: ignore[arg-type]
    return hf_model.train(model.training)


# Names. Ours are the official ones without the prefix "backbone."; transformers says "embeddings".


def _official_name(name: str) -> str:
    return name if name.startswith("lm_head.") else f"backbone.{name}"


def _from_official_name(name: str) -> str:
    return name.removeprefix("backbone.")


def _to_transformers_name(name: str) -> str:
    return _official_name(name.replace("embedding.", "embeddings.", 1) if name.startswith("embedding.") else name)


def _from_transformers_name(name: str) -> str:
    name = _from_official_name(name)
    return name.replace("embeddings.", "embedding.", 1) if name.startswith("embeddings.") else name


def _rename_all(weights: Mapping[str, Tensor], rename: Any) -> dict[str, Tensor]:
    return {rename(name): tensor for name, tensor in weights.items()}


# Configurations


def _understand(found: dict[str, Any], path: Path) -> tuple[Mamba2Config, Any]:
    """Which layout a config.json is of: our config, and how to rename its weights to ours."""
    if found.get("model_type") == MODEL_TYPE:
        fields = {name: value for name, value in found.items() if name != "model_type"}
        _require_fields(fields, [field.name for field in dataclasses.fields(Mamba2Config)], path)
        return _checked(Mamba2Config.from_dict, fields, path), lambda name: name
    if found.get("model_type") == "mamba2":
        return _config_from_transformers(found, str(path)), _from_transformers_name
    if "ssm_cfg" in found:
        return _config_from_official(found, path), _from_official_name
    raise CheckpointError(
        f"{path}: expected a Mamba-2 config (model_type {MODEL_TYPE!r} or 'mamba2', or the official ssm_cfg); "
        f"found model_type {found.get('model_type')!r}"
    )


def _require_fields(found: Mapping[str, Any], names: Iterable[str], where: Path | str) -> None:
    """A field that is missing must not become a default: the model would run, and compute something else."""
    for name in names:
        if name not in found:
            raise CheckpointError(f"{where}: expected a field {name!r}; found none")


def _checked(make: Any, fields: dict[str, Any], path: Path | str) -> Mamba2Config:
    try:
        return make(fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _config_from_transformers(found: Mapping[str, Any], where: str) -> Mamba2Config:
    if found.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError(f"{where}: hidden_act must be 'silu'; found {found['hidden_act']!r}")
    _require_fields(found, _TRANSFORMERS_FIELDS.values(), where)
    fields = {ours: found[theirs] for ours, theirs in _TRANSFORMERS_FIELDS.items()}
    return _checked(Mamba2Config.from_dict, {**fields, "pad_vocab_size_multiple": 1}, where)


def _transformers_fields(config: Mamba2Config) -> dict[str, Any]:
    fields = {theirs: getattr(config, ours) for ours, theirs in _TRANSFORMERS_FIELDS.items()}
    sizes = {"vocab_size": config.padded_vocab_size, "num_heads": config.nheads}
    no_special_tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # by default id 2 ends a text
    return {**fields, **sizes, **no_special_tokens}


_TRANSFORMERS_FIELDS = {
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


def _config_from_official(found: dict[str, Any], path: Path) -> Mamba2Config:
    needed = {"rms_norm": True, "d_intermediate": 0, "attn_layer_idx": []}
    for name, value in needed.items():
        if found.get(name, value) != value:
            raise CheckpointError(f"{path}: {name} must be {value!r}, a pure Mamba-2; found {found[name]!r}")
    _require_fields(found, ("d_model", "n_layer", "vocab_size"), path)
    if not isinstance(found["ssm_cfg"], dict):
        raise CheckpointError(f"{path}: ssm_cfg must be an object; found {found['ssm_cfg']!r}")
    mixer = dict(found["ssm_cfg"])
    if (layer := mixer.pop("layer", "Mamba1")) != "Mamba2":
        raise CheckpointError(f"{path}: ssm_cfg.layer must be 'Mamba2'; found {layer!r}")
    mixer = {
        "d_state": 128,
        "headdim": 64,
        "chunk_size": 256,
        **mixer,
    }  # the official defaults differ from ours
    model = {
        "d_model": found["d_model"],
        "n_layer": found["n_layer"],
        "vocab_size": found["vocab_size"],
        "pad_vocab_size_multiple": found.get("pad_vocab_size_multiple", 8),
        "tie_embeddings": found.get("tie_embeddings", True),
    }
    return _checked(Mamba2Config.from_dict, {**model, **mixer}, path)


def _official_config(config: Mamba2Config) -> dict[str, Any]:
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


def _jsonable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Infinity in the way of transformers, {"__float__": "Infinity"}: a bare Infinity is no JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return {"__float__": "Infinity"} if value == math.inf else value

    return {name: plain(value) for name, value in fields.items()}


# Files


def _write(folder: Path, config: dict[str, Any], weights: Mapping[str, Tensor], tokenizer: Tokenizer | None) -> None:
    with replacing(folder / WEIGHTS_NAME) as temporary:
        safetensors.torch.save_file(dict(weights), temporary, metadata={"format": "pt"})
        write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")  # the new weights are whole: now both
    if tokenizer is not None:
        tokenizers.save(tokenizer, folder)


def _weights(model: Mamba2LM) -> dict[str, Tensor]:
    """The weights on the CPU, a tied head left out."""
    require_whole_weights(model, "be saved or converted")
    tied = "lm_head.weight" if model.config.tie_embeddings else None
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name != tied}


def _locate(source: str | Path) -> Path:
    """The folder of a model: in the box, on this disk, or fetched from the Hub."""
    if isinstance(source, str) and source in models_in_the_box():
        return BOX / source
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder if (folder / CONFIG_NAME).exists() else _newest_of_a_run(folder)
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return _fetch(source)
    box = ", ".join(models_in_the_box()) or "none"
    raise FileNotFoundError(f"no model at {str(source)!r}: it is no folder, and the models in the box are: {box}")


def _newest_of_a_run(folder: Path) -> Path:
    """The newest checkpoint, if a training has left some in the folder; else the folder itself."""
    from mamba2_lab import run_folder  # which stands on this module

    return [folder, *run_folder.checkpoints(folder)][-1]


def models_in_the_box() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in BOX.glob(f"*/{CONFIG_NAME}"))


def _fetch(hub_id: str) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(hub_id, ignore_patterns=list(PICKLES)))
    except Exception as error:  # the Hub's client raises many kinds: offline, not found, gated
        raise FileNotFoundError(f"no model at {hub_id!r}: no such folder, and the Hub answered: {error}") from error


def _weights_path(folder: Path) -> Path:
    """The weights file, or the index of a sharded one."""
    for name in (WEIGHTS_NAME, f"{WEIGHTS_NAME}.index.json"):
        if (folder / name).exists():
            return folder / name
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]}: expected {WEIGHTS_NAME}; found a pickle file, which is never loaded here: "
            "unpickling runs whatever code the file holds. Convert it to safetensors where you trust it."
        )
    raise FileNotFoundError(f"{folder} has no weights: expected {WEIGHTS_NAME}")


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no model: expected a file {CONFIG_NAME}")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: if it is not there, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_hook=_special_float)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected JSON; found {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a JSON object; found {type(found).__name__}")
    return found


def _special_float(item: dict[str, Any]) -> Any:
    """transformers writes infinity as {"__float__": "Infinity"}."""
    return float(item["__float__"]) if item.keys() == {"__float__"} else item


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of the files that an index names.

    Raises:
        CheckpointError: if a file is damaged or no safetensors file, or a tensor is not floating point.
    """
    if path.suffix == ".json":
        shard_of = _read_config(path).get("weight_map")
        if not isinstance(shard_of, dict):
            raise CheckpointError(f"{path}: weight_map: expected the file of each tensor; found {shard_of!r}")
        shards = sorted(set(shard_of.values()))
        parts = [read_tensors(path.parent / shard) for shard in shards]
        return {name: tensor for part in parts for name, tensor in part.items()}
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():
                if (dtype := file.get_slice(name).get_dtype()) not in FLOAT_DTYPES:
                    expected = ", ".join(FLOAT_DTYPES)
                    raise CheckpointError(f"{path}: {name}: expected a dtype of {expected}; found {dtype}")
            return {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a whole safetensors file; found one that cannot be read: {error}"
        ) from error


def _drop_tied_head(weights: dict[str, Tensor], where: str) -> None:
    """Other layouts may store a tied head as well. It must then be what it is tied to."""
    head = weights.pop("lm_head.weight", None)
    embedding = weights.get("embedding.weight")
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{where}: lm_head.weight: expected the embedding's weights, since the config ties them; found others"
        )


def _check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    for name, shape in expected.items():
        if name not in weights:
            raise CheckpointError(f"{where}: {name}: expected a tensor of shape {shape}; found none")
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(f"{where}: {name}: expected shape {shape}; found {tuple(weights[name].shape)}")
    for name in weights:
        if name not in expected:
            raise CheckpointError(f"{where}: {name}: expected no such tensor for this config; found one")
