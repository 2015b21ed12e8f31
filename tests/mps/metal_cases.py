"""Calls to try the kernels with, and a way to run them on this machine: in any order, with a mutation, listened to."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
from mps import metal_on_host
from torch import Tensor, nn

from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.mamba1 import convolve_token, select_and_turn
from mamba2_lab.fast.metal.mamba2 import between_matrices
from mamba2_lab.fast.metal.mamba3 import normalise_and_turn
from mamba2_lab.fast.metal.token import add_and_normalise
from mamba2_lab.layers import CausalConv, Mamba1, Mamba2, Mamba3, RMSNorm
from mamba2_lab.layers.convolution import convolve
from mamba2_lab.layers.documents import number_documents
from mamba2_lab.layers.mixer import State
from mamba2_lab.layers.norm import gate_and_normalise
from mamba2_lab.layers.rounded import in_4_bits, in_8_bits
from mamba2_lab.layers.stored import multiply_stored
from mamba2_lab.operation import Operation, plainly
from mamba2_lab.scan.chunks import in_stretches

Arguments = tuple[Any, ...]


class Call(NamedTuple):
    """What a kernel was called with."""

    source: str
    name: str
    args: tuple[Any, ...]
    threads: list[int]
    group_size: list[int]


@contextlib.contextmanager
def on_host(order: int = 0, mutation: tuple[str, str] | None = None) -> Iterator[list[Call]]:
    """Within, kernels are compiled for this machine and run on CPU tensors; what they are called with is noted."""
    calls: list[Call] = []

    def compile_shader(source: str) -> Any:
        if mutation is not None:
            assert mutation[0] in source, "the mutant is that of an older kernel"
            source = source.replace(*mutation)
        return _Listened(source, order, calls)

    with mock.patch.object(torch.mps, "compile_shader", compile_shader):
        shaders._kernel.cache_clear()
        try:
            yield calls
        finally:
            shaders._kernel.cache_clear()


class _Listened:
    def __init__(self, source: str, order: int, calls: list[Call]) -> None:
        self.library, self.source, self.order, self.calls = (
            metal_on_host.compile_shader(source),
            source,
            order,
            calls,
        )

    def __getattr__(self, name: str) -> Callable[..., None]:
        def run(*args: Any, threads: list[int], group_size: list[int]) -> None:
            kept = tuple(arg.clone() if isinstance(arg, Tensor) and arg.is_contiguous() else arg for arg in args)
            self.calls.append(Call(self.source, name, kept, threads, group_size))
            getattr(self.library, name)(*args, threads=threads, group_size=group_size, order=self.order)

        return run


def by_kernel(operation: Operation[..., Any], args: Arguments) -> list[Tensor]:
    """What the kernel of an operation makes of this call; it must be one that it serves."""
    (way,) = (way for way in operation.ways if way.name == "metal")
    with torch.no_grad():
        return list(results(way.compute.__wrapped__(*args)))  # without what catches a fault


def by_definition(operation: Operation[..., Any], args: Arguments) -> list[Tensor]:
    """The definition in float64."""
    with torch.no_grad(), plainly():
        return list(results(operation(*map(in_float64, args))))


def in_float64(arg: Any) -> Any:
    if isinstance(arg, Tensor):
        return arg.double() if arg.is_floating_point() else arg
    if isinstance(arg, State):
        return arg.map(Tensor.double)
    return copy.deepcopy(arg).double() if isinstance(arg, nn.Module) else arg


def results(result: Any) -> Iterator[Tensor]:
    for part in result if isinstance(result, tuple) else (result,):
        yield from part.tensors().values() if isinstance(part, State) else (part,)


def moved(arg: Any, device: torch.device | str) -> Any:
    if isinstance(arg, State):
        return arg.map(lambda tensor: tensor.to(device))
    return copy.deepcopy(arg).to(device) if isinstance(arg, Tensor | nn.Module) else arg


# The calls: odd sizes, groups, batches, parts of larger tensors. The last ones of each show most of what is wrong.


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype)


def strided(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Drawn numbers every second of which belongs to something else."""
    return drawn(*shape, 2, dtype=dtype)[..., 0]


def with_weights(norm: Any, dtype: torch.dtype) -> Any:
    with torch.no_grad():
        norm.weight.normal_()
    return norm.to(dtype)


