"""Weights in and out: safetensors only, three layouts.

    ours          config.json of `Mamba2Config` fields, model.safetensors
    transformers  what `Mamba2ForCausalLM.save_pretrained` writes
    official      config.json of state-spaces/mamba's `MambaConfig`, weights under its names

The layouts hold the same tensors under different names, so conversions only rename. Pickle files (.bin, .pt) are
refused: unpickling runs whatever code the file holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mamba2_lab import text
from mamba2_lab.checks import require
from mamba2_lab.config import Mamba2Config
from mamba2_lab.machine.files import replacing, write_text
from mamba2_lab.machine.untrusted import CheckpointError as CheckpointError
from mamba2_lab.machine.untrusted import read_json as read_json
from mamba2_lab.machine.untrusted import require_own_file, shown
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.text import Tokenizer
from mamba2_lab.weights.int8 import require_whole_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
MODEL_TYPE = "mamba2_lab"
BOX = Path(__file__).parent.parent / "pretrained"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
LARGEST_HEADER = 4_000_000  # bytes of a safetensors file that say what it holds: of 2.7b they are 60,000
MOST_FILES = 1000  # that an index may name
LARGEST_CHUNK = 4096  # tokens: a config must not make the memory for a prompt grow with its square
FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

Shape = tuple[int, ...]
T = TypeVar("T")


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

    Nothing is built, and no tensor read, before names and shapes in the files agree with the config. Only files of the
    folder are opened; what counts as such is said in `mamba2_lab.untrusted`.

    Raises:
        FileNotFoundError: if there is nothing at the source.
        CheckpointError: naming file, key, expected and found, if the file is damaged or does not fit; and for pickle.
    """
    place = _locate(source)
    config_path, path = place.folder / CONFIG_NAME, _weights_path(place)
    config, rename = _understand(_read_config(config_path), config_path)
    shapes = {name: shape for file in _files(path) for name, shape in file.shapes.items()}
    _check_shapes(config, _rename_all(shapes, rename, str(path)), str(path))
    weights = _rename_all(read_tensors(path), rename, str(path))
    return _build(config, weights, str(path), dtype).to(device)


