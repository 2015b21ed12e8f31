"""What notebook 03 builds is what the package computes with, and its claims about memories hold in float64."""

import torch
import torch.nn.functional as F

from mamba2_lab import scan
from mamba2_lab.config import Mamba2Config
from mamba2_lab.course.exercises.choosing_what_to_remember import (
    as_mamba1,
    dt_to_hold,
    held,
    selective_rule,
    selective_scan,
)
from mamba2_lab.layers import Mamba2

l, h, p, n = 9, 3, 4, 5


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_held_is_the_final_state_of_the_package_for_words_with_entries_of_their_own():
    dt, A = drawn(2, l, seed=1).exp(), torch.tensor([-0.5, -2.0], dtype=torch.float64)
    x = torch.eye(l, dtype=torch.float64)[None, :, None].expand(1, l, 2, l) * dt.mT[None, ..., None]
    ones = torch.ones(1, l, 1, 1, dtype=torch.float64)
    _, state = scan.sequential(x, dt.mT[None] * A, ones, ones)
    torch.testing.assert_close(held(dt, A[:, None]), state[0, ..., 0])


def test_the_dt_that_hold_do_so_in_the_package_too():
    marked = torch.tensor([False, True, True, False, True])
    dt = dt_to_hold(marked, 0.3, -1.5).double()
    x = torch.eye(5, dtype=torch.float64)[None, :, None] * dt[None, :, None, None]
    ones = torch.ones(1, 5, 1, 1, dtype=torch.float64)
    _, state = scan.sequential(x, (dt * -1.5)[None, :, None], ones, ones)
    torch.testing.assert_close(state[0, 0, :, 0], 0.3 * marked.double(), rtol=1e-6, atol=1e-7)


def test_the_rule_gives_the_dt_of_the_package_from_the_weights_of_a_block():
    mixer = Mamba2(d_model=8, d_state=n, headdim=4).double()
    config: Mamba2Config = mixer.config
    u = drawn(2, l, 8, seed=2)
    _, xBC, raw = mixer.project(u)
    weight = mixer.in_proj.weight
    rows = torch.cat([weight[-config.nheads :], weight[2 * config.d_inner : -config.nheads]])
    bias = F.pad(mixer.dt_bias.detach(), (0, 2 * n))
    dt, B, C = selective_rule(u, rows.detach(), bias, n)
    expected = mixer.discretise(xBC, raw)
    torch.testing.assert_close(dt, expected.dt.detach())
    torch.testing.assert_close(B, expected.B.squeeze(2).detach())
    torch.testing.assert_close(C, expected.C.squeeze(2).detach())


def test_mamba2_is_a_mamba1_in_which_decays_are_shared():
    x, B, C = drawn(l, h * p, seed=3), drawn(l, n, seed=4), drawn(l, n, seed=5)
    dt, A = F.softplus(drawn(l, h, seed=6)), -drawn(h, seed=7).exp()
    x_dt = x.view(1, l, h, p) * dt[None, ..., None]
    y, _ = scan.sequential(x_dt, (dt * A)[None], B[None, :, None], C[None, :, None])
    torch.testing.assert_close(selective_scan(x, *as_mamba1(dt, A, p, n), B, C), y.view(l, h * p))