def of_adding(dtype: torch.dtype) -> Iterator[Arguments]:
    for shape in ((1, 1), (3, 70), (2, 300)):
        norm = with_weights(RMSNorm(shape[-1], eps=0.1), dtype)
        yield norm, drawn(*shape), drawn(*shape, dtype=dtype)
    yield norm, strided(*shape), strided(*shape, dtype=dtype)


def of_gating(dtype: torch.dtype) -> Iterator[Arguments]:
    for shape, ngroups in (((1, 1), 1), ((3, 70), 5), ((2, 3, 300), 2)):
        longer = drawn(*shape[:-1], 2 * shape[-1] + 3, dtype=dtype)
        given = drawn(*shape), longer[..., shape[-1] : 2 * shape[-1]], drawn(shape[-1], dtype=dtype)
        yield from ((*given, 0.1, ngroups, norm_before_gate) for norm_before_gate in (False, True))
    y, z, weight = given
    yield y, z, weight.float(), 0.1, ngroups, True
    yield drawn(*shape), drawn(3, 2, shape[-1], dtype=dtype).transpose(0, 1), weight, 0.1, ngroups, False
    for norm_before_gate in (False, True):
        yield strided(*shape), strided(*shape, dtype=dtype), weight, 0.1, ngroups, norm_before_gate


SIZES: tuple[dict[str, Any], ...] = (
    {"d_model": 1, "expand": 1, "headdim": 1, "d_state": 1, "d_conv": 2},
    {"d_model": 33, "expand": 2, "headdim": 33, "d_state": 70, "d_conv": 3, "conv_bias": False},
    {"d_model": 5, "expand": 4, "headdim": 5, "ngroups": 2, "d_state": 7, "dt_limit": (0.01, 0.05)},
)


def of_a_token(dtype: torch.dtype) -> Iterator[Arguments]:
    for b, fields in zip((1, 2, 3), SIZES, strict=True):
        mixer = Mamba2(**fields)
        with torch.no_grad():
            mixer.D.normal_()
            mixer.dt_bias.uniform_(-9, 3)
        config, state = mixer.config, mixer.to(dtype).initial_state(b)
        width = config.d_inner + config.conv_dim + config.nheads
        yield mixer, drawn(b, width, dtype=dtype), state.map(lambda each: drawn(*each.shape, dtype=each.dtype))
    yield mixer, strided(b, width, dtype=dtype), state.map(lambda each: strided(*each.shape, dtype=each.dtype))


def of_a_window(dtype: torch.dtype) -> Iterator[Arguments]:
    for b, channels, width, bias in ((1, 1, 2, True), (3, 37, 4, False), (2, 300, 3, True)):
        conv = CausalConv(channels, width, bias, activation=width > 2).to(dtype)
        longer = drawn(b, 2 * channels + 1, dtype=dtype)
        yield conv, longer[:, channels + 1 :], drawn(b, width - 1, channels, dtype=dtype)
    yield conv, strided(b, channels, dtype=dtype), strided(b, width - 1, channels, dtype=dtype)


def of_channels(dtype: torch.dtype) -> Iterator[Arguments]:
    for b, fields in (
        (1, {"d_model": 1, "expand": 1, "d_state": 1, "dt_rank": 1}),
        (2, {"d_model": 11, "expand": 2, "d_state": 40, "dt_rank": 35}),
        (3, {"d_model": 5, "expand": 3, "d_state": 7, "dt_rank": 2, "b_c_dt_rms": True, "b_c_dt_rms_eps": 0.1}),
    ):
        mixer = Mamba1(**fields)  # type: ignore[arg-type]
        with torch.no_grad():
            mixer.D.normal_()
            mixer.A_log.normal_()
            mixer.dt_proj.bias.uniform_(-9, 3)
        d, few = mixer.config.d_inner, mixer.config.rank + 2 * mixer.config.d_state
        longer = drawn(b, 2 * d, dtype=dtype)
        given = drawn(b, d, dtype=dtype), drawn(b, few, dtype=dtype), longer[:, d:]
        yield mixer.to(dtype), *given, drawn(b, d, mixer.config.d_state)
    yield mixer, *(strided(b, size, dtype=dtype) for size in (d, few, d)), strided(b, d, mixer.config.d_state)


