"""Every operation of the model and of its training is one that a Mac's graphics processor can compute.

Recorded on the CPU, judged by the list of kernels that comes with torch; not run on Apple hardware. `pytest -s` shows
the table of what was seen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mps.operations import Recorder, RefusedError, require_mps, table, verdict
from support.families import FAMILIES
from torch import Tensor

from mamba2_lab import Mamba2LM, stream
from mamba2_lab.config import PRESETS
from mamba2_lab.data import PackedTokens
from mamba2_lab.fast import chunks
from mamba2_lab.generation import loop
from mamba2_lab.health import whole_model
from mamba2_lab.layers.attention import attend
from mamba2_lab.layers.stored import multiply_stored
from mamba2_lab.model.network import one_token
from mamba2_lab.scan.trapezoid import read_in_ranks
from mamba2_lab.training import TrainingConfig, fit
from mamba2_lab.weights import with_weights
from mamba2_lab.weights.stored import ROUNDED

# The presets with their sizes cut down: the code that runs is the same.
SHRUNK = {"d_model": 32, "n_layer": 2, "vocab_size": 64, "d_state": 16, "headdim": 16, "chunk_size": 16}
STACK = {name: SHRUNK[name] for name in ("d_model", "n_layer", "vocab_size")}
MODELS: dict[str, dict[str, Any]] = {
    **{name: {**preset, **SHRUNK} for name, preset in PRESETS.items() if "mixers" not in preset},
    "groups": {**SHRUNK, "ngroups": 2},
    "dt_limit": {**SHRUNK, "dt_limit": (0.01, 0.5)},
    "lower dt_limit only": {**SHRUNK, "dt_limit": (0.01, math.inf)},
    "norm before gate": {**SHRUNK, "norm_before_gate": True, "ngroups": 2},
    "biases, untied": {**SHRUNK, "bias": True, "tie_embeddings": False},
    "no convolution bias": {**SHRUNK, "conv_bias": False},
    "learned initial states": {**SHRUNK, "learnable_init_states": True},
    **{name: {**STACK, **FAMILIES[name]} for name in ("mamba1", "falcon", "mamba3-siso", "mamba3-mimo")},
    "attention": {
        **STACK,
        "mixers": "attention",
        "attention": {"num_heads": 4, "num_heads_kv": 2, "rotary_emb_dim": 4, "d_conv": 4},
    },
}
PATHS: dict[str, whole_model.Path] = {
    "read at once": whole_model.read_at_once,
    "read in pieces": whole_model.read_in_pieces,
    "read with padding": whole_model.read_padded,
    "read packed documents": whole_model.read_packed,
    "gradients": whole_model.differentiate,
    "gradients, recomputed": whole_model.differentiate_recomputing,
}


def make_model(fields: dict[str, Any]) -> Mamba2LM:
    return Mamba2LM(**fields, seed=0)


def distinct(models: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once: cut down, most presets are alike."""
    return [fields for i, fields in enumerate(models.values()) if fields not in list(models.values())[:i]]


def some_ids(b: int = 3, l: int = 63) -> Tensor:
    return torch.randint(0, 64, (b, l))


def applies(path: str, fields: dict[str, Any]) -> bool:
    return not (path == "read packed documents" and fields.get("learnable_init_states"))


