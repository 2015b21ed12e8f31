"""Answers to `split_projection`."""

import numpy as np
from support.learners.collect import right, wrong


@wrong("split_projection", "z and xBC are exchanged")
def xbc_first(projected, d_inner, nheads):
    conv_dim = projected.shape[-1] - d_inner - nheads
    xBC, z, dt = projected.split([conv_dim, d_inner, nheads], -1)
    return z, xBC, dt


@wrong("split_projection", "The step sizes are taken from the front")
def dt_in_front(projected, d_inner, nheads):
    dt, z, xBC = projected.split([nheads, d_inner, projected.shape[-1] - d_inner - nheads], -1)
    return z, xBC, dt


@wrong("split_projection", "xBC is made as wide as z, and raw_dt gets what is left")
def xbc_as_wide_as_z(projected, d_inner, nheads):
    return projected[..., :d_inner], projected[..., d_inner : 2 * d_inner], projected[..., 2 * d_inner :]


@wrong("split_projection", "xBC is made as wide as z, and raw_dt gets what is left. But xBC holds")
def x_alone(projected, d_inner, nheads):
    return projected[..., :d_inner], projected[..., d_inner : 2 * d_inner], projected[..., -nheads:]


@wrong("split_projection", "The step sizes are taken from the front. They stand at the end, behind")
def dt_first(projected, d_inner, nheads):
    dt, z, xBC = projected.split([nheads, d_inner, projected.shape[-1] - d_inner - nheads], -1)
    return z, xBC, dt


@wrong("split_projection", "`z` has 6 entries, and the first 4 are right: cut off the rest.")
def widths_exchanged(projected, d_inner, nheads):
    return projected.split([projected.shape[-1] - d_inner - nheads, d_inner, nheads], -1)


@right("split_projection")
def a_list_of_pieces(projected, d_inner, nheads):
    return [projected[..., :d_inner], projected[..., d_inner:-nheads], projected[..., -nheads:]]


@right("split_projection")
def by_tensor_split(projected, d_inner, nheads):
    return projected.tensor_split([d_inner, projected.shape[-1] - nheads], dim=-1)


@right("split_projection")
def split_by_numpy(projected, d_inner, nheads):
    return np.split(projected.numpy(), [d_inner, projected.shape[-1] - nheads], axis=-1)
