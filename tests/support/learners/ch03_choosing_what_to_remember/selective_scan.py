"""Answers to `selective_scan`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


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


@wrong("selective_scan", "It comes out as if something that is made of `A` and `dt` multiplied")
def new_fades_at_once(x, dt, A, B, C):
    h, ys = x.new_zeros(A.shape), []
    for t in range(len(x)):
        h = torch.exp(dt[t][:, None] * A) * (h + (dt[t] * x[t])[:, None] * B[t])
        ys.append(h @ C[t])
    return torch.stack(ys)


@wrong("selective_scan", "The state is read before the token is written: y[t] must know of x[t].")
def reads_first(x, dt, A, B, C):
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
