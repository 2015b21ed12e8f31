"""Answers to `next_token_logits`."""

import math

import torch
from support.learners.collect import right, wrong


@wrong("next_token_logits", "The final norm is missing")
def without_the_norm(u, norm, table, vocab_size):
    return u @ table[:vocab_size].T


@wrong("next_token_logits", "The rows of the table beyond `vocab_size` are padding and")
def padding_rows_kept(u, norm, table, vocab_size):
    return norm(u) @ table.T


@wrong("next_token_logits", "These are probabilities already")
def gives_probabilities(u, norm, table, vocab_size):
    return torch.softmax(norm(u) @ table[:vocab_size].T, -1)


@wrong("next_token_logits", "The result has gone through a softmax: give what goes into")
def probabilities(u, norm, table, vocab_size):
    return (norm(u) @ table.T).softmax(dim=-1)[..., :vocab_size]


@wrong("next_token_logits", "It comes out as if `norm` were applied to `table` as well.")
def normed_on_both_sides(u, norm, table, vocab_size):
    return norm(u) @ norm(table[:vocab_size]).T


@wrong("next_token_logits", "The result ends too early: it has 4 of 5 entries along axis")
def cut_from_the_stream(u, norm, table, vocab_size):
    logits = norm(u) @ table.T
    return logits[..., : vocab_size - 1]


@wrong("next_token_logits", "The wrong end was cut: the padding rows are the last ones of")
def rows_from_the_end(u, norm, table, vocab_size):
    return norm(u) @ table[-vocab_size:].T


@wrong("next_token_logits", "The result has 8 entries along axis 2, and the first 5 are")
def padding_at_minus_infinity(u, norm, table, vocab_size):
    logits = norm(u) @ table.T
    logits[..., vocab_size:] = -torch.inf
    return logits


@wrong("next_token_logits", "It comes out as if it were divided by the root of the width,")
def scaled_as_in_attention(u, norm, table, vocab_size):
    return norm(u) @ table[:vocab_size].T / math.sqrt(u.shape[-1])


@wrong("next_token_logits", "The result is the last one alone, in shape (1, 5) where (1,")
def last_position_only(u, norm, table, vocab_size):
    return norm(u[..., -1, :]) @ table[:vocab_size].T


@wrong("next_token_logits", "The result ends too early: it has 4 of 5 entries along axis")
def one_row_short(u, norm, table, vocab_size):
    return norm(u) @ table[: vocab_size - 1].T


@wrong("next_token_logits", "The result has gone through a log_softmax: give what goes")
def normed_after_the_table(u, norm, table, vocab_size):
    return (norm(u) @ table[:vocab_size].T).log_softmax(-1)


@wrong("next_token_logits", "The norm is taken of the table. It belongs to the stream,")
def norm_of_the_logits(u, norm, table, vocab_size):
    logits = u @ norm(table)[:vocab_size].T
    return logits


@right("next_token_logits")
def logits_by_einsum(u, norm, table, vocab_size):
    return torch.einsum("...d,vd->...v", norm(u), table)[..., :vocab_size]


@right("next_token_logits")
def logits_by_linear(u, norm, table, vocab_size):
    return torch.nn.functional.linear(norm(u), table[:vocab_size]).double()


@right("next_token_logits")
def logits_by_numpy(u, norm, table, vocab_size):
    return norm(u).detach().numpy() @ table.detach().numpy()[:vocab_size].T
