"""Answers to notebook 09."""

import math

import numpy as np
import torch
from support.learners.collect import right, wrong

from mamba2_lab.scan import chunked

# read_on


def _read(u, mixer, window, state, *, start=None, keep="inputs", skips=True):
    z, xbc, dt = mixer.project(u)
    convolved = mixer.convolve(xbc, window if start is None else start)
    x, dt, log_decay, B, C = mixer.discretise(convolved, dt)
    y, new_state = chunked(x * dt[..., None], log_decay, B, C, state)
    if skips:
        y = mixer.skip(y, x)
    y = mixer.out(mixer.gate(y, z))
    w = window.shape[1]
    kept = convolved if keep == "outputs" else torch.cat([window, xbc], 1) if keep == "inputs" else xbc
    return y, kept[:, kept.shape[1] - min(w, kept.shape[1]) :], new_state


@wrong("read_on", "The window holds what came out of the convolution, but the")
def window_of_the_convolved(u, mixer, window, state):
    return _read(u, mixer, window, state, keep="outputs")


@wrong("read_on", "The window is made of the new tokens alone")
def window_of_the_new_alone(u, mixer, window, state):
    return _read(u, mixer, window, state, keep="new")


@wrong("read_on", "The convolution starts from zeros, as at the beginning of")
def begins_with_an_empty_window(u, mixer, window, state):
    return _read(u, mixer, window, state, start=torch.zeros_like(window))


@right("read_on")
def read_on_as_a_list(u, mixer, window, state):
    return list(_read(u, mixer, window, state))


@right("read_on")
def one_token_at_a_time(u, mixer, window, state):
    ys = []
    for t in range(u.shape[1]):
        y, window, state = _read(u[:, t : t + 1], mixer, window, state)
        ys.append(y)
    return torch.cat(ys, 1), window, state


@right("read_on")
def in_two_halves(u, mixer, window, state):
    if u.shape[1] < 2:
        return _read(u, mixer, window, state)
    first, window, state = _read(u[:, :1], mixer, window, state)
    rest, window, state = _read(u[:, 1:], mixer, window, state)
    return torch.cat([first, rest], 1), window, state


# write_greedily


@wrong("write_greedily", "The tokens are right, but the whole text is read again for")
def reads_everything_again(model, ids, count):
    out = []
    for _ in range(count):
        logits, _ = model.prefill(ids)
        out.append(logits[0].argmax().item())
        ids = torch.cat([ids, torch.tensor([[out[-1]]])], 1)
    return out


@wrong("write_greedily", "It forgets its context")
def forgets_the_cache(model, ids, count):
    logits, cache = model.prefill(ids)
    out = [logits[0].argmax().item()]
    for _ in range(count - 1):
        logits, _ = model.prefill(torch.tensor([[out[-1]]]))
        out.append(logits[0].argmax().item())
    return out[:count]


@wrong("write_greedily", "The list of new tokens has 16 entries, and the last 8 are")
def with_the_prompt(model, ids, count):
    logits, cache = model.prefill(ids)
    out = ids[0].tolist()
    for _ in range(count):
        out.append(logits[0].argmax().item())
        logits, cache = model.step(torch.tensor([out[-1]]), cache)
    return out


@right("write_greedily")
def as_a_list_of_tensors(model, ids, count):
    logits, cache = model.prefill(ids)
    out = []
    for i in range(count):
        token = logits.argmax(-1)
        out.append(token[0])
        if i < count - 1:
            logits, cache = model.step(token, cache)
    return out


@right("write_greedily")
def by_prefill_of_one(model, ids, count):
    out, cache = [], None
    for _ in range(count):
        logits, cache = model.prefill(ids, cache)
        ids = logits.argmax(-1, keepdim=True)
        out.append(ids.item())
    return out


@right("write_greedily")
def greedy_as_a_tensor(model, ids, count):
    return torch.tensor(by_prefill_of_one(model, ids, count), dtype=torch.long)


# keep_top_p


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


# keep_min_p


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


# penalise


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


# release


@wrong("release", "A beginning of the stop string is shown")
def shows_half_a_stop_string(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    return pending, "", False


@wrong("release", "It always holds back as many characters as might belong to")
def always_holds_as_much(pending, stop):
    if stop in pending:
        return pending[: pending.index(stop)], "", True
    cut = max(0, len(pending) - (len(stop) - 1))
    return pending[:cut], pending[cut:], False


@wrong("release", "The stop string is shown")
def shows_the_stop_string(pending, stop):
    if stop in pending:
        end = pending.index(stop) + len(stop)
        return pending[:end], pending[end:], True
    for size in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:size]):
            return pending[:-size], pending[-size:], False
    return pending, "", False


@right("release")
def release_as_a_list(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return [before, "", True]
    held = next((k for k in range(len(stop) - 1, 0, -1) if pending.endswith(stop[:k])), 0)
    return [pending[: len(pending) - held], pending[len(pending) - held :], False]


@right("release")
def from_the_left(pending, stop):
    for i in range(len(pending)):
        if pending[i:].startswith(stop):
            return pending[:i], "", True
        if stop.startswith(pending[i:]):
            return pending[:i], pending[i:], False
    return pending, "", False


@right("release")
def with_numpy_truth(pending, stop):
    shown, held, over = release_as_a_list(pending, stop)
    return shown, held, np.bool_(over)
