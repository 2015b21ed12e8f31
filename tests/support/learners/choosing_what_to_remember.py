"""Answers to notebook 03."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

# held


@wrong("held", "What a word writes has not faded yet at that word")
def fades_by_its_own_step_too(dt, A):
    total = dt.flip(-1).cumsum(-1).flip(-1)
    return dt * torch.exp(A * total)


@wrong("held", "It says what is left of a writing of 1")
def does_not_write_dt(dt, A):
    after = dt.sum(-1, keepdim=True) - dt.cumsum(-1)
    return torch.exp(A * after)


@wrong("held", "Each later word is counted as if it took as long as this")
def counts_words_for_time(dt, A):
    l = dt.shape[-1]
    return dt * torch.exp(A * dt * torch.arange(l - 1, -1, -1))


@right("held")
def held_by_a_loop(dt, A):
    state = torch.zeros_like(dt)
    for t in range(dt.shape[-1]):
        state = state * torch.exp(dt[..., t : t + 1] * A)
        state[..., t] = state[..., t] + dt[..., t]
    return state


@right("held")
def held_in_float64(dt, A):
    after = dt.double().sum(-1, keepdim=True) - dt.double().cumsum(-1)
    return dt.double() * torch.exp(A * after)


@right("held")
def held_by_numpy(dt, A):
    dt, A = dt.numpy(), np.asarray(A)
    after = dt.sum(-1, keepdims=True) - dt.cumsum(-1)
    return dt * np.exp(A * after)


# dt_to_hold


@wrong("dt_to_hold", "Every marked word is written alike, so the earlier ones")
def the_amount_at_each(marked, amount, A):
    return amount * marked.float()


@wrong("dt_to_hold", "The time that passes at a later marked word is its own dt")
def a_full_dt_at_each_later_word(marked, amount, A):
    later = marked.flip(0).cumsum(0).flip(0) - marked.long()
    return torch.where(marked, amount * torch.exp(-A * amount * later), 0.0)


@wrong("dt_to_hold", "It goes through the words forwards, and lets a word make")
def from_the_left(marked, amount, A):
    dt, passed = torch.zeros(len(marked)), 0.0
    for t in range(len(marked)):
        if marked[t]:
            dt[t] = amount * math.exp(-A * passed)
            passed += dt[t].item()
    return dt


@right("dt_to_hold")
def a_list_from_the_right(marked, amount, A):
    dt, after = [], 0.0
    for mark in reversed(marked.tolist()):
        dt.insert(0, amount * math.exp(-A * after) if mark else 0.0)
        after += dt[0]
    return dt


@right("dt_to_hold")
def an_array_from_the_right(marked, amount, A):
    dt, after = np.zeros(len(marked)), 0.0
    for t in reversed(range(len(marked))):
        if marked[t]:
            dt[t] = amount * np.exp(-A * after)
            after += dt[t]
    return dt


@right("dt_to_hold")
def in_a_float64_tensor(marked, amount, A):
    dt = torch.zeros(len(marked), dtype=torch.float64)
    for t in range(len(marked) - 1, -1, -1):
        if marked[t]:
            dt[t] = amount * torch.exp(-A * dt[t + 1 :].sum())
    return dt


# selective_rule


@wrong("selective_rule", "relu gives 0 for every negative number")
def relu_for_softplus(u, weight, bias, n):
    out = u @ weight.T + bias
    h = weight.shape[0] - 2 * n
    dt, B, C = out.split([h, n, n], dim=-1)
    return F.relu(dt), B, C


@wrong("selective_rule", "The bias is left out")
def without_the_bias(u, weight, bias, n):
    out = F.linear(u, weight)
    dt, B, C = out.split([weight.shape[0] - 2 * n, n, n], dim=-1)
    return F.softplus(dt), B, C


@wrong("selective_rule", "`dt` is taken from the end")
def b_and_c_first(u, weight, bias, n):
    out = F.linear(u, weight, bias)
    B, C, dt = out.split([n, n, weight.shape[0] - 2 * n], dim=-1)
    return F.softplus(dt), B, C


@right("selective_rule")
def a_list_of_slices(u, weight, bias, n):
    out = F.linear(u, weight, bias)
    return [F.softplus(out[..., : -2 * n]), out[..., -2 * n : -n], out[..., -n:]]


@right("selective_rule")
def rule_by_einsum(u, weight, bias, n):
    out = torch.einsum("...d,kd->...k", u, weight) + bias
    h = len(bias) - 2 * n
    return torch.log1p(torch.exp(out[..., :h])), out[..., h : h + n], out[..., h + n :]


@right("selective_rule")
def rule_by_numpy(u, weight, bias, n):
    out = u.detach().numpy() @ weight.detach().numpy().T + bias.detach().numpy()
    return np.logaddexp(0, out[..., : -2 * n]), out[..., -2 * n : -n], out[..., -n:]


# selective_scan


@wrong("selective_scan", "What is written lacks dt")
def writes_x_without_dt(x, dt, A, B, C):
    h, ys = torch.zeros_like(A), []
    for t in range(len(x)):
        h = torch.exp(dt[t][:, None] * A) * h + x[t][:, None] * B[t]
        ys.append(h @ C[t])
    return torch.stack(ys)


@wrong("selective_scan", "The log decay lacks dt")
def decays_by_a_alone(x, dt, A, B, C):
    h, ys = torch.zeros_like(A), []
    for t in range(len(x)):
        h = torch.exp(A) * h + (dt[t] * x[t])[:, None] * B[t]
        ys.append(h @ C[t])
    return torch.stack(ys)


@wrong("selective_scan", "The state is read before the token is written")
def reads_the_state_before(x, dt, A, B, C):
    h, ys = torch.zeros_like(A), []
    for t in range(len(x)):
        ys.append(h @ C[t])
        h = torch.exp(dt[t][:, None] * A) * h + (dt[t] * x[t])[:, None] * B[t]
    return torch.stack(ys)


@right("selective_scan")
def scan_with_a_list_of_rows(x, dt, A, B, C):
    h, ys = torch.zeros(A.shape), []
    for x_t, dt_t, B_t, C_t in zip(x, dt, B, C, strict=True):
        h = h * torch.exp(torch.einsum("d,dn->dn", dt_t, A)) + torch.outer(dt_t * x_t, B_t)
        ys.append(torch.einsum("dn,n->d", h, C_t))
    return ys


@right("selective_scan")
def scan_by_numpy(x, dt, A, B, C):
    x, dt, A, B, C = (part.numpy() for part in (x, dt, A, B, C))
    h, y = np.zeros(A.shape), np.zeros(x.shape)
    for t in range(len(x)):
        h = np.exp(dt[t][:, None] * A) * h + (dt[t] * x[t])[:, None] * B[t][None]
        y[t] = h @ C[t]
    return y


@right("selective_scan")
def channel_by_channel(x, dt, A, B, C):
    y = torch.zeros(x.shape, dtype=torch.float64)
    for c in range(x.shape[1]):
        h = torch.zeros(A.shape[1], dtype=torch.float64)
        for t in range(x.shape[0]):
            h = torch.exp(dt[t, c] * A[c]) * h + dt[t, c] * x[t, c] * B[t]
            y[t, c] = (C[t] * h).sum()
    return y


# as_mamba1


@wrong("as_mamba1", "The heads alternate from channel to channel")
def heads_take_turns(dt, A, p, n):
    return dt.repeat(1, p), A.repeat(p)[:, None].expand(-1, n)


@wrong("as_mamba1", "`A` holds the right numbers once, in shape (6, 1) where")
def a_with_a_single_column(dt, A, p, n):
    return dt.repeat_interleave(p, dim=1), A.repeat_interleave(p)[:, None]


@wrong("as_mamba1", "The tokens are repeated, not the heads")
def repeats_tokens(dt, A, p, n):
    return dt.repeat_interleave(p, dim=0), A.repeat_interleave(p)[:, None].repeat(1, n)


@right("as_mamba1")
def a_list_of_repeats(dt, A, p, n):
    return [dt.repeat_interleave(p, -1), A.repeat_interleave(p).unsqueeze(1).repeat(1, n)]


@right("as_mamba1")
def mamba1_by_numpy(dt, A, p, n):
    return np.repeat(dt.numpy(), p, axis=1), np.tile(np.repeat(A.numpy(), p)[:, None], (1, n))


@right("as_mamba1")
def by_expand_and_flatten(dt, A, p, n):
    return dt[..., None].expand(*dt.shape, p).flatten(1), A[:, None, None].expand(len(A), p, n).reshape(-1, n).double()