def load_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer that belongs to a model: the same sources as `load`, and the errors of `tokenizer.load`."""
    return text.load(_locate(source).folder)


def _build(config: Mamba2Config, weights: dict[str, Tensor], where: str, dtype: torch.dtype) -> Mamba2LM:
    """A model from weights under our names and of its shapes; `where` names their origin in errors."""
    if config.tie_embeddings:
        _drop_tied_head(weights, where)
    model = Mamba2LM(config, device="meta")
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
    weights = _rename_all(weights, _from_transformers_name, where)
    _check_shapes(config, {name: tuple(tensor.shape) for name, tensor in weights.items()}, where)
    model = _build(config, weights, where, dtype)
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


def _rename_all(found: Mapping[str, T], rename: Callable[[str], str], where: str) -> dict[str, T]:
    renamed: dict[str, T] = {}
    for name, value in found.items():
        if rename(name) in renamed:
            raise CheckpointError(f"{where}: {name}: expected one tensor {rename(name)!r}; found it under two names")
        renamed[rename(name)] = value
    return renamed


# Configurations


def _understand(found: dict[str, Any], path: Path) -> tuple[Mamba2Config, Callable[[str], str]]:
    """Which layout a config.json is of: our config, and how to rename its weights to ours."""
    if found.get("model_type") == MODEL_TYPE:
        fields = {name: value for name, value in found.items() if name != "model_type"}
        _require_fields(fields, [field.name for field in dataclasses.fields(Mamba2Config)], path)
        return _checked(fields, path), lambda name: name
    if found.get("model_type") == "mamba2":
        return _config_from_transformers(found, str(path)), _from_transformers_name
    if "ssm_cfg" in found:
        return _config_from_official(found, path), _from_official_name
    raise CheckpointError(
        f"{path}: expected a Mamba-2 config (model_type {MODEL_TYPE!r} or 'mamba2', or the official ssm_cfg); "
        f"found model_type {shown(found.get('model_type'))}"
    )


def _require_fields(found: Mapping[str, Any], names: Iterable[str], where: Path | str) -> None:
    """A field that is missing must not become a default: the model would run, and compute something else."""
    for name in names:
        if name not in found:
            raise CheckpointError(f"{where}: expected a field {name!r}; found none")


def _checked(fields: dict[str, Any], path: Path | str) -> Mamba2Config:
    try:
        config = Mamba2Config.from_dict(fields)
        require(config.chunk_size <= LARGEST_CHUNK, "chunk_size", f"at most {LARGEST_CHUNK}", config.chunk_size)
    except (TypeError, ValueError, RecursionError) as error:  # RecursionError: a value nested too deep to be shown
        raise CheckpointError(f"{path}: {error}") from error
    return config


def _config_from_transformers(found: Mapping[str, Any], where: str) -> Mamba2Config:
    if found.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError(f"{where}: hidden_act must be 'silu'; found {shown(found['hidden_act'])}")
    _require_fields(found, _TRANSFORMERS_FIELDS.values(), where)
    fields = {ours: found[theirs] for ours, theirs in _TRANSFORMERS_FIELDS.items()}
    return _checked({**fields, "pad_vocab_size_multiple": 1}, where)


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
            raise CheckpointError(f"{path}: {name} must be {value!r}, a pure Mamba-2; found {shown(found[name])}")
    _require_fields(found, ("d_model", "n_layer", "vocab_size"), path)
    if not isinstance(found["ssm_cfg"], dict):
        raise CheckpointError(f"{path}: ssm_cfg must be an object; found {shown(found['ssm_cfg'])}")
    mixer = dict(found["ssm_cfg"])
    if (layer := mixer.pop("layer", "Mamba1")) != "Mamba2":
        raise CheckpointError(f"{path}: ssm_cfg.layer must be 'Mamba2'; found {shown(layer)}")
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
    return _checked({**model, **mixer}, path)


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
        text.save(tokenizer, folder)


def _weights(model: Mamba2LM) -> dict[str, Tensor]:
    """The weights on the CPU, a tied head left out."""
    require_whole_weights(model, "be saved or converted")
    tied = "lm_head.weight" if model.config.tie_embeddings else None
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name != tied}


class _Place(NamedTuple):
    """Where a model lies, and the id that it was fetched by."""

    folder: Path
    hub_id: str | None = None


def _locate(source: str | Path) -> _Place:
    """In the box, on this disk, or fetched from the Hub."""
    if isinstance(source, str) and source in models_in_the_box():
        return _Place(BOX / source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _Place(folder if (folder / CONFIG_NAME).exists() else _newest_of_a_run(folder))
    if isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return _Place(_fetch(source), source)
    box = ", ".join(models_in_the_box()) or "none"
    raise FileNotFoundError(f"no model at {str(source)!r}: it is no folder, and the models in the box are: {box}")


def _newest_of_a_run(folder: Path) -> Path:
    """The newest checkpoint, if a training has left some in the folder; else the folder itself."""
    from mamba2_lab.training import run_folder

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


def _weights_path(place: _Place) -> Path:
    """The weights file, or the index of a sharded one."""
    folder = place.folder
    for name in (WEIGHTS_NAME, f"{WEIGHTS_NAME}.index.json"):
        if (folder / name).exists():
            return folder / name
    names = [path.name for path in folder.iterdir()] if place.hub_id is None else _names_on_the_hub(place.hub_id)
    for name in sorted(names):
        if any(fnmatch.fnmatch(name, pattern) for pattern in PICKLES):
            raise CheckpointError(
                f"{place.hub_id or folder}/{name}: expected {WEIGHTS_NAME}; found a pickle file, which is never loaded "
                "here: unpickling runs whatever code the file holds. Convert it to safetensors where you trust it."
            )
    raise FileNotFoundError(f"{place.hub_id or folder} has no weights: expected {WEIGHTS_NAME}")


def _names_on_the_hub(hub_id: str) -> list[str]:
    """The files of a repository, which `_fetch` has not all fetched."""
    import huggingface_hub

    try:
        return huggingface_hub.list_repo_files(hub_id)
    except Exception as error:
        raise FileNotFoundError(
            f"{hub_id} has no weights here: expected {WEIGHTS_NAME}; and what else it has, the Hub did not say: {error}"
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no model: expected a file {CONFIG_NAME}")
    return read_json(path)


class _File(NamedTuple):
    """What a safetensors file says that it holds."""

    path: Path
    shapes: dict[str, Shape]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of the files that an index names.

    Raises:
        CheckpointError: if a file is damaged or no safetensors file, or a tensor is not floating point.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        with _opened(file.path) as opened:
            tensors.update({name: opened.get_tensor(name) for name in file.shapes})
    return tensors


def _files(path: Path) -> list[_File]:
    """The safetensors files at `path`, a file or an index, with the shapes in their headers; no tensor is read."""
    if path.suffix != ".json":
        return [_File(path, _shapes_in(path))]
    file_of = _read_config(path).get("weight_map")
    if not isinstance(file_of, dict):
        raise CheckpointError(f"{path}: weight_map: expected the file of each tensor; found {shown(file_of)}")
    promised: dict[str, set[str]] = {}
    for name, file in file_of.items():
        if not _is_name_of_weights(file):
            raise CheckpointError(
                f"{path}: {name}: expected the name of a .safetensors file in this folder; found {shown(file)}"
            )
        promised.setdefault(file, set()).add(name)
    if len(promised) > MOST_FILES:
        raise CheckpointError(f"{path}: weight_map: expected at most {MOST_FILES} files; found {len(promised)}")
    files = [_File(path.parent / file, _shapes_in(path.parent / file)) for file in sorted(promised)]
    for file_path, shapes in files:
        for name in sorted(promised[file_path.name] ^ shapes.keys()):
            expected, found = ("none", "one") if name in shapes else ("a tensor", "none")
            raise CheckpointError(f"{file_path}: {name}: expected {expected}, as {path.name} says; found {found}")
    return files


def _is_name_of_weights(file: object) -> bool:
    """Whether it names a safetensors file beside the index: no path, by the rules of any system."""
    return isinstance(file, str) and file.endswith(".safetensors") and set(file).isdisjoint("/\\:")


def _shapes_in(path: Path) -> dict[str, Shape]:
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        for name, part in slices.items():
            if (dtype := part.get_dtype()) not in FLOAT_DTYPES:
                raise CheckpointError(f"{path}: {name}: expected a dtype of {', '.join(FLOAT_DTYPES)}; found {dtype}")
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file, or the error that says it is none."""
    require_own_file(path)
    try:
        _require_short_header(path)
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (safetensors.SafetensorError, OSError, MemoryError, RuntimeError) as error:  # the last: torch cannot map it
        raise CheckpointError(
            f"{path}: expected a whole safetensors file; found one that cannot be read: {error}"
        ) from error


