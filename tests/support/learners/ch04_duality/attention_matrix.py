"""Answers to `attention_matrix`."""

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.course.exercises.duality import decay_mask, segsum


@wrong("attention_matrix", "`B.T` turns all axes round, and with texts or heads in")
def transposes_every_axis(log_decay, B, C):
    return segsum(log_decay).exp() * (C @ B.T)


@wrong("attention_matrix", "B and C are exchanged")
def exchanges_b_and_c(log_decay, B, C):
    return segsum(log_decay).exp() * (B @ C.mT)


@wrong("attention_matrix", "This is the matrix product of mask and scores")
def a_product_of_matrices(log_decay, B, C):
    return segsum(log_decay).exp() @ (C @ B.mT)


@wrong("attention_matrix", "This is the matrix product of mask and scores. The mask scales each")
def a_matrix_product_with_the_mask(log_decay, B, C):
    return decay_mask(log_decay) @ (C @ B.mT)


@wrong("attention_matrix", "It comes out as if `segsum` stood where `decay_mask` belongs.")
def the_log_of_the_mask(log_decay, B, C):
    return segsum(log_decay) * (C @ B.mT)


@right("attention_matrix")
def matrix_by_einsum(log_decay, B, C):
    return torch.einsum("...ts,...tn,...sn->...ts", segsum(log_decay).exp(), C, B)


@right("attention_matrix")
def matrix_in_float64(log_decay, B, C):
    return segsum(log_decay.double()).exp() * (C.double() @ B.double().transpose(-1, -2))


@right("attention_matrix")
def matrix_by_numpy(log_decay, B, C):
    return np.exp(segsum(log_decay).numpy()) * (C.numpy() @ np.swapaxes(B.numpy(), -1, -2))
