"""One mixer, its parts, and what bounds them on any machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch

from mamba2_lab import scan
from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.measures.contestants import Contestants, new_model, without_gradients
from mamba2_lab.layers import Mamba2, Projection
from mamba2_lab.machine import threads


def two_places(device: torch.device | str, *, d_model: int, l: int) -> Contestants:
    """One mixer reads l tokens: on the CPU, and on the device. If that is the CPU, with one thread and with all."""
    mixers = {"cpu": _mixer(d_model, "cpu")}
    kind = torch.device(device).type
    if kind != "cpu":
        mixers[kind] = _mixer(d_model, device)
    generator = torch.Generator("cpu").manual_seed(0)
    u = torch.randn(1, l, d_model, generator=generator)
    inputs = {name: u.to(mixer.in_proj.weight.device) for name, mixer in mixers.items()}

    def reads(name: str) -> Work:
        return lambda: mixers[name](inputs[name])

    if kind != "cpu":
        return without_gradients({name: reads(name) for name in mixers})
    return without_gradients({"one thread": partial(threads.at_most, 1, reads("cpu")), "all threads": reads("cpu")})


def _mixer(d_model: int, device: torch.device | str) -> Mamba2:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Mamba2(d_model, headdim=32).to(device).eval()


def parts(device: torch.device | str, *, preset: str = "large", l: int = 512) -> Contestants:
    """The parts of a mixer, on l tokens; for l = 1, those of a step.

    Each call takes the weights of the next layer, as a model does: one layer's weights alone would stay in a cache.
    """
    mixers = [block.mixer for block in new_model(preset, device).blocks]
    u = torch.randn(1, l, mixers[0].config.d_model, generator=torch.Generator("cpu").manual_seed(0)).to(device)
    u = u.squeeze(1) if l == 1 else u
    with torch.no_grad():
        state = mixers[0].initial_state(1)
        z, xBC, dt = mixers[0].project(u)
        terms = mixers[0].discretise(xBC, dt)
        y = torch.randn_like(z)

    def convolve(mixer: Mamba2) -> object:
        return mixer.conv1d.step(xBC, state.conv_window) if l == 1 else mixer.convolve(xBC, state.conv_window)

    def carry(mixer: Mamba2) -> object:
        function = scan.step if l == 1 else scan.chunked
        return function(terms.x_dt, terms.log_decay, terms.B, terms.C, state.ssm_state)

    runs: dict[str, Callable[[Mamba2], object]] = {
        "in_proj": lambda mixer: mixer.in_proj(u),
        "convolution": convolve,
        "scan": carry,
        "norm": lambda mixer: mixer.norm(y, z),
        "out_proj": lambda mixer: mixer.out_proj(y),
    }

    def layer_after_layer(run: Callable[[Mamba2], object]) -> Work:
        layers = itertools.cycle(mixers)
        return lambda: run(next(layers))

    return without_gradients({name: layer_after_layer(run) for name, run in runs.items()})


def ceilings(device: torch.device | str, *, n: int = 2048, numbers: int = 2**26, dtype: str = "float32") -> Contestants:
    """What bounds all else: an n x n matrix product (2 n^3 operations), and reading `numbers` numbers once."""
    generator, number = torch.Generator("cpu").manual_seed(0), getattr(torch, dtype)
    factor, weight = (torch.randn(n, n, generator=generator).to(device, number) for _ in range(2))
    product = torch.nn.utils.skip_init(Projection, n, n, bias=False)  # by the library that multiplies in a model
    product.weight = torch.nn.Parameter(weight)
    data = torch.ones(numbers, dtype=number, device=device)
    return without_gradients({"matrix product": lambda: product(factor), "reading memory": lambda: data.sum()})
