"""The scan alone: ours beside transformers', its three ways, and long texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.measures.contestants import Contestants, without_gradients

# Shapes (b, l, h, p, g, n) as large models have them.
LARGE_SHAPES = [(8, 2048, 80, 64, 1, 128), (1, 32768, 24, 64, 1, 128), (8, 2048, 24, 64, 1, 128)]
REPLAYS = 20  # of a CUDA graph in one call, whose launch would else be part of the time


def scan_forward(
    device: torch.device | str, *, b: int = 1, l: int = 2048, h: int = 24, p: int = 64, g: int = 1, n: int = 128
) -> Contestants:
    """The scan alone, from x, dt, A, B, C in float32: ours, and transformers' with chunks of 64 and of 256."""
    from transformers.models.mamba2 import modeling_mamba2 as peer

    x, dt, A, B, C = scan_inputs(device, b, l, h, p, g, n)

    def ours() -> object:
        return scan.chunked(*_as_scans_take_them(x, dt, A, B, C))

    def theirs(chunk_size: int) -> Work:
        return lambda: peer.mamba2_chunk_scan(x, dt, A, B, C, chunk_size, return_final_states=True)

    return without_gradients(
        {"ours": ours, "transformers, chunks of 64": theirs(64), "transformers, chunks of 256": theirs(256)}
    )


def scan_ways(
    device: torch.device | str, *, l: int, b: int = 1, h: int = 8, p: int = 64, g: int = 1, n: int = 64
) -> Contestants:
    """The three ways to compute the scan of a whole sequence, in float32."""
    x, dt, A, B, C = scan_inputs(device, b, l, h, p, g, n)
    inputs = _as_scans_take_them(x, dt, A, B, C)
    return without_gradients(
        {
            "sequential": lambda: scan.sequential(*inputs),
            "quadratic": lambda: scan.quadratic(*inputs),
            "chunked": lambda: scan.chunked(*inputs),
        }
    )


def scan_alone(
    device: torch.device | str, *, l: int, b: int = 1, h: int = 24, p: int = 64, g: int = 1, n: int = 128
) -> Contestants:
    """The chunked scan in float32, for texts so long that no other way could be timed beside it."""
    x, dt, A, B, C = scan_inputs(device, b, l, h, p, g, n)
    inputs = _as_scans_take_them(x, dt, A, B, C)
    return without_gradients({"chunked": lambda: scan.chunked(*inputs)})


def scan_bfloat16(device: torch.device | str, *, shape: Sequence[int]) -> Contestants:
    """The scan of a whole layer in bfloat16 on cuda: compiled, and replayed as a CUDA graph, `REPLAYS` times in a call.

    "ours, as written" is not compiled.
    """
    from transformers.models.mamba2 import modeling_mamba2 as peer

    b, l, h, p, g, n = shape
    x, dt, A, B, C = scan_inputs(device, b, l, h, p, g, n)
    inputs = (x * dt.unsqueeze(-1)).bfloat16(), dt * A, B.bfloat16(), C.bfloat16()
    options: dict[str, Any] = {"triton.native_matmul": True, "coordinate_descent_tuning": True}
    ours = torch.compile(scan.chunked, fullgraph=True, dynamic=False, options=options)
    theirs = torch.compile(peer.mamba2_chunk_scan, dynamic=False)
    works: Contestants = {
        "ours": lambda: ours(*inputs),
        "ours, as written": lambda: scan.chunked(*inputs),
        "transformers, chunks of 64": lambda: theirs(x.bfloat16(), dt, A, *inputs[2:], 64, return_final_states=True),
    }
    return {name: replayed(work) for name, work in without_gradients(works).items()}


def replayed(work: Work) -> Work:
    """The kernels of a call, recorded, so that no time goes into launching them one by one."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # compiles, and lets libraries set themselves up, before anything is recorded
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def replay() -> None:
        for _ in range(REPLAYS):
            graph.replay()

    return replay


def scan_inputs(
    device: torch.device | str, b: int, l: int, h: int, p: int, g: int, n: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x (b,l,h,p), dt (b,l,h), A (h,), B and C (b,l,g,n), of the size that a new layer gives them."""
    generator = torch.Generator("cpu").manual_seed(0)
    x, B, C = (torch.randn(b, l, *rest, generator=generator).to(device) for rest in ((h, p), (g, n), (g, n)))
    dt = (torch.rand(b, l, h, generator=generator) * 0.1 + 0.001).to(device)
    A = -(torch.rand(h, generator=generator) * 15 + 1).to(device)
    return x, dt, A, B, C


def _as_scans_take_them(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x * dt.unsqueeze(-1), dt * A, B, C
