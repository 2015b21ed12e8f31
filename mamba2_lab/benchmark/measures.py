"""What is timed: each measure sets up its contestants, which compute the same thing from the same numbers.

A measure is a function of settings that returns contestants by name. "ours" is the code of this package as it stands;
"transformers" its Mamba2 in plain torch, given the same weights; a floor is what the machine would need for the
indispensable part alone.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.benchmark.clock import Work
from mamba2_lab.benchmark.neighbour import Neighbour
from mamba2_lab.config import Mamba2Config
from mamba2_lab.layers import Mamba2, Projection
from mamba2_lab.machine import threads
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.model import Mamba2Cache

Contestants = dict[str, Work]

# Shapes (b, l, h, p, g, n) as large models have them.
LARGE_SHAPES = [(8, 2048, 80, 64, 1, 128), (1, 32768, 24, 64, 1, 128), (8, 2048, 24, 64, 1, 128)]
REPLAYS = 20  # of a CUDA graph in one call, whose launch would else be part of the time
STEPS = 8  # of decoding in one call: a step follows a step, and finds in the caches what that one left
MANY_STEPS = 100  # in one call beside a busy process, which is noticed after a quarter of a second


def scan_forward(
    device: torch.device | str, *, b: int = 1, l: int = 2048, h: int = 24, p: int = 64, g: int = 1, n: int = 128
) -> Contestants:
    """The scan alone, from x, dt, A, B, C in float32: ours, and transformers' with chunks of 64 and of 256."""
    from transformers.models.mamba2 import modeling_mamba2 as peer

    x, dt, A, B, C = scan_inputs(device, b, l, h, p, g, n)

    def ours() -> object:
        return scan.chunked(x * dt.unsqueeze(-1), dt * A, B, C)

    def theirs(chunk_size: int) -> Work:
        return lambda: peer.mamba2_chunk_scan(x, dt, A, B, C, chunk_size, return_final_states=True)

    return _without_gradients(
        {"ours": ours, "transformers, chunks of 64": theirs(64), "transformers, chunks of 256": theirs(256)}
    )