def train(fields: dict[str, Any], precision: str, **settings: Any) -> None:
    ids = torch.randint(0, 64, (500,), dtype=torch.int32)
    tokens = PackedTokens(ids, torch.arange(500, dtype=torch.int32) // 50)
    config = TrainingConfig(steps=3, batch_size=4, length=24, warmup_steps=2, precision=precision, **settings)
    fit(make_model(fields), tokens, config, progress=False)


def leave_the_sampler_to_the_host(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is on every device; what it computes is left out."""

    def drawn_on_the_host(sample: Any, *args: Any, **settings: Any) -> Tensor:
        with recorder.deaf():
            return sample(*args, **settings)

    monkeypatch.setattr(loop, "sample", functools.partial(drawn_on_the_host, loop.sample))


def write_some_text(fields: dict[str, Any]) -> None:
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = 0
    make_model(fields).generate(some_ids(3, 9), max_new_tokens=6, seed=0, top_k=5, attention_mask=mask)
    list(stream(make_model(fields), [1, 2, 3], max_new_tokens=4, seed=0, repetition_penalty=1.2))


def test_every_operation_of_every_path_can_be_computed_on_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_sums_by_difference", chunks._sums_since_source)  # what only a CPU does: float64,
    for operation in (attend, read_in_ranks, multiply_stored, one_token):
        monkeypatch.setattr(operation, "ways", [])  # ways that are not taken on mps,
    recorder = Recorder()
    leave_the_sampler_to_the_host(recorder, monkeypatch)
    with recorder, torch.backends.mkldnn.flags(enabled=False):  # and oneDNN
        for fields in distinct(MODELS):
            for path, run in PATHS.items():
                if applies(path, fields):
                    run(make_model(fields), some_ids())
        for fields in (MODELS["groups"], {**STACK, **FAMILIES["hybrid"]}):
            for dtype in (torch.bfloat16, torch.float16):
                whole_model.read_in_pieces(make_model(fields).to(dtype), some_ids())
                with torch.autocast("cpu", dtype):
                    whole_model.differentiate(make_model(fields), some_ids())
            train(fields, "fp32", accumulation=2)
            train(fields, "bf16", checkpoint_blocks=True)
            write_some_text(fields)
            for weights in ROUNDED:
                whole_model.read_in_pieces(with_weights(make_model(fields), weights), some_ids())
    print(table(recorder.seen))
    require_mps(recorder.seen)
    # What must have been seen, if the recorder saw anything: a product, a norm, the scan, a lookup, a loss, AdamW.
    for name in ("mm", "rsqrt", "cumsum", "expm1", "embedding", "nll_loss_forward", "addcdiv_", "_to_copy"):
        assert name in recorder.seen, name
    assert recorder.seen["mm"] >= {torch.float32, torch.bfloat16, torch.float16}


# The gate itself refuses what mps cannot do


def in_float64() -> Tensor:
    return torch.ones(3, dtype=torch.float64) * 2


def a_cast_to_float64() -> Tensor:
    return torch.ones(3).double()


def a_float64_between_float32s() -> Tensor:
    return torch.ones(3).sum(dtype=torch.float64).float()


def complex_numbers() -> Tensor:
    return torch.view_as_complex(torch.ones(3, 2)).abs()


def embedding_with_max_norm() -> Tensor:
    return torch.nn.functional.embedding(torch.tensor([1]), torch.ones(3, 2), max_norm=1.0)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda: torch.linalg.eig(torch.eye(3)).eigenvalues.abs(), "aten::linalg_eig runs not at all"),
        (lambda: torch.linalg.svdvals(torch.eye(3)), "aten::_linalg_svd"),
        (embedding_with_max_norm, "aten::embedding_renorm_ runs on the cpu"),
        (in_float64, "aten::mul.Tensor meets torch.float64"),
        (a_cast_to_float64, "aten::_to_copy meets torch.float64"),
        (a_float64_between_float32s, "aten::sum meets torch.float64"),
        (complex_numbers, "complex64"),
        (lambda: torch.poisson(torch.ones(3)), "aten::poisson runs not at all"),
    ],
)
def test_the_gate_refuses_an_operation_or_a_dtype_that_mps_does_not_have(
    plant: Callable[[], Tensor], words: str
) -> None:
    recorder = Recorder()
    with recorder:
        plant()
        torch.ones(3).exp()
    with pytest.raises(RefusedError) as refusal:
        require_mps(recorder.seen)
    assert words in str(refusal.value)
    assert "exp" not in str(refusal.value).replace("expected", "")


def test_what_the_host_computes_is_left_out() -> None:
    recorder = Recorder()
    with recorder:
        with recorder.deaf():
            in_float64()
        torch.ones(3).exp()
    assert "exp" in recorder.seen and "mul.Tensor" not in recorder.seen


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("mm", "kernel"),
        ("exp", "kernel"),  # through the structured exp.out
        ("copy_", "kernel"),  # through a branch inside
        ("rms_norm", "composite"),
        ("linalg_svd", "on the cpu"),
        ("linalg_eig", "not at all"),
        ("no_such_operation", "not at all"),
    ],
)
def test_verdicts_are_those_of_the_list_of_kernels(name: str, how: str) -> None:
    assert verdict(name) == how
