"""Answers to `shares`."""

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("shares", "This compares lengths")
def by_length(parts, whole):
    return parts.norm(dim=-1) / whole.norm()


@wrong("shares", "This is the cosine")
def by_cosine(parts, whole):
    return F.cosine_similarity(parts, whole[None], dim=-1)


@wrong("shares", "It divides by the length of the whole once")
def not_squared(parts, whole):
    return parts @ whole / whole.norm()


@wrong("shares", "The shares were made to add up to 1 in size. With their")
def made_to_add_up_in_size(parts, whole):
    dots = parts @ whole
    return dots / dots.abs().sum()


@wrong("shares", "The numbers of each part were added up. That is how far it")
def sums_of_entries(parts, whole):
    return parts.sum(-1) / whole.sum()


@wrong("shares", "Each part was divided by its own length, so this says how")
def along_the_parts(parts, whole):
    return parts @ whole / parts.square().sum(-1)


@wrong("shares", "Squares have no sign. A part that points against the whole")
def squared(parts, whole):
    dots = parts @ whole
    return dots.square() / dots.square().sum()


@wrong("shares", "Each part was divided by its own length, so this says how")
def by_each_parts_own_length(parts, whole):
    return parts @ whole / (parts * parts).sum(1)


@wrong("shares", "Each entry is divided by that of the whole, and all count")
def mean_of_ratios(parts, whole):
    return (parts / whole).mean(dim=1)


@wrong("shares", "Every number of the result is 2.5 times what it should be.")
def over_the_number_of_entries(parts, whole):
    return parts @ whole / len(whole)


@wrong("shares", "This is the cosine: how well a part points along the whole,")
def over_both_lengths(parts, whole):
    return parts @ whole / (parts.norm(dim=1) * whole.norm())


@wrong("shares", "Sizes are added up, so what points against the whole counts")
def sizes_over_sizes(parts, whole):
    return parts.abs().sum(1) / whole.abs().sum()


@wrong("shares", "The result has shape (3, 2) where (3,) is expected: the sum")
def entry_by_entry_products(parts, whole):
    return parts * whole / (whole @ whole)


@wrong("shares", "A softmax makes shares of any numbers, and none of them is")
def softmax_of_products(parts, whole):
    return (parts @ whole).softmax(0)


@right("shares")
def shares_by_einsum(parts, whole):
    return torch.einsum("kp,p->k", parts, whole) / whole.square().sum()


@right("shares")
def shares_as_a_list(parts, whole):
    return [float(part @ whole / (whole @ whole)) for part in parts]


@right("shares")
def shares_by_numpy(parts, whole):
    parts, whole = parts.numpy(), whole.numpy()
    return parts @ whole / np.dot(whole, whole)
