"""A prompt through a Mamba-2 on mps: its convolution and its scan in one kernel each.

The scan goes token after token, where the definition goes chunk after chunk. Counted for 1,024 tokens through a layer
of "130m", in float32 and chunks of 64, every tensor that a kernel reads or writes once:

                                            launches     bytes    at 68 GB/s    at 120 GB/s
    chunk by chunk                                33    256 MB        3.8 ms         2.1 ms
    its products, if all else were free            5     86 MB        1.3 ms         0.7 ms
    token by token                                 1     15 MB        0.2 ms         0.1 ms

Apple gives 68 GB/s for an M1 and 120 for an M4, and no cost of a launch. On an M1 Pro one element took 5 to 8 us
through a Metal kernel of torch's, and 20 us through MPSGraph (pytorch/pytorch, issue 148219): 33 such launches take 0.2
to 0.7 ms. So not even with all the work around its products in one kernel do chunks move as little as a state that
stays in registers from the first token to the last.

What no count shows is how long the chain of 1,024 steps takes, and how fast caches are: B and C are read once for each
ROWS rows of a head, 403 MB in all, which from memory would take 5.9 and 3.4 ms. So both ways are timed on the machine
at hand, and the sooner one is taken.

Only where no gradients are asked for: a training step goes chunk by chunk, as it is defined.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.proof import by_metal
from mamba2_lab.fast.metal.rows import as_tried, drawn_like, inside_a_larger_one
from mamba2_lab.layers.convolution import convolve
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.machine.strides import in_rows
from mamba2_lab.scan.chunks import in_stretches

ROWS = 4  # of a head's state for a simdgroup: B and C are read once for all of them
LARGEST_STATE = 256  # of which lanes hold their share in registers
LONG = 256  # tokens: what is sooner for shorter sequences is asked apart


# The convolution


def _convolves(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None, silu: bool) -> bool:
    given = (x, window, taps, bias)
    return (
        x.dtype in shaders.NUMBERS
        and all(each.dtype == x.dtype for each in given)
        and 0 < x.numel() < shaders.MOST_IN_GRID
        and window.numel() > 0
        and (documents is None or documents.dtype == torch.int32)
    )


def _a_sequence_to_convolve(
    x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None, silu: bool
) -> tuple[Tensor | bool | None, ...]:
    with seeded(0):
        x = as_tried(x)
        others = map(drawn_like, (window[: len(x)], taps, bias))
        tokens = (len(x), window.shape[1] + x.shape[1])
        packed = None if documents is None else torch.randint(0, 3, tokens, dtype=torch.int32).sort(1).values
        return inside_a_larger_one(x), *others, packed, silu


@by_metal(
    convolve,
    serves=_convolves,
    key=lambda x, window, taps, bias, documents, silu: (x.dtype, taps.shape[0], documents is None, silu),
    drawn=_a_sequence_to_convolve,
    within=1e-5,
)
def _(x: Tensor, window: Tensor, taps: Tensor, bias: Tensor, documents: Tensor | None, silu: bool) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    given, stride = in_rows(x)
    # A place must have something in it.
    packed = torch.empty(1, dtype=torch.int32, device=x.device) if documents is None else documents.contiguous()
    run = shaders.kernel(
        "convolve",
        "convolve",
        NUMBER=shaders.NUMBERS[x.dtype],
        WIDTH=taps.shape[0],
        PACKED=int(documents is not None),
        SILU=int(silu),
    )
    run(
        *(given, window.contiguous(), taps.contiguous(), bias.contiguous(), packed, y),
        *(x.shape[1], x.shape[2], stride),
        threads=[y.numel()],
        group_size=[256],
    )
    return y


# The scan


def _scans(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> bool:
    return (
        x.dtype == log_decay.dtype == state.dtype == torch.float32
        and B.dtype in shaders.NUMBERS
        and C.dtype == B.dtype
        and x.numel() > 0
        and 0 < B.shape[-1] <= LARGEST_STATE
    )


def _sizes(x: Tensor, B: Tensor) -> dict[str, str | int]:
    return {
        "NUMBER": shaders.NUMBERS[B.dtype],
        "HEADS": x.shape[2],
        "HEADDIM": x.shape[3],
        "GROUPS": B.shape[2],
        "STATE": B.shape[3],
        "ROWS": ROWS,
    }


def _a_sequence_to_scan(
    x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int
) -> tuple[Tensor | int, ...]:
    with seeded(0):
        x, log_decay = as_tried(x), as_tried(log_decay)
        factors = (inside_a_larger_one(as_tried(each)) for each in (B, C))
        decays = -F.softplus(3 * torch.randn(log_decay.shape) - 3)  # from hardly any to a few tokens
        return drawn_like(x), decays, *factors, drawn_like(state[: len(x)]), chunk_size


@by_metal(
    in_stretches,
    serves=_scans,
    key=lambda x, log_decay, B, *rest: (*_sizes(x, B).values(), x.shape[1] >= LONG),
    drawn=_a_sequence_to_scan,
    within=1e-5,
)
def _(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    b, l, h, p = x.shape
    y, after = torch.empty((b, l, h, p), device=x.device), torch.empty(state.shape, device=x.device)
    (B, step_of_B), (C, step_of_C) = (in_rows(each.flatten(2)) for each in (B, C))
    run = shaders.kernel("scan", "scan", **_sizes(x, B.unflatten(2, (-1, state.shape[-1]))))
    run(
        *(x.contiguous(), log_decay.contiguous(), B, C, state.contiguous(), y, after, l, b, step_of_B, step_of_C),
        **shaders.simdgroups(b * h * -(-p // ROWS)),
    )
    return y, after
