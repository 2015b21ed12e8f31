"""Answers to `penalise`."""

import math

import torch
from support.learners.collect import right, wrong


@wrong("penalise", "Dividing brings a negative logit closer to 0, that is up")
def divides_negative_ones_too(logits, seen, penalty):
    out = logits.clone()
    out[seen] = out[seen] / penalty
    return out


@wrong("penalise", "A token that was seen three times is punished three times")
def once_for_each_time(logits, seen, penalty):
    out = logits.clone()
    for i in seen:
        out[i] = out[i] / penalty if out[i] > 0 else out[i] * penalty
    return out


@wrong("penalise", "The penalty is subtracted")
def subtracts(logits, seen, penalty):
    out = logits.clone()
    out[seen] -= penalty
    return out


@wrong("penalise", "A token that was seen three times is punished three times.")
def once_for_each_time_it_stood(logits, seen, penalty):
    out = logits.clone()
    for i in seen:
        out[i] = out[i] / penalty if out[i] > 0 else out[i] * penalty
    return out


@wrong("penalise", "The penalty is subtracted. It is a factor: a positive logit")
def takes_the_penalty_away(logits, seen, penalty):
    out = logits.clone()
    out[list(set(seen))] -= penalty
    return out


@wrong("penalise", "All tokens are penalised, also those that have not been")
def all_tokens(logits, seen, penalty):
    return torch.where(logits > 0, logits / penalty, logits * penalty)


@wrong("penalise", "Dividing brings a negative logit closer to 0, that is up: a")
def always_divides(logits, seen, penalty):
    out = logits.clone()
    for i in set(seen):
        out[i] = out[i] / penalty
    return out


@wrong("penalise", "It comes out as if the two sides of `if ... else` were")
def signs_mixed_up(logits, seen, penalty):
    out = logits.clone()
    for token in set(seen):
        out[token] = logits[token] * penalty if logits[token] > 0 else logits[token] / penalty
    return out


@wrong("penalise", "It changes its input `logits` in place, which its caller may")
def penalised_in_place(logits, seen, penalty):
    for token in set(seen):
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    return logits


@wrong("penalise", "The tokens that were seen stay as they are, and all others")
def all_but_the_seen(logits, seen, penalty):
    out = torch.where(logits > 0, logits / penalty, logits * penalty)
    out[seen] = logits[seen]
    return out


@wrong("penalise", "A logarithm is subtracted: that divides the probability. Here")
def by_the_logarithm(logits, seen, penalty):
    out = logits.clone()
    for token in seen:
        out[token] = logits[token] - math.log(penalty)
    return out


@wrong("penalise", "Multiplying makes a positive logit larger: a token that was")
def multiplies_always(logits, seen, penalty):
    out = logits.clone()
    for token in set(seen):
        out[token] = logits[token] * penalty
    return out


@wrong("penalise", "Seen tokens are ruled out altogether. A penalty makes them")
def forbids_what_was_seen(logits, seen, penalty):
    out = logits.clone()
    out[seen] = -math.inf
    return out


@wrong("penalise", "It comes out as if `seen[-1:]` stood where `seen` belongs.")
def the_last_seen_alone(logits, seen, penalty):
    out, token = logits.clone(), seen[-1]
    out[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    return out


@right("penalise")
def penalty_by_where(logits, seen, penalty):
    is_seen = torch.isin(torch.arange(len(logits)), torch.tensor(seen, dtype=torch.long))
    return torch.where(is_seen, torch.minimum(logits / penalty, logits * penalty), logits)


@right("penalise")
def penalty_as_a_list(logits, seen, penalty):
    return [min(v / penalty, v * penalty) if i in seen else v for i, v in enumerate(logits.tolist())]


@right("penalise")
def penalty_by_numpy(logits, seen, penalty):
    out = logits.numpy().astype(float)
    for i in set(seen):
        out[i] = out[i] / penalty if out[i] > 0 else out[i] * penalty
    return out
