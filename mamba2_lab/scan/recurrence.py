"""The recurrence, four ways.

    h_t = exp(log_decay_t) h_{t-1} + x_t B_t^T          the state: what is kept, plus what is written
    y_t = h_t C_t                                       the output: what is read

`sequential` is the definition, `step` is one turn of it. `quadratic` and `chunked` are the same map computed with
matrix products: as masked attention, and as masked attention inside chunks joined by states ("SSD", section 6 of
Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060).

Shapes: b batch, l length, h heads, p headdim, g groups, n d_state, q chunk_size, c chunks.
    x (b,l,h,p)   log_decay (b,l,h), <= 0   B, C (b,l,g,n)   state (b,h,p,n)   y (b,l,h,p)
Heads share the B and C of their group: head i reads group i // (h/g).

Mamba-2 passes x*dt and dt*A; nothing here knows about dt. Whatever the dtype of x, decays and states that are carried
on are float32 (float64 for float64 inputs): a decay of 0.999 is 1.0 in bfloat16, and a memory that never fades is
another model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from einops import rearrange
from torch import Tensor

from mamba2_lab.checks import require, require_whole
from mamba2_lab.machine import transforms

# The log decay of a restart. exp(-1e4) is exactly 0 in float32 and float64, and unlike -inf it can be summed by any
# device's cumsum without a NaN.
RESTART = -1e4

# `chunked` works through the sequence in blocks of this many chunks: temporaries stay small enough to be reused from
# cache, and memory per token does not grow with the length.
CHUNKS_PER_BLOCK = 16

# Where products are in bfloat16 a GPU wants large ones and many at once: chunks of at least so many tokens, so many of
# them in a block, and states passed on through groups of so many chunks.
BFLOAT16_CHUNK_SIZE = 128
BFLOAT16_CHUNKS_PER_BLOCK = 256
CHUNKS_PER_GROUP = 16

# Asked once, here: torch before 2.13 cuts a compiled model in two where it asks.
AUTOCAST_DEVICES = frozenset(filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps", "xpu")))

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _outside_autocast(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Autocast would run the matrix products here, and with them the states, in half precision: switch it off."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        device = next(arg.device.type for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor))
        if device not in AUTOCAST_DEVICES or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return call


def with_own_backward(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Apply a function that has a backward pass of its own.

    Where no gradient is asked for it is its forward pass alone: to apply it costs as much as several small operations.
    So it is in a compiled graph: a compiler that sees both passes plans better what to keep. (A training step of
    `medium` on an H200: 64 ms, and 91 with these backward passes.) And so it is where torch transforms the function.

    To be differentiated once more, or for many gradients at once, a backward pass is written with operations that torch
    knows how to differentiate and to map, and writes in place only to what is made from its gradients.
    """
    plain = torch.compiler.is_compiling() or not torch.is_grad_enabled() or transforms.at_work(*args)
    return function.forward(*args) if plain else function.apply(*args)


