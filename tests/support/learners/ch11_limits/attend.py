"""Answers to `attend`."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import right, unexplained, wrong


@wrong("attend", "The weights are the overlaps themselves")
def linear_attention(queries, keys, values, sharpness):
    return sharpness * (queries @ keys.T) @ values


@wrong("attend", "Its weights add up to 1 over the queries")
def along_the_wrong_axis(queries, keys, values, sharpness):
    return torch.softmax(sharpness * (queries @ keys.T), 0) @ values


@wrong("attend", "It comes out as if `sharpness` were left out.")
def not_sharpened(queries, keys, values, sharpness):
    return F.softmax(queries @ keys.T, -1) @ values


@wrong("attend", "It comes out as if it were divided by `sharpness`.")
def divided_by_sharpness(queries, keys, values, sharpness):
    return (queries @ keys.T / sharpness).softmax(-1) @ values


@wrong("attend", "The sharpness comes after the softmax, so it only makes the")
def sharpened_too_late(queries, keys, values, sharpness):
    return sharpness * (queries @ keys.T).softmax(-1) @ values


@wrong("attend", "It comes out as if it were divided by the root of the width,")
def the_root_of_n_as_well(queries, keys, values, sharpness):
    weights = (sharpness * queries @ keys.T / math.sqrt(keys.shape[1])).softmax(-1)
    return weights @ values


@wrong("attend", "It comes out as if `sharpness` were left out.")
def sharpness_added(queries, keys, values, sharpness):
    return (queries @ keys.T + sharpness).softmax(-1) @ values


@wrong("attend", "It takes the best match and nothing else. That is what a")
def nearest_alone(queries, keys, values, sharpness):
    return values[(queries @ keys.T).argmax(-1)]


@wrong("attend", "It comes out as if `keys` stood where `values` belongs.")
def values_and_keys_exchanged(queries, keys, values, sharpness):
    return (sharpness * queries @ keys.T).softmax(-1) @ keys


@wrong("attend", "It comes out as if `sigmoid` stood where `softmax` belongs.")
def sigmoid_weights(queries, keys, values, sharpness):
    return torch.sigmoid(sharpness * queries @ keys.T) @ values


@wrong("attend", "Queries and keys are made unit vectors first. Their overlap is")
def unit_vectors_first(queries, keys, values, sharpness):
    q, k = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
    return (sharpness * q @ k.T).softmax(-1) @ values


@wrong("attend", "A query sees only the pairs up to its own number. Here all")
def causal(queries, keys, values, sharpness):
    scores = sharpness * queries @ keys.T
    return (scores + torch.full_like(scores, -math.inf).triu(1)).softmax(-1) @ values


@unexplained("attend")
def by_distance(queries, keys, values, sharpness):
    return (-sharpness * torch.cdist(queries, keys)).softmax(-1) @ values


@unexplained("attend")
def power_of_overlap(queries, keys, values, sharpness):
    weights = (queries @ keys.T).abs() ** sharpness
    return weights / weights.sum(-1, keepdim=True) @ values


@right("attend")
def attend_query_by_query(queries, keys, values, sharpness):
    return torch.stack([F.softmax(sharpness * (keys @ query), 0) @ values for query in queries])


@right("attend")
def attend_by_exponentials(queries, keys, values, sharpness):
    grown = (sharpness * queries @ keys.T).exp()
    return (grown / grown.sum(1, keepdim=True)) @ values


@right("attend")
def attend_by_torch(queries, keys, values, sharpness):
    return F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=sharpness)[0]
