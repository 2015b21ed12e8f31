"""Our layout: the fields of our configs, the names that the modules have. It holds every variant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.config import MIXERS, Mamba2Config, MambaConfig, StackFields
from mamba2_lab.machine.untrusted import CheckpointError, shown
from mamba2_lab.weights.layouts.fields import as_config, as_json, require_fields
from mamba2_lab.weights.stored import ROUNDED, storage_in

MODEL_TYPE = "mamba2_lab"
STORAGE = "weights"  # the field that says how matrices are stored, "int8" or "int4", if they are not floats


def recognises(found: Mapping[str, Any]) -> bool:
    """By its model_type."""
    return found.get("model_type") == MODEL_TYPE


def read_config(found: Mapping[str, Any], where: str) -> StackFields:
    """All fields must be there, those of mixers too, and no others."""
    fields = {name: value for name, value in found.items() if name not in ("model_type", STORAGE)}
    _require_all(fields, MambaConfig if "mixers" in fields else Mamba2Config, where)
    for name in MIXERS:
        if isinstance(of_mixer := fields.get(name), dict):
            _require_all({"d_model": None, **of_mixer}, MIXERS[name], f"{where}: {name}")
    return as_config(fields, where)


def _require_all(fields: Mapping[str, Any], kind: type[Any], where: str) -> None:
    require_fields(fields, [field.name for field in dataclasses.fields(kind)], where)


def read_storage(found: Mapping[str, Any], where: str) -> str | None:
    """How matrices are stored: "int8", "int4", or None for floats."""
    storage = found.get(STORAGE) if recognises(found) else None
    if storage is not None and (not isinstance(storage, str) or storage not in ROUNDED):
        raise CheckpointError(f"{where}: {STORAGE}: expected one of {', '.join(ROUNDED)}; found {shown(storage)}")
    return storage


def our_name(name: str) -> str:
    """The same."""
    return name


def written(config: StackFields, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config with its type and how matrices are stored, and the weights as they are."""
    storage = storage_in(weights)
    stored = {} if storage is None else {STORAGE: storage}
    return {"model_type": MODEL_TYPE, **stored, **as_json(config.to_dict())}, dict(weights)