def of_rotating_heads(dtype: torch.dtype) -> Iterator[Arguments]:
    ranks = {"is_mimo": True, "mimo_rank": 3, "is_outproj_norm": True, "rope_fraction": 1.0, "A_floor": 0.5}
    for b, fields in (
        (1, {"d_model": 1, "expand": 1, "headdim": 1, "d_state": 4}),
        (2, {"d_model": 33, "expand": 2, "headdim": 33, "d_state": 70, "A_activation": "softplus"}),
        (3, {"d_model": 5, "expand": 4, "headdim": 5, "ngroups": 2, "d_state": 14, **ranks}),
    ):
        mixer = Mamba3(**fields)  # type: ignore[arg-type]
        with torch.no_grad():
            for weight in mixer.parameters():
                if weight.ndim != 2:  # of what stands between the matrices
                    weight.normal_()
        width, state = sum(mixer.widths()), mixer.to(dtype).initial_state(b)
        yield mixer, drawn(b, width, dtype=dtype), state.map(lambda each: drawn(*each.shape))
    yield mixer, strided(b, width, dtype=dtype), state.map(lambda each: strided(*each.shape))


def of_convolving(dtype: torch.dtype) -> Iterator[Arguments]:
    for b, l, width, channels, packed in ((1, 1, 2, 1, False), (2, 9, 4, 70, False), (3, 30, 3, 7, True)):
        ids = torch.randint(0, 4, (b, l)).sort(dim=1).values
        documents = number_documents(ids, width - 1) if packed else None
        longer, window = drawn(b, l, channels + 5, dtype=dtype), drawn(b, width - 1, channels, dtype=dtype)
        yield longer[..., 3 : 3 + channels], window, *weights(width, channels, dtype), documents, packed
    given = strided(b, l, channels, dtype=dtype), strided(*window.shape, dtype=dtype)
    yield *given, *weights(width, channels, dtype), documents, False


def weights(width: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return drawn(channels, width, dtype=dtype).t(), drawn(channels, dtype=dtype)


def of_scanning(dtype: torch.dtype) -> Iterator[Arguments]:
    for b, l, h, g, p, n in ((1, 1, 1, 1, 1, 1), (1, 9, 2, 1, 8, 70), (2, 40, 6, 3, 5, 7)):
        longer = drawn(b, l, 3 * g * n, dtype=dtype)
        B, C = (part.unflatten(-1, (g, n)) for part in longer.split(g * n, dim=-1)[1:])
        decay = -torch.rand(b, l, h).pow(4)
        decay[torch.rand(b, l, h) < 0.05] = -1e4
        yield drawn(b, l, h, p), decay, B, C, drawn(b, h, p, n), 16
    yield (
        strided(b, l, h, p),
        strided(b, l, h).abs().neg(),
        *(strided(b, l, g, n, dtype=dtype) for _ in "BC"),
        drawn(b, h, n, p).mT,
        16,
    )


def of_stored_products(dtype: torch.dtype) -> Iterator[Arguments]:
    for rows, features, height in ((1, 1, 1), (1, 64, 5), (3, 200, 33)):
        for store in (in_8_bits, in_4_bits):
            numbers, scales = store(drawn(height, features))
            bias = drawn(height, dtype=dtype) if rows == 3 else None
            longer = drawn(1, rows, features + 9, dtype=dtype)
            yield longer[..., 9:], numbers, scales.to(dtype), bias
        yield strided(rows, features, dtype=dtype), numbers, scales.mT.contiguous().mT.to(dtype), bias


CASES: dict[str, tuple[Operation[..., Any], Callable[[torch.dtype], Iterator[Arguments]]]] = {
    "add_and_normalise": (add_and_normalise, of_adding),
    "between_matrices": (between_matrices, of_a_token),
    "gate_and_normalise": (gate_and_normalise, of_gating),
    "convolve_token": (convolve_token, of_a_window),
    "select_and_turn": (select_and_turn, of_channels),
    "normalise_and_turn": (normalise_and_turn, of_rotating_heads),
    "convolve": (convolve, of_convolving),
    "in_stretches": (in_stretches, of_scanning),
    "multiply_stored": (multiply_stored, of_stored_products),
}


def allowed(found: Tensor, dtype: torch.dtype) -> float:
    """How far a result may be from the definition in float64, relative to the largest."""
    return 1e-5 if found.dtype == torch.float32 else 2 * torch.finfo(dtype).eps


def error(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> float:
    """The largest difference, in units of what is allowed."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        size = float(other.abs().max()) or 1.0
        difference = float((one.cpu().double() - other).abs().max()) / size / allowed(one, dtype)
        worst = max(worst, math.inf if math.isnan(difference) else difference)
    return worst
