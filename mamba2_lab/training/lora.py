"""LoRA: small matrices learned in the place of large ones, which stay as they are until they are added to them.

Of each matrix W (out,in) of the layers, B (out,r) and A (r,in) are learned, and the model computes with

    W + scale B A,      scale = alpha / r = 2

(Hu et al. 2021, "LoRA: Low-rank adaptation of large language models", arXiv:2106.09685). A is drawn, B begins at zero:
before the first step nothing is changed. peft makes and computes them; the embedding, the head, the convolutions and
what sets time scales (A_log, dt_bias, D) are left out. peft refuses the out_proj of a Mamba of transformers, whose
kernels read its weights and pass by its adapter: no mixer here does that.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mamba2_lab.machine.seeds import seeded
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.weights.adapters import read_factors, save_adapter

ALPHA_OF_RANK = 2  # alpha grows with the rank, so that the scale, and with it the fitting learning rate, stays the same
_OURS = "default"  # peft's name for the only adapter


@contextlib.contextmanager
def adapters(model: MambaLM, rank: int, seed: int, origin: str | None) -> Iterator[None]:
    """Within, the model has adapters, and they alone are trained. Afterwards they are added to its matrices.

    Args:
        rank: r; 0 changes nothing.
        seed: A is drawn from it.
        origin: what the model was loaded from, for those who find the adapters.

    Raises:
        ModuleNotFoundError: if peft is not installed.
    """
    if rank == 0:
        yield
        return
    peft = _peft()
    config = peft.LoraConfig(
        r=rank, lora_alpha=ALPHA_OF_RANK * rank, target_modules=_targets(model), base_model_name_or_path=origin
    )
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        with seeded(seed):
            peft.inject_adapter_in_model(config, model, _OURS)
        yield
    finally:
        for name, module in list(model.named_modules()):
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.merge()
                model.set_submodule(name, module.get_base_layer())
        vars(model).pop("peft_config", None)
        for parameter, requires_grad in trained.items():
            parameter.requires_grad_(requires_grad)


def has_adapters(model: nn.Module) -> bool:
    """Whether the model is inside of `adapters`."""
    return "peft_config" in vars(model)


def digest_of_what_stays(model: MambaLM) -> str | None:
    """SHA-256 of the weights that a model with adapters keeps; None of one without, which keeps none."""
    if not has_adapters(model):
        return None
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
            digest.update(parameter.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(model: MambaLM, folder: Path) -> None:
    """Write the adapters of the model into a folder, in peft's format."""
    config = {**vars(model)["peft_config"][_OURS].to_dict(), "inference_mode": True}  # as peft writes it
    factors = {_in_files(name): weight.detach().cpu().contiguous() for name, weight in _factors(model).items()}
    save_adapter(folder, {name: sorted(v) if isinstance(v, set) else v for name, v in config.items()}, factors)


def read(folder: Path, model: MambaLM) -> dict[str, Tensor]:
    """Adapters of a folder, by the names they have in a model with such adapters.

    Raises:
        CheckpointError: if they are damaged, or not for this model.
    """
    factors = _factors(model)
    found = read_factors(folder, {_in_files(name): tuple(weight.shape) for name, weight in factors.items()})
    return {name: found[_in_files(name)].to(weight.dtype) for name, weight in factors.items()}


def _targets(model: MambaLM) -> list[str]:
    """The matrices of the layers, by the last part of their names: in_proj, x_proj, dt_proj, out_proj, fc1, fc2."""
    named = model.layers.named_modules()
    return sorted({name.rpartition(".")[2] for name, module in named if isinstance(module, nn.Linear)})


def _factors(model: MambaLM) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if f".{_OURS}." in name}


def _in_files(name: str) -> str:
    return name.replace(f".{_OURS}.", ".")


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ModuleNotFoundError('LoRA needs peft: pip install "mamba2-lab[lab]"', name="peft") from error
    return peft
