"""Answers to notebook 11."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

# read_back


@wrong("read_back", "It gives back what was written")
def nothing_is_lost(keys, values):
    return values


@wrong("read_back", "Each key reads when only the pairs up to its own are written")
def writes_and_reads_in_turn(keys, values):
    state, read = torch.zeros(values.shape[1], keys.shape[1]), []
    for key, value in zip(keys, values, strict=True):
        state = state + torch.outer(value, key)
        read.append(state @ key)
    return torch.stack(read)


@wrong("read_back", "A softmax makes the overlaps shares")
def as_in_attention(keys, values):
    return F.softmax(keys @ keys.T, dim=1) @ values


@right("read_back")
def read_back_by_overlaps(keys, values):
    return keys @ keys.T @ values


@right("read_back")
def read_back_by_a_loop(keys, values):
    state = torch.zeros(values.shape[1], keys.shape[1])
    for key, value in zip(keys, values, strict=True):
        state += torch.outer(value, key)
    return [state @ key for key in keys]


@right("read_back")
def read_back_by_numpy(keys, values):
    keys, values = keys.numpy(), values.numpy()
    return np.einsum("tn,sn,sp->tp", keys, keys, values)


# expected_error


@wrong("expected_error", "It counts the pair itself")
def pairs_over_columns(m, n):
    return m / n


@wrong("expected_error", "This is a length")
def its_root(m, n):
    return ((m - 1) / n) ** 0.5


@wrong("expected_error", "It says that up to n pairs nothing is disturbed")
def none_up_to_n(m, n):
    return 0.0 if m <= n else (m - n) / n


@right("expected_error")
def expected_error_as_a_tensor(m, n):
    return torch.tensor(m - 1.0) / n


@right("expected_error")
def expected_error_pair_by_pair(m, n):
    return math.fsum(1 / n for _ in range(m - 1))


@right("expected_error")
def expected_error_by_numpy(m, n):
    return np.float64(m - 1) / n


# exact_queries


@wrong("exact_queries", "It reads with the keys themselves")
def keys_as_queries(keys):
    return keys.clone()


@wrong("exact_queries", "Each query finds its own key rightly, and something of the others")
def keys_made_shorter(keys):
    return keys / keys.square().sum(1, keepdim=True)


@wrong("exact_queries", "No query finds another's key any more")
def pseudoinverse_of_unit_length(keys):
    queries = torch.linalg.pinv(keys).T
    return queries / queries.norm(dim=1, keepdim=True)


@right("exact_queries")
def by_the_pseudoinverse(keys):
    return torch.linalg.pinv(keys).T


@right("exact_queries")
def by_solving(keys):
    return torch.linalg.solve(keys @ keys.T, keys)


@right("exact_queries")
def by_least_squares(keys):
    return torch.linalg.lstsq(
        keys.double(), torch.eye(len(keys), dtype=torch.float64), driver="gelsd"
    ).solution.T.float()


# attend


@wrong("attend", "The weights are the overlaps themselves")
def linear_attention(queries, keys, values, sharpness):
    return sharpness * (queries @ keys.T) @ values


@wrong("attend", "Its weights add up to 1 over the queries")
def along_the_wrong_axis(queries, keys, values, sharpness):
    return torch.softmax(sharpness * (queries @ keys.T), 0) @ values


@wrong("attend", "The sharpness is left out")
def not_sharpened(queries, keys, values, sharpness):
    return F.softmax(queries @ keys.T, -1) @ values


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


# bits_by_position


@wrong("bits_by_position", "These are nats per byte")
def in_nats(nats, sizes, edges):
    return torch.stack([nats[:, a:b].sum() / sizes[:, a:b].sum() for a, b in zip(edges, edges[1:], strict=False)])


@wrong("bits_by_position", "It divides by the number of tokens")
def per_token(nats, sizes, edges):
    return torch.stack([nats[:, a:b].mean() for a, b in zip(edges, edges[1:], strict=False)]) / math.log(2)


@wrong("bits_by_position", "Every stretch begins at the beginning")
def from_the_first_token(nats, sizes, edges):
    found = [nats[:, edges[0] : b].sum() / sizes[:, edges[0] : b].sum() for b in edges[1:]]
    return torch.stack(found) / math.log(2)


@right("bits_by_position")
def by_running_sums(nats, sizes, edges):
    nats, sizes = (F.pad(part.sum(0).double().cumsum(0), (1, 0))[edges] for part in (nats, sizes))
    return nats.diff() / sizes.diff() / math.log(2)


@right("bits_by_position")
def by_numpy(nats, sizes, edges):
    stretches = [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]
    return [float(np.log2(np.e) * nats.numpy()[:, s].sum() / sizes.numpy()[:, s].sum()) for s in stretches]


@right("bits_by_position")
def in_bits_at_once(nats, sizes, edges):
    bits = nats / math.log(2)
    found = []
    for i in range(len(edges) - 1):
        inside = slice(edges[i], edges[i + 1])
        found.append(bits[:, inside].sum() / sizes[:, inside].sum())
    return torch.stack(found)


# stack_bytes


@wrong("stack_bytes", "Its states grow with the text")
def all_of_it_grows(l, mixers, state_bytes, token_bytes):
    return l * sum({"mamba2": state_bytes, "attention": token_bytes}[name] for name in mixers)


@wrong("stack_bytes", "The states of the Mamba layers are left out")
def tokens_alone(l, mixers, state_bytes, token_bytes):
    return l * token_bytes * sum(name == "attention" for name in mixers)


@wrong("stack_bytes", "It counts each kind once")
def one_of_each(l, mixers, state_bytes, token_bytes):
    return sum({"mamba2": state_bytes, "attention": l * token_bytes}[name] for name in set(mixers))


@right("stack_bytes")
def layer_for_layer(l, mixers, state_bytes, token_bytes):
    return sum(state_bytes if name == "mamba2" else l * token_bytes for name in mixers)


@right("stack_bytes")
def by_a_table(l, mixers, state_bytes, token_bytes):
    kept = {"mamba2": state_bytes, "attention": l * token_bytes}
    return torch.tensor([kept[name] for name in mixers]).sum()


@right("stack_bytes")
def by_counting_one_kind(l, mixers, state_bytes, token_bytes):
    attending = sum(1 for name in mixers if name == "attention")
    return float(attending * l * token_bytes + (len(mixers) - attending) * state_bytes)
