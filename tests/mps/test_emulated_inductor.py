"""What torch.compile makes of a model on mps: how many kernels, and that those it writes itself give the right numbers,
in any order of their threads and inside their buffers.

Runs where MAMBA2_LAB_DEVICE is emulated-mps, what torch 2.13 writes being compiled for the CPU. Not run on Apple
hardware.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mps import metal_of_inductor, metal_on_host
from mps.emulation import recording
from mps.metal_cases import Call
from mps.test_operations import SHRUNK, make_model
from support.oracle.mamba2 import relative_error
from torch import Tensor
from torch import _inductor as inductor

from mamba2_lab.layers import Block
from mamba2_lab.operation import plainly


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Call]]:
    """What generated kernels are called with; they run by the harness."""
    noted: list[Call] = []
    monkeypatch.setattr(torch.mps, "compile_shader", functools.partial(metal_of_inductor.Library, calls=noted))
    monkeypatch.setattr(torch._C, "_mps_get_core_count", lambda: 8, raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MAMBA2_LAB_METAL", "0")
    torch.compiler.reset()
    with inductor.config.patch(compile_threads=1):  # in this process, which alone has the device
        yield noted


def kernels_of(read: Callable[..., tuple[Tensor, Any]], u: Tensor, calls: list[Call]) -> list[str]:
    """Those that a layer takes to read u, (b,d_model) or (b,l,d_model). Its numbers must be right; of each generated
    kernel they must be the same in whatever order its threads run, and it must stay in its buffers."""
    block = make_model({**SHRUNK, "n_layer": 1}).blocks[0]
    state = block.mixer.initial_state(len(u)).map(torch.randn_like)
    with torch.no_grad(), plainly():
        expected, left = read(block.double(), u.double(), state.map(Tensor.double))
    block.float().to("mps")
    given = block, u.to("mps"), state.map(lambda tensor: tensor.to("mps"))
    compiled = torch.compile(read, fullgraph=True, dynamic=False)
    with torch.no_grad():
        compiled(*given)  # while it is compiled, other kernels run
        calls.clear()
        with recording() as work:
            found, after = compiled(*given)
    for one, other in zip((found, *after.tensors().values()), (expected, *left.tensors().values()), strict=True):
        assert relative_error(one.cpu(), other) <= 1e-5
    for call in calls:
        forward, *others = (written(call, order) for order in (0, 1, 2, 3))
        assert all(torch.equal(one, two) for other in others for one, two in zip(forward, other, strict=True))
        assert metal_on_host.complaint(*call) == ""
    assert [call.name for call in calls] == [name for name in work.kernels if name.startswith("generated")]
    print(f"torch.compile: {len(work.kernels)} kernels per layer, for {' x '.join(map(str, u.shape[:-1]))} tokens")
    return work.kernels


def written(call: Call, order: int) -> list[Tensor]:
    """Its buffers after a run in this order."""
    args = [arg.clone() if isinstance(arg, Tensor) else arg for arg in call.args]
    run = getattr(metal_on_host.compile_shader(call.source), call.name)
    run(*args, threads=call.threads, group_size=call.group_size, order=order)
    return [arg for arg in args if isinstance(arg, Tensor)]


def test_a_token_takes_a_few_more_than_with_those_of_our_own(calls: list[Call]) -> None:
    kernels = kernels_of(Block.step, torch.randn(1, SHRUNK["d_model"]), calls)
    assert (len(kernels), len(calls)) == (8, 5)


def test_a_prompt_takes_about_as_many(calls: list[Call]) -> None:
    kernels = kernels_of(Block.forward, torch.randn(1, 64, SHRUNK["d_model"]), calls)
    assert (len(kernels), len(calls)) == (24, 14)
