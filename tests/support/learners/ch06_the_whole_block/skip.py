"""Answers to `skip`."""

import torch
from support.learners.collect import right, wrong


@wrong("skip", "D scales what was read from the state, and x is added as")
def d_of_the_output(y, x, D):
    return (x + D[:, None] * y).flatten(2)


@wrong("skip", "The channels of different heads are shuffled into each")
def channels_before_heads(y, x, D):
    return (y + D[:, None] * x).transpose(2, 3).flatten(2)


@wrong("skip", "The result holds the right numbers in the right order")
def heads_kept_apart(y, x, D):
    return y + D[:, None] * x


@wrong("skip", "The channels of different heads are shuffled into each other. Heads")
def channels_of_all_heads_together(y, x, D):
    return (y + D[:, None] * x).transpose(-1, -2).flatten(-2)


@wrong("skip", "D scales what was read from the state, and x is added as it is. It is")
def scales_what_was_read(y, x, D):
    return (D[:, None] * y + x).flatten(-2)


@wrong("skip", "It comes out as if `D[:, None]` multiplied the whole sum, not its one")
def scales_both(y, x, D):
    return (D[:, None] * (y + x)).flatten(-2)


@wrong("skip", "All heads get the same D. Each has its own, for all of its")
def the_same_d_for_all(y, x, D):
    return (y + D.mean() * x).flatten(-2)


@right("skip")
def skip_by_einsum(y, x, D):
    return (y + torch.einsum("blhp,h->blhp", x, D)).reshape(*y.shape[:2], -1)


@right("skip")
def skip_by_cat(y, x, D):
    return torch.cat([y[:, :, h] + D[h] * x[:, :, h] for h in range(len(D))], dim=-1).double()


@right("skip")
def skip_by_numpy(y, x, D):
    out = y.numpy() + D.numpy()[:, None] * x.numpy()
    return out.reshape(*out.shape[:2], -1)
