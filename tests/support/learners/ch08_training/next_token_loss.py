"""Answers to `next_token_loss`."""

import math

import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong


@wrong("next_token_loss", "The logits are compared with the token that the model has")
def not_shifted(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


@wrong("next_token_loss", "Shifted the wrong way")
def shifted_the_other_way(logits, ids):
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), ids[:, :-1].flatten())


@wrong("next_token_loss", "This is the sum over the tokens, not their mean")
def sum_for_the_mean(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


@wrong("next_token_loss", "`cross_entropy` takes logits and does the softmax itself.")
def softmax_twice(logits, ids):
    return F.cross_entropy(logits[:, :-1].softmax(dim=-1).mT, ids[:, 1:])


@wrong("next_token_loss", "Rows and time were joined first and shifted afterwards: the")
def shifted_after_flattening(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1)[:-1], ids.flatten()[1:])


@wrong("next_token_loss", "The mean was taken of the probabilities, and then one")
def mean_of_probabilities(logits, ids):
    p = logits[:, :-1].softmax(-1).gather(2, ids[:, 1:, None])
    return -p.mean().log()


@wrong("next_token_loss", "The result is 1 / ln 2 times what it should be.")
def bits(logits, ids):
    return F.cross_entropy(logits[:, :-1].mT, ids[:, 1:]) / math.log(2)


@wrong("next_token_loss", "`roll` brings the first token round to the end, and the last")
def rolled(logits, ids):
    return F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, dims=1).flatten())


@wrong("next_token_loss", "The result is `(logits.shape[1] - 1) / logits.shape[1]` times")
def divided_by_all_tokens(logits, ids):
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    return losses / ids.numel()


@wrong("next_token_loss", "The result has the wrong sign: every number is minus what it")
def log_probability(logits, ids):
    logs = logits[:, :-1].log_softmax(-1)
    return logs.gather(2, ids[:, 1:, None]).mean()


@wrong("next_token_loss", "It comes out as if 2 stood where 1 belongs.")
def two_tokens_ahead(logits, ids):
    return F.cross_entropy(logits[:, :-2].flatten(0, 1), ids[:, 2:].flatten())


@wrong("next_token_loss", "The result has shape (3,) where () is expected: the mean")
def a_loss_for_each_token(logits, ids):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


@wrong("next_token_loss", "Only the last token counts. Every token but the first was")
def the_last_token_alone(logits, ids):
    return F.cross_entropy(logits[:, -2], ids[:, -1])


@wrong("next_token_loss", "This is how sure the model is, of whatever token it likes best.")
def mean_of_the_best(logits, ids):
    return -logits[:, :-1].log_softmax(-1).max(-1).values.mean()


@right("next_token_loss")
def by_log_softmax(logits, ids):
    log_p = torch.log_softmax(logits[:, :-1], -1)
    return -log_p.gather(-1, ids[:, 1:, None]).mean()


@right("next_token_loss")
def with_classes_second(logits, ids):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2).double(), ids[:, 1:])


@right("next_token_loss")
def mean_of_row_losses(logits, ids):
    losses = [F.cross_entropy(row[:-1], target[1:]) for row, target in zip(logits, ids, strict=True)]
    return sum(losses) / len(losses)
