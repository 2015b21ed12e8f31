"""What every layout does with the fields of a config.json from a stranger, and with those that it cannot write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.checks import require
from mamba2_lab.config import StackFields, config_of, longest_chunk
from mamba2_lab.machine.untrusted import CheckpointError

LARGEST_CHUNK = 4096  # tokens: a config must not make the memory for a prompt grow with its square


def require_fields(found: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """A field that is missing must not become a default: the model would run, and compute something else."""
    for name in names:
        if name not in found:
            raise CheckpointError(f"{where}: expected a field {name!r}; found none")


def as_config(fields: dict[str, Any], where: str) -> StackFields:
    """A config of these fields of ours, or the CheckpointError that says what is wrong with them."""
    try:
        config = config_of(None, fields)
        chunk = longest_chunk(config)
        require(chunk <= LARGEST_CHUNK, "chunk_size", f"at most {LARGEST_CHUNK}", chunk)
    except (TypeError, ValueError, RecursionError) as error:  # RecursionError: a value nested too deep to be shown
        raise CheckpointError(f"{where}: {error}") from error
    return config


def require_unset(fields: Mapping[str, Any], values: Mapping[str, Any], whose: str) -> None:
    """ValueError unless the fields that another layout has no place for have the values that all of its models have."""
    for name, value in values.items():
        if fields[name] != value:
            raise ValueError(f"{whose} has no {name}; it must be {value} to convert, got {fields[name]}")


def as_json(value: Any) -> Any:
    """What stands for the value of a field in JSON. Infinity goes in the way of transformers, {"__float__":
    "Infinity"}: a bare Infinity is no JSON."""
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return {"__float__": "Infinity"} if value == math.inf else value


def without_padding(config: StackFields, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, but for rows that only pad the vocabulary: we never choose such a token, and others would."""
    padded = ("embedding.weight", "lm_head.weight")
    return {name: tensor[: config.vocab_size] if name in padded else tensor for name, tensor in weights.items()}
