"""Answers to `causal_conv`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("causal_conv", "The weighted sum is right, the activation is missing")
def without_silu(x, weight, bias, window):
    return F.conv1d(torch.cat([window, x], 1).mT, weight, bias, groups=x.shape[-1]).mT


@wrong("causal_conv", "The window is forgotten")
def ignores_the_window(x, weight, bias, window):
    l, width = x.shape[1], weight.shape[-1]
    return F.silu(F.conv1d(x.mT, weight, bias, padding=width - 1, groups=x.shape[-1])[..., :l].mT)


@wrong("causal_conv", "The taps are turned around")
def weights_turned_round(x, weight, bias, window):
    return F.silu(F.conv1d(torch.cat([window, x], 1).mT, weight.flip(-1), bias, groups=x.shape[-1]).mT)


@wrong("causal_conv", "The taps are turned around. The last tap, `weight[..., -1]`, meets the")
def taps_turned_round(x, weight, bias, window):
    inputs = torch.cat([window, x], 1).mT
    return F.silu(F.conv1d(inputs, weight.flip(-1), bias, groups=len(weight))).mT


@wrong("causal_conv", "It comes out as if `bias` were added last.")
def bias_after_silu(x, weight, bias, window):
    inputs = torch.cat([window, x], 1).mT
    y = F.silu(F.conv1d(inputs, weight, groups=len(weight))).mT
    return y if bias is None else y + bias


@wrong("causal_conv", "The weighted sum is right, the activation is missing: `F.silu` of it.")
def no_activation(x, weight, bias, window):
    return F.conv1d(torch.cat([window, x], 1).mT, weight, bias, groups=len(weight)).mT


@right("causal_conv")
def conv_by_a_loop(x, weight, bias, window):
    inputs, width = torch.cat([window, x], 1), weight.shape[-1]
    total = sum(inputs[:, k : k + x.shape[1]] * weight[:, 0, k] for k in range(width))
    total = total if bias is None else total + bias
    return total * torch.sigmoid(total)


@right("causal_conv")
def conv_by_unfold(x, weight, bias, window):
    inputs = torch.cat([window, x], 1).unfold(1, weight.shape[-1], 1)  # (b,l,channels,width)
    total = torch.einsum("blcw,cw->blc", inputs.double(), weight[:, 0].double())
    return F.silu(total + (0 if bias is None else bias))


@right("causal_conv")
def conv_by_numpy(x, weight, bias, window):
    inputs = np.concatenate([window.numpy(), x.numpy()], axis=1)
    total = np.zeros(x.shape)
    for k in range(weight.shape[-1]):
        total += inputs[:, k : k + x.shape[1]] * weight[:, 0, k].numpy()
    if bias is not None:
        total += bias.numpy()
    return total / (1 + np.exp(-total))
