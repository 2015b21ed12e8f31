"""Weights in 8 bits, with torchao: a quarter of the bytes to keep, and to read for each token.

torchao is not installed with this package: where it is, transformers imports it, and it logs what it cannot load into
every notebook that does. Version 0.18.0 works with torch 2.13.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from mamba2_lab.model import LanguageModel

Model = TypeVar("Model", bound=LanguageModel)


def int8_weights(model: Model) -> Model:
    """A copy of the model whose matrices are stored as int8, with a scale for each row; it computes in the old dtype.

    The projections and the head are stored so. The embedding is looked up, not multiplied, and stays as it is: a head
    that was tied to it becomes a matrix of its own. Such a copy can read and write text, and not be trained or saved.

    Raises:
        ImportError: if torchao is not installed.
    """
    with _errors_only("torchao", "torch.utils._pytree"):
        try:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_
        except ImportError as error:
            raise ImportError(f"weights in 8 bits need torchao: pip install torchao ({error})") from error
        with contextlib.suppress(ImportError):  # transformers will import this part, and nobody would keep it quiet
            importlib.import_module("torchao.prototype.mx_formats")
    smaller = copy.deepcopy(model)
    quantize_(smaller, Int8WeightOnlyConfig())
    return smaller


@contextlib.contextmanager
def _errors_only(*names: str) -> Iterator[None]:
    """When torchao is imported it logs which kernels for other machines it cannot load, and what torch will change."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def require_whole_weights(model: nn.Module, to: str) -> None:
    """ValueError if weights of the model are stored in 8 bits; `to` says what they cannot do so."""
    if any(hasattr(parameter, "__tensor_flatten__") for parameter in model.parameters()):
        raise ValueError(
            f"model must have weights of whole precision to {to}; got weights in 8 bits, from int8_weights"
        )


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all weights as they are stored, tied ones counted once; of int8 weights their scales too."""
    size = 0
    for parameter in model.parameters():
        inside = getattr(parameter, "__tensor_flatten__", None)
        parts = [parameter] if inside is None else [getattr(parameter, name) for name in inside()[0]]
        size += sum(part.nbytes for part in parts)
    return size
