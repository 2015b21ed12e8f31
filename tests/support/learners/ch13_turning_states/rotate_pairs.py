"""Answers to `rotate_pairs`."""

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("rotate_pairs", "It turns clockwise")
def the_other_sense(x, angle):
    s = angle.shape[-1]
    out = x.clone()
    for i in range(s):
        c, d = angle[..., i].cos(), angle[..., i].sin()
        out[..., 2 * i] = c * x[..., 2 * i] + d * x[..., 2 * i + 1]
        out[..., 2 * i + 1] = c * x[..., 2 * i + 1] - d * x[..., 2 * i]
    return out


@wrong("rotate_pairs", "The second channel is made from the first as it is after turning")
def in_place(x, angle):
    out = x.clone()
    for i in range(angle.shape[-1]):
        c, d = angle[..., i].cos(), angle[..., i].sin()
        out[..., 2 * i] = c * out[..., 2 * i] - d * out[..., 2 * i + 1]
        out[..., 2 * i + 1] = d * out[..., 2 * i] + c * out[..., 2 * i + 1]
    return out


@wrong("rotate_pairs", "Halves are paired here")
def halves(x, angle):
    half, s = x.shape[-1] // 2, angle.shape[-1]
    out = x.clone()
    out[..., :s] = angle.cos() * x[..., :s] - angle.sin() * x[..., half : half + s]
    out[..., half : half + s] = angle.sin() * x[..., :s] + angle.cos() * x[..., half : half + s]
    return out


@wrong("rotate_pairs", "The result ends too early: it has 4 of 8 entries along axis")
def loses_the_rest(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


@wrong("rotate_pairs", "The pairs are turned, but come out as all first channels,")
def not_put_back_in_pairs(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos, x[..., 2 * s :]], dim=-1)


@wrong("rotate_pairs", "The second channel is made from the first as it is after")
def uses_what_was_turned(x, angle):
    s = angle.shape[-1]
    y = x.clone()
    y[..., 0 : 2 * s : 2] = x[..., 0 : 2 * s : 2] * angle.cos() - x[..., 1 : 2 * s : 2] * angle.sin()
    y[..., 1 : 2 * s : 2] = y[..., 0 : 2 * s : 2] * angle.sin() + x[..., 1 : 2 * s : 2] * angle.cos()
    return y


@wrong("rotate_pairs", "Sine and cosine are exchanged: an angle of 0 must leave")
def sines_and_cosines_exchanged(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.sin(), angle.cos()
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@wrong("rotate_pairs", "The result is 0 where it should not be; the other numbers are")
def zeros_for_the_rest(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    out = torch.zeros_like(x)
    out[..., 0 : 2 * s : 2] = a * angle.cos() - b * angle.sin()
    out[..., 1 : 2 * s : 2] = a * angle.sin() + b * angle.cos()
    return out


@wrong("rotate_pairs", "It comes out as if `+` stood where `-` belongs.")
def both_with_a_plus(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([a * cos + b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@wrong("rotate_pairs", "It comes out as if `angle.deg2rad()` stood where `angle` belongs.")
def in_degrees(x, angle):
    angle = torch.deg2rad(angle)
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    turned = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@wrong("rotate_pairs", "Halves are paired here: channel i with i + n/2. That is how")
def halves_instead(x, angle):
    s = angle.shape[-1]
    a, b = x[..., :s], x[..., s : 2 * s]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos(), x[..., 2 * s :]], -1)


@right("rotate_pairs")
def pair_by_pair(x, angle):
    out = x.clone()
    for i in range(angle.shape[-1]):
        a, b, c, d = x[..., 2 * i], x[..., 2 * i + 1], angle[..., i].cos(), angle[..., i].sin()
        out[..., 2 * i], out[..., 2 * i + 1] = a * c - b * d, a * d + b * c
    return out


@right("rotate_pairs")
def by_matrices(x, angle):
    s = angle.shape[-1]
    rows = [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)]
    turned = torch.einsum("...sij,...sj->...si", torch.stack(rows, -2), x[..., : 2 * s].unflatten(-1, (s, 2)))
    return torch.cat([turned.flatten(-2), x[..., 2 * s :]], -1)


@right("rotate_pairs")
def by_numpy(x, angle):
    s, out = angle.shape[-1], x.numpy().astype(float)
    number = (out[..., 0 : 2 * s : 2] + 1j * out[..., 1 : 2 * s : 2]) * np.exp(1j * angle.numpy())
    out[..., 0 : 2 * s : 2], out[..., 1 : 2 * s : 2] = number.real, number.imag
    return out
