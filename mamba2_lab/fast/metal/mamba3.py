"""One token through a Mamba-3 on mps, in three kernels.

in_proj             by torch
normalise_and_turn  norms and biases of B and C, their rotation, the trapezoidal rule, the skip, the gate, its norm
out_proj            by torch
"""

from __future__ import annotations

import torch
from torch import Tensor

from mamba2_lab.fast.known import are_unchanged
from mamba2_lab.fast.metal import shaders
from mamba2_lab.fast.metal.proof import by_metal
from mamba2_lab.fast.metal.rows import drawn_like, fit, with_small_matrices
from mamba2_lab.layers import GatedRMSNorm, Mamba3, Mamba3State, RMSNorm
from mamba2_lab.machine.seeds import seeded
from mamba2_lab.operation import operation

TEAMS = 8  # simdgroups that share the rows of a head's state


def is_as_written(mixer: Mamba3) -> bool:
    """Whether no part of it is exchanged, hooked or overridden. Projections may be anything."""
    norms = (mixer.B_norm, mixer.C_norm, *_norms(mixer))
    kinds = (RMSNorm, RMSNorm, GatedRMSNorm)[: len(norms)]
    return tuple(map(type, norms)) == kinds and are_unchanged(mixer, *norms)


def step(mixer: Mamba3, u: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
    """`Mamba3.step`."""
    y, state = normalise_and_turn(mixer, mixer.in_proj(u), state)
    return mixer.out_proj(y), state


@operation
def normalise_and_turn(mixer: Mamba3, projected: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
    """What a Mamba-3 makes of a token between its matrices: (b,d_in_proj) and a state before it -> (b,d_inner) and the
    state after it."""
    return mixer.between_matrices(mixer.parts(projected), state)


def _norms(mixer: Mamba3) -> tuple[GatedRMSNorm, ...]:
    return () if mixer.norm is None else (mixer.norm,)


def _of_ranks(mixer: Mamba3) -> tuple[Tensor, ...]:
    return (mixer.mimo_x, mixer.mimo_z, mixer.mimo_o) if mixer.config.is_mimo else ()


def _lies_between(mixer: Mamba3, projected: Tensor, state: Mamba3State) -> bool:
    """Whether everything is as large as the config says, and a group of threads may share what it is to share."""
    config, b, dtype = mixer.config, projected.shape[0], projected.dtype
    h, r, p, n = config.nheads, config.rank, config.headdim, config.d_state
    shapes = [
        (projected, (b, sum(mixer.widths()))),
        *((each, (h,)) for each in (mixer.dt_bias, mixer.D)),
        *((each, (h, r, n)) for each in (mixer.B_bias, mixer.C_bias)),
        *((each.weight, (n,)) for each in (mixer.B_norm, mixer.C_norm)),
        *((each, (h, r, p)) for each in _of_ranks(mixer)),
        *((each.weight, (config.d_inner,)) for each in _norms(mixer)),
    ]
    kept = state.tensors()
    return (
        b > 0
        and dtype in shaders.NUMBERS
        and fit(shapes, dtype)
        and fit(((kept[name], shape) for name, shape in mixer.state_shapes(b).items()), torch.float32)
        and 4 * (2 * r * n + 2 * config.angles + r * p) <= shaders.MOST_TOGETHER
    )


def _compiled_for(mixer: Mamba3, dtype: torch.dtype) -> dict[str, str | int]:
    config = mixer.config
    return {
        "NUMBER": shaders.NUMBERS[dtype],
        "HEADS": config.nheads,
        "HEADDIM": config.headdim,
        "GROUPS": config.ngroups,
        "STATE": config.d_state,
        "RANKS": config.rank,
        "ANGLES": config.angles,
        "MIMO": int(config.is_mimo),
        "NORM": int(mixer.norm is not None),
        "HEAVY_TAIL": int(config.A_activation == "heavy_tail"),
    }


def _a_token(mixer: Mamba3, projected: Tensor, state: Mamba3State) -> tuple[Mamba3, Tensor, Mamba3State]:
    with seeded(0), torch.no_grad():
        drawn = Mamba3(**with_small_matrices(mixer.config), device="cpu").to(projected.dtype)
        for weight in (drawn.D, drawn.B_bias, drawn.C_bias, *_of_ranks(drawn)):
            weight.normal_()
        return drawn, drawn_like(projected), state.map(drawn_like)


@by_metal(
    normalise_and_turn,
    serves=_lies_between,
    key=lambda mixer, projected, state: tuple(_compiled_for(mixer, projected.dtype).values()),
    drawn=_a_token,
    within=1e-5,
)
def _(mixer: Mamba3, projected: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
    config, b = mixer.config, projected.shape[0]
    before = state.map(torch.Tensor.contiguous)
    after = before.map(torch.empty_like)
    y = projected.new_empty(b, config.d_inner)
    # A place must have something in it.
    of_ranks = _of_ranks(mixer) or (mixer.D,) * 3
    gate = mixer.B_norm if mixer.norm is None else mixer.norm
    weights = (mixer.dt_bias, mixer.D, mixer.B_bias, mixer.C_bias, mixer.B_norm.weight, mixer.C_norm.weight)
    run = shaders.kernel("mamba3", "token_of_mamba3", **_compiled_for(mixer, projected.dtype))
    run(
        *(projected.contiguous(), *before.tensors().values()),
        *map(torch.Tensor.contiguous, (*weights, *of_ranks, gate.weight)),
        *(y, *after.tensors().values(), config.A_floor, mixer.B_norm.eps, mixer.C_norm.eps, gate.eps),
        **shaders.groups(b * config.nheads, shaders.LANES * min(TEAMS, config.headdim)),
    )
    return y, after
