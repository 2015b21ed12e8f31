"""Shapes of arguments, each axis a letter: "blhp" is (b,l,h,p)."""

from collections.abc import Mapping

import torch
from torch import Tensor

Shape = tuple[int, ...]


def check_shapes(
    given: dict[str, tuple[Tensor | None, str]], tokens: str, document_ids: Tensor | None = None
) -> dict[str, int]:
    """TypeError or ValueError unless all are floating point and their axes, a letter each, agree; the letters' sizes.

    given: each argument that is there, and the letters of its axes, by name. document_ids: has the axes of `tokens`.
    """
    sizes: dict[str, int] = {}  # of each letter, from where it stands first
    for name, (tensor, letters) in given.items():
        if tensor is not None:
            _check_shape(name, tensor, letters, sizes)
            if not tensor.is_floating_point():
                raise TypeError(f"{name} must be floating point; got {tensor.dtype}")
    if document_ids is not None:
        _check_shape("document_ids", document_ids, tokens, sizes)
        if document_ids.is_floating_point():
            raise TypeError(f"document_ids must be integers; got {document_ids.dtype}")
    return sizes


def _check_shape(name: str, tensor: Tensor, letters: str, sizes: dict[str, int]) -> None:
    shape = tuple(tensor.shape)
    if len(shape) == len(letters) and tuple(map(sizes.setdefault, letters, shape)) == shape:
        return
    known = all(letter in sizes for letter in letters)
    here = f", here {tuple(sizes[letter] for letter in letters)}" if known else ""
    raise ValueError(f"{name} must have shape ({','.join(letters)}){here}; got {shape}")


def check_input(u: Tensor, tokens: str, d_model: int) -> None:
    """ValueError unless the input has shape (b,l,d_model), where `tokens` is "b,l", or (b,d_model), where it is "b"."""
    if u.ndim != len(tokens.split(",")) + 1 or u.shape[-1] != d_model:
        raise ValueError(f"u must have shape ({tokens},{d_model}); got {tuple(u.shape)}")


def check_tensors(found: Mapping[str, Tensor], shapes: Mapping[str, Shape], device: torch.device, name: str) -> None:
    """ValueError, naming the tensor as a part of `name`, unless they have these shapes and lie on this device."""
    if found.keys() != shapes.keys():
        raise ValueError(f"{name} must hold {', '.join(shapes)}; got {', '.join(found)}")
    for part, tensor in found.items():
        if tensor.shape != shapes[part]:
            raise ValueError(f"{name}.{part} must have shape {shapes[part]}; got {tuple(tensor.shape)}")
        if tensor.device != device:
            raise ValueError(f"{name}.{part} must be on {device}, as the weights; got {tensor.device}")
