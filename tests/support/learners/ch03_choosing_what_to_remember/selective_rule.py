"""Answers to `selective_rule`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


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


@wrong("selective_rule", "`B` comes out as if `bias` were left out.")
def bias_for_dt_alone(u, weight, bias, n):
    made = u @ weight.mT
    h = len(bias) - 2 * n
    dt, B, C = made.split([h, n, n], -1)
    return F.softplus(dt + bias[:h]), B, C


@wrong("selective_rule", "Softplus is for dt alone. B and C may have either sign: they say where,")
def softplus_of_all(u, weight, bias, n):
    made = F.softplus(F.linear(u, weight, bias))
    return made.split([len(bias) - 2 * n, n, n], -1)


@wrong("selective_rule", "B and C have changed places. The order is dt, B, C.")
def c_before_b(u, weight, bias, n):
    dt, C, B = F.linear(u, weight, bias).split([len(bias) - 2 * n, n, n], -1)
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
