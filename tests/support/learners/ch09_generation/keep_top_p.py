"""Answers to `keep_top_p`."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong


@wrong("keep_top_p", "The token with which the sum reaches p must be kept too")
def leaves_out_the_one_that_crosses(logits, p):
    order = logits.argsort(descending=True)
    kept = order[logits.softmax(-1)[order].cumsum(-1) <= p]
    out = torch.full_like(logits, -math.inf)
    out[kept] = logits[kept]
    return out


@wrong("keep_top_p", "Each probability is compared with a floor of 1 - p")
def a_floor_of_p(logits, p):
    return logits.masked_fill(logits.softmax(-1) < 1 - p, -math.inf)


@wrong("keep_top_p", "The tokens are added up in the order of their ids")
def forgets_to_sort(logits, p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities.cumsum(-1) - probabilities >= p, -math.inf)


@wrong("keep_top_p", "Each probability is compared with a floor of 1 - p. Top-p")
def probable_enough(logits, p):
    probs = logits.softmax(-1)
    return logits.masked_fill(probs < 1 - p, -math.inf)


@wrong("keep_top_p", "The result holds the right entries, in another order.")
def stays_sorted(logits, p):
    ordered, _ = logits.sort(descending=True)
    probs = ordered.softmax(-1)
    return ordered.masked_fill(probs.cumsum(-1) - probs >= p, -math.inf)


@wrong("keep_top_p", "Removed tokens got the logit 0, and exp(0) = 1 is no small")
def filled_with_zero(logits, p):
    probs, order = logits.softmax(-1).sort(descending=True)
    out = torch.zeros_like(logits)
    keep = order[probs.cumsum(-1) - probs < p]
    out[keep] = logits[keep]
    return out


@wrong("keep_top_p", "The logits are added up. What has to reach p is")
def over_logits(logits, p):
    ordered, order = logits.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    out = torch.full_like(logits, -math.inf)
    keep = order[before < p * ordered.sum()]
    out[keep] = logits[keep]
    return out


@wrong("keep_top_p", "It adds up from the unlikeliest token: these are the many")
def from_the_least_likely(logits, p):
    ordered, order = logits.sort()
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = torch.full_like(logits, -math.inf)
    kept[order[before < p]] = ordered[before < p]
    return kept


@wrong("keep_top_p", "The result holds the log_softmax of `logits`, not its own")
def keeps_log_probabilities(logits, p):
    logs, order = logits.log_softmax(-1).sort(descending=True)
    before = logs.exp().cumsum(0) - logs.exp()
    kept = torch.full_like(logits, -math.inf)
    kept[order[before < p]] = logs[before < p]
    return kept


@wrong("keep_top_p", "One token too many is kept: those before it have p together")
def one_token_more(logits, p):
    ordered, order = logits.sort(descending=True)
    count = int((ordered.softmax(-1).cumsum(0) < p).sum()) + 2
    kept = torch.full_like(logits, -math.inf)
    kept[order[:count]] = ordered[:count]
    return kept


@wrong("keep_top_p", "Those are the others: what is left when p is reached is")
def keeps_the_tail(logits, p):
    ordered, order = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    kept = torch.full_like(logits, -math.inf)
    kept[order[before >= p]] = ordered[before >= p]
    return kept


@wrong("keep_top_p", "Only the likeliest token is kept, whatever p is. Keep as many")
def the_likeliest_alone(logits, p):
    kept = torch.full_like(logits, -math.inf)
    kept[logits.argmax()] = logits.max()
    return kept


@wrong("keep_top_p", "The token with which the sum reaches p must be kept too; here")
def stops_before_p(logits, p):
    ordered, order = logits.sort(descending=True)
    total = ordered.softmax(-1).cumsum(-1)
    kept = torch.full_like(logits, -math.inf)
    kept[order[total < p]] = ordered[total < p]
    return kept


@wrong("keep_top_p", "The result holds the softmax of `logits`, not its own numbers.")
def probabilities_for_logits(logits, p):
    q, order = logits.softmax(-1).sort(descending=True)
    before = q.cumsum(-1) - q
    kept = torch.full_like(logits, -math.inf)
    kept[order[before < p]] = q[before < p]
    return kept


@right("keep_top_p")
def top_p_by_a_loop(logits, p):
    probabilities, kept, total = logits.softmax(-1).tolist(), [], 0.0
    for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total >= p:
            break
        kept.append(i)
        total += probabilities[i]
    return torch.tensor([v if i in kept else -math.inf for i, v in enumerate(logits.tolist())])


@right("keep_top_p")
def top_p_by_numpy(logits, p):
    values = logits.numpy().astype(float)
    probabilities = np.exp(values - values.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]
    out = np.full(len(values), -np.inf)
    kept = order[before < p - 1e-9]
    out[kept] = values[kept]
    return out


@right("keep_top_p")
def top_p_as_a_list(logits, p):
    return top_p_by_a_loop(logits, p).tolist()