def _require_short_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if LARGEST_HEADER < length < path.stat().st_size:  # if it is longer than the file, safetensors says so
        raise CheckpointError(f"{path}: expected a header of at most {LARGEST_HEADER:,} bytes; found {length:,}")


def _drop_tied_head(weights: dict[str, Tensor], where: str) -> None:
    """Other layouts may store a tied head as well. It must then be what it is tied to."""
    head = weights.pop("lm_head.weight", None)
    embedding = weights.get("embedding.weight")
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{where}: lm_head.weight: expected the embedding's weights, since the config ties them; found others"
        )


def _check_shapes(config: Mamba2Config, found: Mapping[str, Shape], where: str) -> None:
    """Whether these are the weights of this config, a tied head stored or not.

    The config may promise any number of layers: the first that is missing ends the comparison.
    """
    expected = {}
    for name, shape in _shapes_of(config):
        if name not in found:
            raise CheckpointError(f"{where}: {name}: expected a tensor of shape {shape}; found none")
        expected[name] = shape
    if config.tie_embeddings:
        expected["lm_head.weight"] = expected["embedding.weight"]
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(f"{where}: {name}: expected no such tensor for this config; found one")
        if shape != expected[name]:
            raise CheckpointError(f"{where}: {name}: expected shape {expected[name]}; found {shape}")


def _shapes_of(config: Mamba2Config) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of a model's weights, one after another, without building it."""
    d_model, d_inner, heads = config.d_model, config.d_inner, config.nheads
    d_in_proj = d_inner + config.conv_dim + heads
    block: dict[str, Shape] = {
        "norm.weight": (d_model,),
        "mixer.in_proj.weight": (d_in_proj, d_model),
        "mixer.conv1d.weight": (config.conv_dim, 1, config.d_conv),
        "mixer.dt_bias": (heads,),
        "mixer.A_log": (heads,),
        "mixer.D": (heads,),
        "mixer.norm.weight": (d_inner,),
        "mixer.out_proj.weight": (d_model, d_inner),
    }
    if config.bias:
        block |= {"mixer.in_proj.bias": (d_in_proj,), "mixer.out_proj.bias": (d_model,)}
    if config.conv_bias:
        block["mixer.conv1d.bias"] = (config.conv_dim,)
    if config.learnable_init_states:
        block["mixer.init_states"] = (heads, config.headdim, config.d_state)
    yield "embedding.weight", (config.padded_vocab_size, d_model)
    for i in range(config.n_layer):
        for name, shape in block.items():
            yield f"layers.{i}.{name}", shape
    yield "norm_f.weight", (d_model,)
    if not config.tie_embeddings:
        yield "lm_head.weight", (config.padded_vocab_size, d_model)
