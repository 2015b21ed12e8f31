"""Answers to `keep_min_p`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("keep_min_p", "A share of the probability is not a share of the logit")
def a_share_of_the_logit(logits, min_p):
    return logits.masked_fill(logits < min_p * logits.max(), -math.inf)


@wrong("keep_min_p", "Each probability is compared with min_p itself")
def an_absolute_floor(logits, min_p):
    return logits.masked_fill(logits.softmax(-1) < min_p, -math.inf)


@wrong("keep_min_p", "These are probabilities")
def returns_probabilities(logits, min_p):
    probabilities = logits.softmax(-1)
    return torch.where(probabilities < min_p * probabilities.max(), -math.inf, probabilities)


@wrong("keep_min_p", "min_p is added to the largest logit. Logits are logarithms:")
def log_with_the_wrong_sign(logits, min_p):
    return logits.masked_fill(logits < logits.max() - math.log(min_p), -math.inf)


@wrong("keep_min_p", "These are probabilities. Tokens that stay keep their")
def gives_probabilities(logits, min_p):
    probs = logits.softmax(-1)
    return probs.masked_fill(probs < min_p * probs.max(), -math.inf)


@wrong("keep_min_p", "A share of the probability is not a share of the logit:")
def share_of_the_logit(logits, min_p):
    return torch.where(logits >= min_p * logits.max(), logits, -math.inf)


@wrong("keep_min_p", "Each probability is compared with min_p itself. The floor")
def absolute_floor(logits, min_p):
    return logits.masked_fill(logits.softmax(-1) < min_p, -math.inf)


@wrong("keep_min_p", "It comes out as if `-math.inf` and `logits` were exchanged.")
def keeps_the_unlikely(logits, min_p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities >= min_p * probabilities.max(), -math.inf)


@wrong("keep_min_p", "The result is 0 where it should not be; the other numbers are")
def zero_for_the_unlikely(logits, min_p):
    probabilities = logits.softmax(-1)
    return torch.where(probabilities < min_p * probabilities.max(), 0.0, logits)


@wrong("keep_min_p", "It comes out as if `mean` stood where `max` belongs.")
def against_the_mean(logits, min_p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < min_p * probabilities.mean(), -math.inf)


@wrong("keep_min_p", "min_p is subtracted from a logit. A share of a probability is")
def ln_left_out(logits, min_p):
    return logits.masked_fill(logits < logits.max() - min_p, -math.inf)


@wrong("keep_min_p", "It comes out as if `log10` stood where `log` belongs.")
def log10_for_ln(logits, min_p):
    return logits.masked_fill(logits < logits.max() + math.log10(min_p), -math.inf)


@wrong("keep_min_p", "The result is `logits` as it was given: nothing was done to")
def times_the_least_likely(logits, min_p):
    p = logits.softmax(-1)
    return logits.masked_fill(p < min_p * p.min(), -math.inf)


@wrong("keep_min_p", "Each probability is compared with min_p itself. The floor is")
def of_all_together(logits, min_p):
    q = logits.softmax(-1)
    return logits.masked_fill(q < min_p * q.sum(), -math.inf)


@right("keep_min_p")
def min_p_in_logits(logits, min_p):
    return torch.where(logits - logits.max() < math.log(min_p), -math.inf, logits)


@right("keep_min_p")
def min_p_as_a_list(logits, min_p):
    probabilities = logits.softmax(-1).tolist()
    return [
        v if q >= min_p * max(probabilities) else -math.inf for v, q in zip(logits.tolist(), probabilities, strict=True)
    ]


@right("keep_min_p")
def min_p_by_numpy(logits, min_p):
    values = logits.numpy().astype(float)
    return np.where(values >= values.max() + np.log(min_p), values, -np.inf)
