"""Answers to `exact_queries`."""

import torch
from support.learners.collect import right, unexplained, wrong


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


@wrong("exact_queries", "The overlaps are multiplied where they have to be undone:")
def not_inverted(keys):
    return keys @ keys.T @ keys


@wrong("exact_queries", "It inverts the table entry by entry. The inverse of a matrix")
def one_over_each(keys):
    return (1 / (keys @ keys.T)) @ keys


@wrong("exact_queries", "It comes out as if `.mT` were left out.")
def lying_down(keys):
    return torch.linalg.pinv(keys)


@wrong("exact_queries", "Each query finds its own key rightly, and something of the")
def divided_by_own_overlap(keys):
    return keys / (keys * keys).sum(1, keepdim=True)


@unexplained("exact_queries")
def inverse_of_columns(keys):
    return keys @ torch.linalg.inv(keys.T @ keys + 1e-6 * torch.eye(keys.shape[1]))


@unexplained("exact_queries")
def identity(keys):
    return torch.eye(len(keys), keys.shape[1])


@unexplained("exact_queries")
def inverse_used_twice(keys):
    inverse = torch.linalg.inv(keys @ keys.T)
    return inverse @ inverse @ keys


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
