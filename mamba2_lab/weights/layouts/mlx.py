"""The layout that mlx-lm loads (its models/mamba.py and models/mamba2.py): that of transformers, and what it asks for
beside it. Such a folder is read as one of transformers. What mlx-lm would compute otherwise is not written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mamba2_lab.config import StackFields
from mamba2_lab.weights.layouts import transformers
from mamba2_lab.weights.layouts.fields import require_unset


def written(config: StackFields, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What config.json and model.safetensors hold.

    Infinity stands in config.json as Python writes it: older versions of mlx-lm do not know transformers' way.

    Raises:
        ValueError: for a variant that transformers or mlx-lm has no place for.
    """
    fields, tensors = transformers.written(config, weights)
    mixer: Any
    [(name, mixer)] = config.mixer_fields_by_name.items()
    require_unset({"norm_eps": config.norm_eps}, {"norm_eps": 1e-5}, "mlx-lm")  # it is fixed before each mixer
    if mixer.d_conv < 2:
        raise ValueError(
            f"mlx-lm has no convolution of one token; d_conv must be at least 2 to convert, got {mixer.d_conv}"
        )
    if name == "mamba2":
        require_unset({"ngroups": mixer.ngroups}, {"ngroups": 1}, "mlx-lm's norm")  # it takes all channels together
        asked_for = {"intermediate_size": mixer.d_inner, "time_step_rank": "auto"}  # and then not used
        fields |= {"time_step_limit": list(mixer.dt_limit), **asked_for}
    return {**fields, "rms_norm": True}, tensors
