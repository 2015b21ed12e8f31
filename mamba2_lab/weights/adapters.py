"""The folder of an adapter, in peft's format: what is to be added to the matrices of a model, and of which model.

    adapter_config.json         which model it changes, its rank r, and alpha
    adapter_model.safetensors   of each matrix W (out,in) that it changes: A (r,in) and B (out,r)

The model it makes has W + (alpha / r) B A in the place of W (LoRA: Hu et al. 2021, arXiv:2106.09685). Reading one needs
no peft. What else such a config may ask for is refused: the model would run, and compute something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from mamba2_lab.machine.files import replacing, write_text
from mamba2_lab.machine.untrusted import CheckpointError, read_json, shown
from mamba2_lab.weights.files import Shape, files_at, tensors_in
from mamba2_lab.weights.places import CONFIG_NAME, locate
from mamba2_lab.weights.stored import require_floats

ADAPTER_CONFIG_NAME = "adapter_config.json"
ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # peft's name for the model inside of its own
_FACTOR = re.compile(r"(.+)\.lora_[AB]\.weight")
_PLAIN: dict[str, Any] = {  # what a config must say, if it says it, for W + (alpha / r) B A to be the whole of it
    "bias": "none",
    "fan_in_fan_out": False,
    **dict.fromkeys(("use_dora", "use_rslora", "use_qalora", "use_bdlora", "lora_bias"), False),
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), {}),
    **dict.fromkeys(("modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices"), None),
}


class AdapterFields(NamedTuple):
    """What adapter_config.json says."""

    base: str  # the model that it changes, by whatever `from_pretrained` takes
    rank: int
    scale: float


def is_adapter(folder: Path) -> bool:
    """Whether an adapter lies there, and no model."""
    return (folder / ADAPTER_CONFIG_NAME).exists() and not (folder / CONFIG_NAME).exists()


def read_fields(folder: Path) -> AdapterFields:
    """What kind of adapter it is.

    Raises:
        CheckpointError: if the config is damaged, of another kind than LoRA, or names no model.
    """
    path = folder / ADAPTER_CONFIG_NAME
    found = read_json(path)
    for name, plain in {"peft_type": "LORA", **_PLAIN}.items():
        if found.get(name, plain) != plain and (found[name] or plain):  # null, {} and [] say the same as false
            raise CheckpointError(f"{path}: {name}: expected {plain!r}; found {shown(found[name])}")
    base, rank, alpha = found.get("base_model_name_or_path"), found.get("r"), found.get("lora_alpha")
    if not isinstance(base, str):
        raise CheckpointError(f"{path}: base_model_name_or_path: expected the model it changes; found {shown(base)}")
    if type(rank) is not int or rank < 1:
        raise CheckpointError(f"{path}: r: expected a rank of at least 1; found {shown(rank)}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e9:
        raise CheckpointError(f"{path}: lora_alpha: expected a number; found {shown(alpha)}")
    return AdapterFields(base, rank, alpha / rank)


def base_of(folder: Path) -> str:
    """The model that an adapter changes, as `from_pretrained` takes it.

    Raises:
        CheckpointError: if there is none, or it is an adapter itself.
    """
    base, path = read_fields(folder).base, folder / ADAPTER_CONFIG_NAME
    try:
        found = locate(base).folder
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: base_model_name_or_path: expected a model; found {error}") from error
    if is_adapter(found):
        raise CheckpointError(f"{path}: base_model_name_or_path: expected a whole model; found the adapter {base!r}")
    return base


def read_factors(folder: Path, expected: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The matrices A and B of an adapter, by the names they have in a model: "layers.0.mixer.in_proj.lora_A.weight".

    Args:
        expected: shapes of all of them.

    Raises:
        CheckpointError: if the file is damaged, or holds others.
    """
    path = folder / ADAPTER_WEIGHTS_NAME
    files = files_at(path)
    found = {name: shape for file in files for name, shape in file.shapes.items()}
    wanted = {_PREFIX + name: shape for name, shape in expected.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            tensors = (f"one of shape {shapes[name]}" if name in shapes else "none" for shapes in (wanted, found))
            raise CheckpointError(f"{path}: {name}: expected {next(tensors)}; found {next(tensors)}")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors_in(files)}


@torch.no_grad()
def merge(folder: Path, model: nn.Module) -> None:
    """Add an adapter to the matrices of its model: in float32, then rounded to the model's dtype.

    Raises:
        CheckpointError: if it is damaged, or of a model with other matrices; the model is as it was.
        ValueError: if the matrices of the model are stored in 8 or 4 bits.
    """
    require_floats(model, "have an adapter added")
    rank, scale = read_fields(folder)[1:]
    matrices = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    changed = sorted({match[1] for name in _names(folder) if (match := _FACTOR.fullmatch(name))} & matrices.keys())
    shapes: dict[str, Shape] = {}
    for name in changed:
        out_features, in_features = matrices[name].weight.shape
        shapes |= {f"{name}.lora_A.weight": (rank, in_features), f"{name}.lora_B.weight": (out_features, rank)}
    factors = read_factors(folder, shapes)
    for name in changed:
        weight = matrices[name].weight
        A, B = (factors[f"{name}.lora_{which}.weight"].to(weight.device, torch.float32) for which in "AB")
        weight.copy_(weight + (B @ A) * scale)


def _names(folder: Path) -> list[str]:
    (file,) = files_at(folder / ADAPTER_WEIGHTS_NAME)
    return [name.removeprefix(_PREFIX) for name in file.shapes]


def save_adapter(folder: Path, config: Mapping[str, Any], factors: Mapping[str, Tensor]) -> None:
    """Write both files, each whole; arguments as peft and `read_factors` have them."""
    with replacing(folder / ADAPTER_WEIGHTS_NAME) as temporary:
        tensors = {_PREFIX + name: tensor for name, tensor in factors.items()}
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
        write_text(folder / ADAPTER_CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True) + "\n")