@_outside_autocast
def sequential(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    initial_state: Tensor | None = None,
    *,
    document_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The recurrence as it is written: one token after another, O(l) steps.

    Args:
        x: (b,l,h,p) inputs. log_decay: (b,l,h), <= 0. B, C: (b,l,g,n).
        initial_state: (b,h,p,n), the state before the first token; None is zero.
        document_ids: (b,l) integers; the state restarts from zero wherever the id changes.

    Returns:
        y (b,l,h,p) in the dtype of x, and the final state (b,h,p,n) in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: naming the argument, the shape or dtype expected, and what came.
    """
    dtype = x.dtype
    x, log_decay, B, C, state = _prepare(x, log_decay, B, C, initial_state, document_ids)
    ys = []
    for t in range(x.shape[1]):
        y_t, state = _step(x[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        ys.append(y_t)
    y = torch.stack(ys, dim=1) if ys else torch.empty_like(x)
    return y.to(dtype), state


@_outside_autocast
def step(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token of the recurrence: O(1) in the length of what came before.

    Args:
        x_t: (b,h,p). log_decay_t: (b,h). B_t, C_t: (b,g,n). state: (b,h,p,n).

    Returns:
        y_t (b,h,p) in the dtype of x_t, and the new state (b,h,p,n). The given state is left as it was.

    Raises:
        TypeError, ValueError: as `sequential`.
    """
    _check(x_t, log_decay_t, B_t, C_t, state, "state", tokens="b", suffix="_t")
    accumulate = torch.promote_types(x_t.dtype, torch.float32)
    y_t, new_state = _step(
        x_t.to(accumulate),
        log_decay_t.to(accumulate),
        B_t.to(accumulate),
        C_t.to(accumulate),
        state.to(accumulate),
    )
    return y_t.to(x_t.dtype), new_state


def _step(x_t: Tensor, log_decay_t: Tensor, B_t: Tensor, C_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    b, h, p, n = state.shape
    g = B_t.shape[1]
    # state + state * (exp(a) - 1), not state * exp(a). A decay near 1 is rounded by the same amount in each step, which
    # adds up over the thousand tokens that a slow head remembers. exp(a) - 1 is small there, and so is its rounding.
    kept = torch.addcmul(state, state, torch.expm1(log_decay_t)[:, :, None, None])
    grouped = kept.reshape(b, g, h // g * p, n)  # the heads of a group lie side by side and share its B and C
    written = x_t.reshape(b, g, h // g * p, 1)
    new_state = transforms.add_product(grouped, written, B_t[:, :, None, :])  # (b,g,hp,n), and `kept` is ours alone
    y_t = torch.matmul(new_state, C_t[:, :, :, None])  # (b,g,hp,1)
    return y_t.view(b, h, p), new_state.view(b, h, p, n)


@_outside_autocast
def quadratic(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    initial_state: Tensor | None = None,
    *,
    document_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The dual: y = (L o C B^T) x, attention with a decay mask in place of a softmax. O(l^2) time and memory.

    Arguments, results and errors are those of `sequential`. (Paper, section 5.)
    """
    dtype = x.dtype
    x, log_decay, B, C, state = _prepare(x, log_decay, B, C, initial_state, document_ids)
    g = B.shape[2]
    x = rearrange(x, "b l (g r) p -> b g r l p", g=g)  # r: heads per group
    log_decay = rearrange(log_decay, "b l (g r) -> b g r l", g=g)
    B, C = (rearrange(factor, "b l g n -> b g 1 l n") for factor in (B, C))
    initial = rearrange(state, "b (g r) p n -> b g r p n", g=g)

    decay = torch.exp(segsum(log_decay))  # L, the mask (b,g,r,l,l)
    from_start = torch.exp(torch.cumsum(log_decay, dim=-1)).unsqueeze(-1)  # (b,g,r,l,1)
    attention = decay * (C @ B.mT)  # M
    y = attention @ x + from_start * (C @ initial.mT)

    if x.shape[3] > 0:
        to_end = decay[..., -1, :].unsqueeze(-1)  # (b,g,r,l,1)
        state = from_start[..., -1:, :] * initial + (x * to_end).mT @ B
        state = rearrange(state, "b g r p n -> b (g r) p n")
    return rearrange(y, "b g r l p -> b l (g r) p").to(dtype), state


@_outside_autocast
def chunked(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    initial_state: Tensor | None = None,
    chunk_size: int = 64,
    *,
    document_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """SSD: attention inside chunks, a recurrence of states between them. O(l) time, nearly all in matrix products.

    Arguments, results and errors are those of `sequential`. Any length l >= 0 works: the last chunk is as long as it
    is. `chunk_size` trades attention work for state work and changes nothing in the result. (Paper, section 6.)

    On cuda, where B and C come in bfloat16, the factors of all products are rounded to it, which costs about 5e-3 of
    the largest y and of the largest state; and chunks are as long as serves such products, 128 at least.
    """
    require_whole("chunk_size", chunk_size)
    require(chunk_size >= 1, "chunk_size", "at least 1", chunk_size)
    dtype = x.dtype
    compute: Callable[..., tuple[Tensor, Tensor]] = _chunk_block
    chunks_per_block = CHUNKS_PER_BLOCK
    if _multiplies_in_bfloat16(B, C):
        compute, chunks_per_block = _bfloat16_block, BFLOAT16_CHUNKS_PER_BLOCK
        chunk_size = max(chunk_size, BFLOAT16_CHUNK_SIZE)
    x, log_decay, B, C, state = _prepare(x, log_decay, B, C, initial_state, document_ids)
    ys = []
    for start, stop in _blocks(x.shape[1], chunk_size, chunks_per_block):
        part = (tensor[:, start:stop] for tensor in (x, log_decay, B, C))
        y, state = compute(*part, state, min(chunk_size, stop - start))
        ys.append(y)
    y = x if not ys else ys[0] if len(ys) == 1 else torch.cat(ys, dim=1)
    return y.to(dtype), state


def _multiplies_in_bfloat16(B: Tensor, C: Tensor) -> bool:
    """Whether `chunked` rounds the factors of its products to bfloat16: where B and C come so, on cuda.

    There it pays: compiled, an H200 takes a fifth of the time that it takes in float32. A CPU multiplies such small
    matrices more slowly in bfloat16 than in float32, and on mps nobody has measured it. Not in float16, where a state
    above 65,504 would be infinite.
    """
    return B.device.type == "cuda" and B.dtype == C.dtype == torch.bfloat16


def _blocks(l: int, chunk_size: int, chunks_per_block: int) -> list[tuple[int, int]]:
    """Cut 0..l into blocks of whole chunks, and what is left over into one shorter chunk."""
    whole = l - l % chunk_size
    edges = list(range(0, whole, chunk_size * chunks_per_block)) + [whole]
    if whole < l:
        edges.append(l)
    return [(start, stop) for start, stop in zip(edges, edges[1:], strict=False) if start < stop]


def _chunk_block(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """A run of whole chunks, all at once: the four steps of SSD. Inputs are checked and in the accumulating dtype."""
    g = B.shape[2]
    x = rearrange(x, "b (c q) (g r) p -> b c g r q p", q=chunk_size, g=g)  # r: heads per group
    log_decay = rearrange(log_decay, "b (c q) (g r) -> b c g r q", q=chunk_size, g=g)
    B = rearrange(B, "b (c q) g n -> b c g q n", q=chunk_size)
    C = rearrange(C, "b (c q) g n -> b c g q n", q=chunk_size)
    decay, to_end = with_own_backward(_Decay, log_decay)  # (b c g r q q), L on and below the diagonal; (b c g r q)

    # 1. Diagonal blocks: inside a chunk, masked attention. C B^T is shared by the heads of a group, and so is the mask.
    scores = (C @ B.mT).tril()  # (b c g q q)
    y = (decay * scores.unsqueeze(3)) @ x  # (b c g r q p)

    # 2. Low-rank blocks, the right factor: what each chunk alone leaves behind at its end.
    left_behind = _heads_side_by_side(x * to_end.unsqueeze(-1)).mT @ B  # (b c g rp n)

    # 3. The middle factor: the same recurrence one level up, over chunks instead of tokens.
    since_start = torch.cumsum(log_decay, dim=-1)  # (b c g r q)
    states, final_state = _pass_between_chunks(left_behind, since_start[..., -1], state)  # (b c g rp n)

    # 4. The left factor: what each chunk reads of the state that came in.
    read = C @ states.mT  # (b c g q rp)
    read = rearrange(read, "b c g q (r p) -> b c g r q p", p=x.shape[-1])
    y = torch.addcmul(y, read, torch.exp(since_start).unsqueeze(-1))

    return rearrange(y, "b c g r q p -> b (c q) (g r) p"), final_state


def _bfloat16_block(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """`_chunk_block` with the factors of products in bfloat16, arranged for torch.compile on cuda.

    Each product is over the same (b g r c), so that a compiler can let it take its factors straight from x, B, C and
    the decays, and make one kernel of the two that add up to y; inductor's option triton.native_matmul does that. Only
    scores and the states of chunks are in memory in between, in bfloat16; states are carried on from chunk to chunk in
    float32. In the order (b g r c) the heads of y come apart without a copy.
    """
    g, half = B.shape[2], torch.bfloat16
    x = rearrange(x, "b (c q) (g r) p -> b g r c q p", q=chunk_size, g=g)
    log_decay = rearrange(log_decay, "b (c q) (g r) -> b g r c q", q=chunk_size, g=g)
    B, C = (rearrange(factor.to(half), "b (c q) g n -> b g 1 c q n", q=chunk_size) for factor in (B, C))
    cumulated = torch.cumsum(log_decay.double(), dim=-1)  # (b g r c q)

    # 1. Diagonal blocks.
    scores = C @ B.mT  # (b g 1 c q q)
    y = (scores * _decay_from_cumulated(cumulated)).to(half) @ x.to(half)  # (b g r c q p)

    # 2. What each chunk leaves behind.
    to_end = torch.exp((cumulated[..., -1:] - cumulated).float()).unsqueeze(-1)  # (b g r c q 1)
    left_behind = (x * to_end).to(half).mT @ B  # (b g r c p n)

    # 3. States before each chunk.
    initial = rearrange(state, "b (g r) p n -> b g r p n", g=g)
    before, final = _pass_in_groups(left_behind, cumulated[..., -1].float(), initial)

    # 4. What each chunk reads of the state that came in.
    since_start = torch.exp(cumulated.float()).unsqueeze(-1)  # (b g r c q 1)
    y = y + (C * since_start).to(half) @ before.mT

    return rearrange(y, "b g r c q p -> b (c q) (g r) p"), rearrange(final, "b g r p n -> b (g r) p n")


def _decay_from_cumulated(cumulated: Tensor) -> Tensor:
    """L = exp(segsum) in float32, from float64 sums of log decays since the start of a chunk: (...,q) -> (...,q,q)."""
    q = cumulated.shape[-1]
    above = torch.ones(q, q, dtype=torch.bool, device=cumulated.device).triu(1)
    return torch.exp(_differences(cumulated).masked_fill(above, -math.inf))


def _pass_in_groups(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """States before each chunk in the dtype of left_behind, and the last in float32.

    left_behind (...,c,p,n), chunk_log_decay (...,c), state (...,p,n) -> (...,c,p,n) and (...,p,n)

    Many chunks are passed in groups, all at once: first what each group alone leaves behind; then from group to group;
    then through each group again, from what came in.
    """
    c = left_behind.shape[-3]
    if c <= 2 * CHUNKS_PER_GROUP:
        return _pass_chunk_by_chunk(left_behind, chunk_log_decay, state)
    padding = -c % CHUNKS_PER_GROUP  # with chunks that write nothing and keep everything
    left_behind = torch.nn.functional.pad(left_behind, (0, 0, 0, 0, 0, padding))
    chunk_log_decay = torch.nn.functional.pad(chunk_log_decay, (0, padding))
    left_behind = left_behind.unflatten(-3, (-1, CHUNKS_PER_GROUP))  # (..., groups, chunks, p, n)
    chunk_log_decay = chunk_log_decay.unflatten(-1, (-1, CHUNKS_PER_GROUP))
    nothing = torch.zeros_like(left_behind[..., 0, :, :], dtype=state.dtype)
    _, left_by_groups = _pass_chunk_by_chunk(left_behind, chunk_log_decay, nothing)
    before_groups, final = _pass_chunk_by_chunk(left_by_groups, chunk_log_decay.sum(dim=-1), state)
    before, _ = _pass_chunk_by_chunk(left_behind, chunk_log_decay, before_groups)
    return before.flatten(-4, -3)[..., :c, :, :], final


def _pass_chunk_by_chunk(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return _in_turn(left_behind, torch.exp(chunk_log_decay)[..., None, None], state, dim=-3)


def _in_turn(left_behind: Tensor, kept: Tensor, state: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """States before each chunk, stacked in the dtype of left_behind, and the last as it is."""
    before = []
    for left, share in zip(left_behind.unbind(dim), kept.unbind(dim), strict=True):
        before.append(state.to(left_behind.dtype))
        state = torch.addcmul(left, state, share)
    return torch.stack(before, dim=dim), state


def _heads_side_by_side(x: Tensor) -> Tensor:
    return rearrange(x, "b c g r q p -> b c g q (r p)")


def _pass_between_chunks(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """States before each chunk, and after the last: from what each leaves behind and how much it lets through.

    left_behind (b,c,g,rp,n), chunk_log_decay (b,c,g,r), state (b,h,p,n) -> (b,c,g,rp,n) and (b,h,p,n)

    Two ways, the same numbers. One chunk after another is least work, and on a CPU the whole scan takes 0.87 of the
    time (130m's shape, 2,048 tokens). Elsewhere a product with the matrix of decays between chunks is a fixed number
    of kernels.
    """
    pass_on = _pass_in_turn if left_behind.device.type == "cpu" else _pass_at_once
    before, final = pass_on(left_behind, chunk_log_decay, state.reshape(left_behind[:, 0].shape))
    return before, final.reshape(state.shape)


def _pass_in_turn(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    p = left_behind.shape[-2] // chunk_log_decay.shape[-1]
    kept = torch.exp(chunk_log_decay).repeat_interleave(p, dim=-1).unsqueeze(-1)  # (b c g rp 1)
    return with_own_backward(_PassInTurn, left_behind, kept, state)


class _PassInTurn(torch.autograd.Function):
    """left_behind (b,c,g,rp,n), kept (b,c,g,rp,1), state (b,g,rp,n) -> states before each chunk, and the last.

    Its own backward pass, because autograd would keep each state twice: once for the next, once among the others.
    """

    @staticmethod
    def forward(left_behind: Tensor, kept: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return _in_turn(left_behind, kept, state, dim=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        before, kept = ctx.saved_tensors
        grad_before, grad = grads
        grad_after = []  # of the state after each chunk, and so of what the chunk leaves behind; the last chunk first
        for i in reversed(range(before.shape[1])):
            grad_after.append(grad)
            grad = torch.addcmul(grad_before[:, i], grad, kept[:, i])
        grad_left = torch.stack(grad_after[::-1], dim=1)
        return grad_left, (grad_left * before).sum(dim=-1, keepdim=True), grad


def _pass_at_once(left_behind: Tensor, chunk_log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    r, n = chunk_log_decay.shape[-1], left_behind.shape[-1]
    log_decay = torch.nn.functional.pad(rearrange(chunk_log_decay, "b c g r -> b g r c"), (1, 0))
    decay = torch.exp(segsum(log_decay))  # (b g r c+1 c+1)
    sources = torch.cat([state.unsqueeze(1), left_behind], dim=1)
    states = decay @ rearrange(sources, "b c g (r p) n -> b g r c (p n)", r=r)
    states = rearrange(states, "b g r c (p n) -> b c g (r p) n", n=n)
    return states[:, :-1], states[:, -1]


def segsum(log_decay: Tensor) -> Tensor:
    """Segment sums: (..., l) -> (..., l, l), the summed log decay from source s to target t; -inf above the diagonal.

    Entry (t, s) is log_decay_{s+1} + ... + log_decay_t: a token's own decay is not applied to what it writes, so the
    diagonal is 0. Each column is summed afresh from its own start. The shorter formula cumsum_t - cumsum_s subtracts
    two large numbers to get a small one, and loses the digits that matter (paper, section 6.2 and `ssd_minimal.py`).
    """
    l = log_decay.shape[-1]
    above = torch.ones(l, l, dtype=torch.bool, device=log_decay.device).triu(1)
    return _sums_since_source(log_decay).masked_fill(above, -math.inf)


def _sums_since_source(log_decay: Tensor) -> Tensor:
    """`segsum` with 0 above the diagonal."""
    l = log_decay.shape[-1]
    after_source = torch.ones(l, l, dtype=torch.bool, device=log_decay.device).tril(-1)  # t > s
    terms = torch.where(after_source, log_decay.unsqueeze(-1), 0.0)  # terms[t, s] = log_decay_t
    return torch.cumsum(terms.reshape(math.prod(log_decay.shape[:-1]), l, l), dim=-2).view(terms.shape)


def _sums_by_difference(log_decay: Tensor) -> Tensor:
    """`_sums_since_source` of float32, in 0.4 of its time on a CPU."""
    return _differences(torch.cumsum(log_decay.double(), dim=-1)).tril_()


def _differences(cumulated: Tensor) -> Tensor:
    """Float64 sums since a start (..., l) -> float32 sums from source to target (..., l, l), on and below the diagonal.

    A difference of two sums loses the digits that they share. In float64 there are 29 bits to lose.
    """
    return (cumulated.unsqueeze(-1) - cumulated.unsqueeze(-2)).float()


class _Decay(torch.autograd.Function):
    """exp of `_sums_since_source` (..., l, l), and its last row, the decay from each source to the end: (..., l).

    Its own backward pass. log_decay_t is part of every sum from a source before t to a target at or after t, so its
    gradient is a sum over sources, then over targets. Autograd would flip a matrix of that size twice, for its cumsum.
    What comes back from above the diagonal is left out.
    """

    @staticmethod
    def forward(log_decay: Tensor) -> tuple[Tensor, Tensor]:
        by_difference = log_decay.device.type == "cpu" and log_decay.dtype == torch.float32
        by_difference &= not transforms.by_torch_func()
        decay = (_sums_by_difference if by_difference else _sums_since_source)(log_decay).exp_()
        return decay, decay[..., -1, :].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (decay,) = ctx.saved_tensors
        l, batch = decay.shape[-1], math.prod(decay.shape[:-2])  # one batch axis: mps is wrong with many
        matrices = (grads[0] * decay).reshape(batch, l, l).tril_(-1)
        over_sources = torch.cumsum(matrices, dim=-1)  # [t, s]: sources up to s
        grad = over_sources.tril_(-1).sum(dim=-2)  # [s]: and targets after s, that is, at s + 1 or later
        to_end = (grads[1] * decay[..., -1, :]).reshape(batch, l)
        grad = grad + torch.cumsum(to_end, dim=-1)  # the end is a target after all of them
        return torch.nn.functional.pad(grad[:, :-1], (1, 0)).reshape(decay.shape[:-1])


def _prepare(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor | None, document_ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Check the arguments, bring them to the accumulating dtype, and turn document ids into restarts."""
    _check(x, log_decay, B, C, state)
    if document_ids is not None:
        _check_shape("document_ids", document_ids, tuple(x.shape[:2]), "(b,l)")
        if document_ids.is_floating_point():
            raise TypeError(f"document_ids must be integers; got {document_ids.dtype}")
    accumulate = torch.promote_types(x.dtype, torch.float32)
    b, _, h, p = x.shape
    if state is None:
        state = torch.zeros(b, h, p, B.shape[-1], dtype=accumulate, device=x.device)
    log_decay = log_decay.to(accumulate).clamp(min=RESTART)  # -inf, too, is to forget everything
    if document_ids is not None:
        log_decay = log_decay.masked_fill(document_starts(document_ids).unsqueeze(-1), RESTART)
    return x.to(accumulate), log_decay, B.to(accumulate), C.to(accumulate), state.to(accumulate)


def document_starts(document_ids: Tensor) -> Tensor:
    """(b,l) -> (b,l) bool: True where the id differs from the one before. The first token never is: it goes on."""
    changes = document_ids[:, 1:] != document_ids[:, :-1]
    return torch.nn.functional.pad(changes, (1, 0))


def _check(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None,
    state_name: str = "initial_state",
    *,
    tokens: str = "b,l",
    suffix: str = "",
) -> None:
    """Shapes and dtypes, for sequences (tokens "b,l") or for one token of each (tokens "b")."""
    arguments = (("x", x, "h,p"), ("log_decay", log_decay, "h"), ("B", B, "g,n"), ("C", C, "g,n"))
    for name, tensor, rest in arguments:
        dims = f"{tokens},{rest}"
        if tensor.ndim != dims.count(",") + 1:
            raise ValueError(f"{name}{suffix} must have shape ({dims}); got {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name}{suffix} must be floating point; got {tensor.dtype}")
    *bl, h, p = x.shape
    g, n = B.shape[-2:]
    _check_shape(f"log_decay{suffix}", log_decay, (*bl, h), f"({tokens},h) to go with x{suffix}")
    _check_shape(f"B{suffix}", B, (*bl, g, n), f"({tokens},g,n) to go with x{suffix}")
    _check_shape(f"C{suffix}", C, (*bl, g, n), f"that of B{suffix}")
    if g == 0 or h % g:
        raise ValueError(
            f"B{suffix} must have a number of groups that divides the {h} heads of x{suffix}; got {g} groups"
        )
    if state is not None:
        _check_shape(state_name, state, (bl[0], h, p, n), "(b,h,p,n)")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {what}, {shape}; got {tuple(tensor.shape)}")
