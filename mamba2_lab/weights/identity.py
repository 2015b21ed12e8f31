"""Which model it is, told by its config and some of its weights: cheap, also for billions of them."""

from __future__ import annotations

import hashlib
import json

import torch

from mamba2_lab.model import LanguageModel

SAMPLES = 1000  # of each tensor, evenly spaced: training changes every number, and a change of a few is not looked for


def digest_of_model(model: LanguageModel) -> str:
    """SHA-256, in hexadecimal, of the config and of every tensor's name, dtype, shape and a thousand of its numbers.

    The same on every device. Another dtype is another model: it computes other numbers.
    """
    digest = hashlib.sha256(json.dumps(model.config.to_dict()).encode())
    for name, tensor in model.state_dict().items():
        numbers = tensor.detach().flatten()
        sample = numbers[:: max(1, numbers.numel() // SAMPLES)].cpu().to(torch.float64)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(sample.numpy().astype("<f8").tobytes())
    return digest.hexdigest()
