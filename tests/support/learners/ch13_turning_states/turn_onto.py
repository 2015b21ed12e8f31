"""Answers to `turn_onto`."""

import torch
from support.learners.collect import right, unexplained, wrong

from mamba2_lab.course.exercises.turning_states import rotate_pairs


@wrong("turn_onto", "Both are turned forward")
def forward(B, C, angle):
    total = torch.cumsum(angle, -2)
    return rotate_pairs(B, total), rotate_pairs(C, total)


@wrong("turn_onto", "Each is turned by the angle of its own token alone")
def by_their_own(B, C, angle):
    return rotate_pairs(B, -angle), rotate_pairs(C, -angle)


@wrong("turn_onto", "Only C is turned")
def the_reader_alone(B, C, angle):
    return B, rotate_pairs(C, -angle.cumsum(-2))


@wrong("turn_onto", "It comes out as if a minus sign were left out.")
def against_each_other(B, C, angle):
    since_start = angle.cumsum(-2)
    return rotate_pairs(B, -since_start), rotate_pairs(C, since_start)


@wrong("turn_onto", "C is turned by the angles of the tokens before it alone. What")
def without_the_tokens_own(B, C, angle):
    before = angle.cumsum(-2) - angle
    return rotate_pairs(B, -angle.cumsum(-2)), rotate_pairs(C, -before)


@wrong("turn_onto", "Angles are added up over the pairs of a token. Each pair")
def added_up_over_the_pairs(B, C, angle):
    total = angle.cumsum(-1)
    return rotate_pairs(B, -total), rotate_pairs(C, -total)


@wrong("turn_onto", "It comes out as if `rotate_pairs` were left out.")
def the_writer_alone(B, C, angle):
    return rotate_pairs(B, -angle.cumsum(-2)), C


@wrong("turn_onto", "It comes out as if the running sum began at the end.")
def angles_from_the_end(B, C, angle):
    to_end = angle.flip(-2).cumsum(-2).flip(-2)
    return rotate_pairs(B, -to_end), rotate_pairs(C, -to_end)


@wrong("turn_onto", "It comes out as if `rotate_pairs(B, -since_start)` and")
def b_and_c_exchanged_in_return(B, C, angle):
    since = angle.cumsum(-2)
    return rotate_pairs(C, -since), rotate_pairs(B, -since)


@unexplained("turn_onto")
def the_mean_angle(B, C, angle):
    mean = angle.cumsum(-2) / torch.arange(1, angle.shape[-2] + 1)[:, None]
    return rotate_pairs(B, -mean), rotate_pairs(C, -mean)


@right("turn_onto")
def from_the_end(B, C, angle):
    rest = angle.sum(-2, keepdim=True) - angle.cumsum(-2)
    return rotate_pairs(B, rest), rotate_pairs(C, rest)


@right("turn_onto")
def by_a_loop(B, C, angle):
    total, Bs, Cs = torch.zeros_like(angle[..., 0, :]), [], []
    for t in range(angle.shape[-2]):
        total = total - angle[..., t, :]
        Bs.append(rotate_pairs(B[..., t, :], total))
        Cs.append(rotate_pairs(C[..., t, :], total))
    return torch.stack(Bs, -2), torch.stack(Cs, -2)


@right("turn_onto")
def since_the_first(B, C, angle):
    total = angle.cumsum(-2) - angle[..., :1, :]
    return [rotate_pairs(part, -total) for part in (B, C)]
