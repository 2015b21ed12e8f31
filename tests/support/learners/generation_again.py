"""Further wrong answers to notebook 09, written before its list of mistakes was read again."""

import math

import torch
from support.learners.collect import wrong

from mamba2_lab.scan import chunked

# read_on


@wrong("read_on", "It comes out as if `x * dt[..., None]` stood where `x`")
def skips_with_dt(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    x = x * dt[..., None]
    y, state = chunked(x, log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "The window never moves on: it is returned as it came, so")
def keeps_the_first_inputs(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, : window.shape[1]]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "It comes out as if `B` and `C` were exchanged.")
def gate_before_skip(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, C, B, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "`state` is `state` as it was given: nothing was done to it.")
def old_state(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, _ = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


# write_greedily


@wrong("write_greedily", "The cache is never moved on: every step starts right after")
def never_keeps_the_new_cache(model, ids, count):
    logits, cache = model.prefill(ids)
    new = []
    for _ in range(count):
        new.append(int(logits[0].argmax()))
        logits, _ = model.step(torch.tensor(new[-1:]), cache)
    return new


@wrong("write_greedily", "The last token of the prompt is read twice, once with the")
def last_token_twice(model, ids, count):
    _, cache = model.prefill(ids)
    token, new = ids[:, -1], []
    for _ in range(count):
        logits, cache = model.step(token, cache)
        token = logits.argmax(dim=-1)
        new.append(int(token))
    return new


@wrong("write_greedily", "The first new token is missing. The logits of the prompt")
def one_behind(model, ids, count):
    logits, cache = model.prefill(ids)
    new = []
    for _ in range(count):
        token = logits.argmax(dim=-1)
        logits, cache = model.step(token, cache)
        new.append(int(logits.argmax(dim=-1)))
    return new


@wrong("write_greedily", "The list of new tokens has 16 entries, and the last 8 are")
def prompt_in_front(model, ids, count):
    logits, cache = model.prefill(ids)
    new = ids[0].tolist()
    for _ in range(count):
        new.append(int(logits.argmax()))
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
    return new


# keep_top_p


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


# keep_min_p


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


# penalise


@wrong("penalise", "A token that was seen three times is punished three times.")
def once_for_each_time_it_stood(logits, seen, penalty):
    out = logits.clone()
    for i in seen:
        out[i] = out[i] / penalty if out[i] > 0 else out[i] * penalty
    return out


@wrong("penalise", "The penalty is subtracted. It is a factor: a positive logit")
def subtracts(logits, seen, penalty):
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


# release


@wrong("release", "The shortest beginning is held back. The end `aba` holds")
def shortest_beginning(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    for k in range(1, len(stop)):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False


@wrong("release", "It always holds back as many characters as might belong to")
def always_holds_back(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    cut = max(len(pending) - len(stop) + 1, 0)
    return pending[:cut], pending[cut:], False


@wrong("release", "What stands behind the stop string is shown. It belongs to")
def ends_without_the_stop(pending, stop):
    if stop in pending:
        return pending.replace(stop, ""), "", True
    for k in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False


@wrong("release", "The stop string waits, as if it might still be shown. Once")
def nothing_waits(pending, stop):
    if stop in pending:
        return pending.split(stop)[0], stop, True
    for k in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:k]):
            return pending[:-k], pending[-k:], False
    return pending, "", False