def scan_ways(
    device: torch.device | str, *, l: int, b: int = 1, h: int = 8, p: int = 64, g: int = 1, n: int = 64
) -> Contestants:
    """The three ways to compute the scan of a whole sequence, in float32."""
    x, dt, A, B, C = scan_inputs(device, b, l, h, p, g, n)
    inputs = x * dt.unsqueeze(-1), dt * A, B, C
    return _without_gradients(
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
    inputs = x * dt.unsqueeze(-1), dt * A, B, C
    return _without_gradients({"chunked": lambda: scan.chunked(*inputs)})


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
    return {name: _replayed(work) for name, work in _without_gradients(works).items()}


def _replayed(work: Work) -> Work:
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


def prefill(device: torch.device | str, *, preset: str = "130m", l: int = 1024, compiled: bool = False) -> Contestants:
    """Reading a prompt, and the logits after it; and the model's matrix products alone."""
    model, ids = _model(preset, device), _ids(preset, (1, l), device)
    theirs = _peer(model)
    return _without_gradients(
        {
            **_ours(model, lambda model: lambda: model.prefill(ids), compiled),
            "transformers": lambda: theirs(ids, logits_to_keep=1, use_cache=True),
            "matrix products": _matrix_products(model, l),
        }
    )


def _matrix_products(model: Mamba2LM, l: int) -> Work:
    """The projections of all layers on l tokens, and the head on one: the arithmetic that no formulation spares."""
    config = model.config
    u = torch.randn(l, config.d_model, device=model.device, dtype=model.dtype)
    inner = torch.randn(l, config.d_inner, device=model.device, dtype=model.dtype)

    def work() -> None:
        for block in model.blocks:
            block.mixer.in_proj(u)
            block.mixer.out_proj(inner)
        model.lm_head(u[:1])

    return work


def _reading_of_weights(model: Mamba2LM) -> Work:
    """A sum over each matrix that a token is multiplied with: torch reads it with all threads."""
    mixers = [block.mixer for block in model.blocks]
    matrices = [matrix.weight for mixer in mixers for matrix in (mixer.in_proj, mixer.out_proj)]
    return lambda: [weight.sum() for weight in (*matrices, model.lm_head.weight)]


def decode(device: torch.device | str, *, preset: str = "130m", compiled: bool = False, **shape: Any) -> Contestants:
    """One token after another at batch 1; the model's matrix products alone; and reading all their weights once."""
    model, ids = _model(preset, device, **shape), _ids(preset, (1, 8), device, **shape)
    theirs = _peer(model)
    with torch.no_grad():
        _, cache = model.prefill(ids)
        their_cache = theirs(ids, use_cache=True).cache_params

    works = {
        **_ours(model, lambda model: _step_after_step(model, ids[:, 0], cache), compiled),
        "transformers": lambda: theirs(ids[:, :1], cache_params=their_cache, use_cache=True),
        "matrix products": _matrix_products(model, 1),
        "weights read once": _reading_of_weights(model),
    }
    return _without_gradients({name: _in_a_row(work) for name, work in works.items()})


def beside(device: torch.device | str, *, preset: str = "medium") -> Contestants:
    """One token after another: alone, beside a process that keeps torch busy, and there with one thread alone.

    One thread loses no more than the share of its core that the other process takes.
    """
    model, ids = _model(preset, device), _ids(preset, (1, 8), device)
    with torch.no_grad():
        _, cache = model.prefill(ids)
    write = torch.no_grad()(_in_a_row(_step_after_step(model, ids[:, 0], cache), MANY_STEPS))
    neighbour = Neighbour()
    return {
        "alone": write,
        "beside a busy process": lambda: neighbour.beside(write),
        "there, one thread": lambda: neighbour.beside(partial(threads.at_most, 1, write)),
    }


def _step_after_step(model: Mamba2LM, tokens: Tensor, cache: Mamba2Cache) -> Work:
    """Each call reads the tokens (b,) from where the last one left off."""

    def step() -> tuple[Tensor, Mamba2Cache]:
        nonlocal cache
        logits, cache = model.step(tokens, cache)
        return logits, cache

    return step


def _in_a_row(work: Work, count: int = STEPS) -> Work:
    def several() -> object:
        for _ in range(count - 1):
            work()
        return work()

    return several


def _ours(model: Mamba2LM, work: Callable[[Mamba2LM], Work], compiled: bool) -> Contestants:
    """The work of a model; or of a compiled one with the very same weights, and beside it of the one as written."""
    if not compiled:
        return {"ours": work(model)}
    twin = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    twin.compile()
    return {"ours": work(twin), "ours, as written": work(model)}


def reading(
    device: torch.device | str, *, preset: str = "small", b: int = 1, l: int = 512, dtype: str = "float32"
) -> Contestants:
    """Logits at every position; the time to a first token that the CPU has in hand; and one token more."""
    model = _model(preset, device).to(getattr(torch, dtype))
    ids = _ids(preset, (b, l), device)
    with torch.no_grad():
        _, cache = model.prefill(ids)
    return _without_gradients(
        {
            "forward": lambda: model(ids),
            "first token": lambda: model.prefill(ids)[0].argmax(dim=-1).cpu(),
            "step": lambda: model.step(ids[:, 0], cache),
        }
    )


def after_reading(device: torch.device | str, *, preset: str = "medium", l: int = 1024) -> Contestants:
    """One more token after l of them: from a state, and from the KV cache of a transformer with as many weights.

    The transformer is transformers' Llama with random weights. Each step is taken back, so that its cache
    holds l tokens at the next.
    """
    model, ids = _model(preset, device), _ids(preset, (1, l), device)
    llama = _llama(preset, device)
    with torch.no_grad():
        _, state = model.prefill(ids)
        kept = llama(ids, use_cache=True, logits_to_keep=1).past_key_values

    def attend() -> Tensor:
        logits = llama(ids[:, :1], past_key_values=kept, use_cache=True).logits
        kept.crop(-1)
        return logits

    return _without_gradients({"state": lambda: model.step(ids[:, 0], state), "KV cache": attend})


def kept_bytes(device: torch.device | str, *, preset: str = "medium", l: int = 1024) -> dict[str, int]:
    """What the contestants of `after_reading` keep of l tokens, in bytes, counted in the caches themselves."""
    llama = _llama(preset, device)
    with torch.no_grad():
        kept = llama(_ids(preset, (1, l), device), use_cache=True, logits_to_keep=1).past_key_values
    keys_and_values = sum(layer.keys.nbytes + layer.values.nbytes for layer in kept.layers)
    return {"state": _model(preset, "meta").new_cache().nbytes, "KV cache": keys_and_values}


def _llama(preset: str, device: torch.device | str) -> Any:
    from mamba2_lab.yardsticks.transformer import Transformer

    llama: Any = Transformer(Mamba2Config.preset(preset).vocab_size, seed=0).llama
    return llama.to(device).eval()


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
        return _without_gradients({name: reads(name) for name in mixers})
    return _without_gradients({"one thread": partial(threads.at_most, 1, reads("cpu")), "all threads": reads("cpu")})


def _mixer(d_model: int, device: torch.device | str) -> Mamba2:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Mamba2(d_model, headdim=32).to(device).eval()


def parts(device: torch.device | str, *, preset: str = "large", l: int = 512) -> Contestants:
    """The parts of a mixer, on l tokens; for l = 1, those of a step.

    Each call takes the weights of the next layer, as a model does: one layer's weights alone would stay in a cache.
    """
    mixers = [block.mixer for block in _model(preset, device).blocks]
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

    return _without_gradients({name: layer_after_layer(run) for name, run in runs.items()})


def ceilings(device: torch.device | str, *, n: int = 2048, numbers: int = 2**26, dtype: str = "float32") -> Contestants:
    """What bounds all else: an n x n matrix product (2 n^3 operations), and reading `numbers` numbers once."""
    generator, number = torch.Generator("cpu").manual_seed(0), getattr(torch, dtype)
    factor, weight = (torch.randn(n, n, generator=generator).to(device, number) for _ in range(2))
    product = torch.nn.utils.skip_init(Projection, n, n, bias=False)  # by the library that multiplies in a model
    product.weight = torch.nn.Parameter(weight)
    data = torch.ones(numbers, dtype=number, device=device)
    return _without_gradients({"matrix product": lambda: product(factor), "reading memory": lambda: data.sum()})


def training_step(
    device: torch.device | str, *, preset: str = "medium", b: int = 4, l: int = 512, compiled: bool = False
) -> Contestants:
    """Forward and backward of the next-token loss."""
    model = _model(preset, device).train()
    theirs = _peer(model).train()
    ids = _ids(preset, (b, l + 1), device)

    def step(model: torch.nn.Module, logits_of: Callable[[Tensor], Tensor]) -> Work:
        def work() -> None:
            model.zero_grad(set_to_none=True)
            F.cross_entropy(logits_of(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()

        return work

    return {
        **_ours(model, lambda model: step(model, model), compiled),
        "transformers": step(theirs, lambda ids: theirs(ids, use_cache=False).logits.float()),
    }


def _peer(model: Mamba2LM) -> Any:
    """transformers' model with the same weights, and chunks as long as its own default has them: 256.

    It runs in this process, and so under `mamba2-lab bench` in memory that `allocator` lets it keep: faster than alone.
    """
    from transformers import Mamba2Config as TheirConfig

    theirs: Any = model.to_transformers()
    for layer in theirs.backbone.layers:
        layer.mixer.chunk_size = TheirConfig().chunk_size
    return theirs


def _model(preset: str, device: torch.device | str, **shape: Any) -> Mamba2LM:
    return Mamba2LM(Mamba2Config.preset(preset, **shape), seed=0, device=device).eval()


def _ids(preset: str, shape: tuple[int, int], device: torch.device | str, **changes: Any) -> Tensor:
    vocab_size = Mamba2Config.preset(preset, **changes).vocab_size
    return torch.randint(0, vocab_size, shape, generator=torch.Generator("cpu").manual_seed(0)).to(device)


def _without_gradients(contestants: Contestants) -> Contestants:
    return {name: torch.no_grad()(work) for name, work in contestants.items()}
