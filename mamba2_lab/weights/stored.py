"""Models whose matrices are stored in 8 or 4 bits: which these are, how they come to be so, what they cannot do.

What a stored matrix is stands in layers/stored.py, how one is rounded in layers/rounded.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mamba2_lab.checks import require
from mamba2_lab.layers import Projection
from mamba2_lab.layers.rounded import in_4_bits, in_8_bits
from mamba2_lab.layers.stored import GROUP, Stored, StoredEmbedding, StoredMatrix, StoredProjection, empty
from mamba2_lab.model import LanguageModel

ROUNDED: Mapping[str, Callable[[Tensor], Stored]] = {"int8": in_8_bits, "int4": in_4_bits}
PRECISIONS: Mapping[str, dict[str, Any]] = {
    "float32": {"dtype": torch.float32},
    "bfloat16": {"dtype": torch.bfloat16},
    **{name: {"weights": name} for name in ROUNDED},
}  # what `from_pretrained` is to be told, by the name that a user chooses
DESCRIBED = {
    "int8": "int8: each row by a scale of its own, symmetric, to the nearest of -127..127",
    "int4": f"int4: each {GROUP} neighbours of a row by a scale and a zero of their own, to the nearest of 16 values; "
    "of several scales and zeros those of the least squared error, without calibration data",
}
NOT_STORED = (
    "the embedding is stored like the head, whose weights it may share, and looked up row by row; norms, convolutions, "
    "A_log, D, biases and the matrix that makes Mamba-1's step sizes are floats"
)


def require_stored(name: str, weights: object) -> None:
    """ValueError unless it is a way to store matrices, or None."""
    require(weights in (None, *ROUNDED), name, f"one of {', '.join(ROUNDED)}", weights, in_code=" or None")


def storage_of(model: nn.Module) -> str | None:
    """How the matrices of a model are stored: "int8", "int4", or None for floats."""
    return storage_in(model.state_dict())


def precision_of(model: LanguageModel) -> str:
    """How its weights are stored, by the name that a user would choose: one of `PRECISIONS`, or its dtype."""
    return storage_of(model) or str(model.dtype).removeprefix("torch.")


def storage_in(tensors: Mapping[str, Tensor]) -> str | None:
    """The same of its tensors."""
    kinds = {torch.int8: "int8", torch.uint8: "int4"}
    return next((kinds[tensor.dtype] for name, tensor in tensors.items() if is_of_numbers(name)), None)


def is_of_numbers(name: str) -> bool:
    """Whether a tensor of this name holds the whole numbers of a stored matrix."""
    return name.endswith(".numbers")


def description(storage: str) -> str:
    """What is to be said of matrices that are stored so."""
    return f"{DESCRIBED[storage]}; {NOT_STORED}"


def require_floats(model: nn.Module, to: str) -> None:
    """ValueError if matrices of the model are stored in 8 or 4 bits; `to` says what they cannot do so."""
    if (storage := storage_of(model)) is not None:
        raise ValueError(f"model must have weights in floats to {to}; got a model whose weights are {storage}")


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all weights as they are stored, tied ones counted once."""
    return sum(parameter.nbytes for parameter in model.parameters())


def number_of_weights(model: nn.Module) -> int:
    """How many weights are meant, tied ones counted once."""
    stored = {m.numbers: m.numbers.shape[0] * m.columns for m in model.modules() if isinstance(m, StoredMatrix)}
    scales = {m.scales for m in model.modules() if isinstance(m, StoredMatrix)}
    return sum(stored.get(p, p.numel()) for p in model.parameters() if p not in scales)


def lay_out(model: nn.Module, weights: str) -> set[str]:
    """Put stored matrices, of which no number is known yet, in the place of a model's own: the names of these weights.

    The model is one without numbers, on the device "meta".
    """
    names = set()
    for name, module in list(model.named_modules()):
        if is_stored(module):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, laid_out(module, weights))
            names.add(f"{name}.weight")
    return names


def is_stored(module: nn.Module) -> bool:
    """Whether it has a matrix to be stored. That of step sizes, a kind of projection, sets time scales and stays."""
    return type(module) in (Projection, nn.Embedding)


def laid_out(module: nn.Module, weights: str) -> StoredMatrix:
    """The place for a stored matrix of the shape of this module's."""
    rows, columns = module.weight.shape  # type: ignore[misc]
    with torch.device("meta"):
        stored = empty(weights, rows, columns)
    if isinstance(module, nn.Embedding):
        return StoredEmbedding(stored, columns)
    return StoredProjection(stored, columns, module.bias)  # type: ignore[arg-type]


def rounded(
    tensors: Iterable[tuple[str, Tensor]], weights: str, names: Collection[str]
) -> Iterator[tuple[str, Tensor]]:
    """The same tensors, one after another, but for the matrices of these names their numbers and scales."""
    for name, tensor in tensors:
        if name in names:
            stored = ROUNDED[weights](tensor)
            for part, value in stored._asdict().items():
                yield f"{name.removesuffix('weight')}{part}", value
        else:
            yield name, tensor
