"""A third set for notebooks 09 and 10."""

import math

import torch
from support.learners.collect import unexplained, wrong

from mamba2_lab.scan import chunked

# 09 Generation


@wrong("read_on", "What is written is x, without its step size. The scan takes x")
def x_without_dt(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x, log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "The scan starts from an empty state: what was read before is")
def begins_with_an_empty_state(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "It comes out as if `skip` were left out.")
def never_skips(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, -window.shape[1] :]
    return mixer.out(mixer.gate(y, z)), window, state


@wrong("write_greedily", "The list of new tokens has 9 entries, and the first 8 are")
def one_too_many(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    while len(new) <= count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "Two mistakes at once. The last token of the prompt is read twice")
def steps_from_the_prompt(model, ids, count):
    logits, cache = model.prefill(ids)
    new = []
    for _ in range(count):
        logits, cache = model.step(ids[:, -1], cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "It reads its first token again and again. `new[-1:]` is the")
def the_first_again(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    for _ in range(count - 1):
        logits, cache = model.step(torch.tensor(new[:1]), cache)
        new.append(int(logits.argmax()))
    return new


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


@wrong("release", "What stands behind the stop string waits for nothing: the")
def what_follows_waits(pending, stop):
    if stop in pending:
        shown, rest = pending.split(stop, 1)
        return shown, rest, True
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], stop[:n], False
    return pending, "", False


@wrong("release", "It goes up to the last stop string. The text is over at the")
def up_to_the_last_stop(pending, stop):
    if stop in pending:
        return pending[: pending.rindex(stop)], "", True
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], stop[:n], False
    return pending, "", False


@wrong("release", "It only sees a stop string at the very end. A token may bring")
def stops_only_at_the_end(pending, stop):
    if pending.endswith(stop):
        return pending[: -len(stop)], "", True
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], stop[:n], False
    return pending, "", False


# 10 Watching memory


@wrong("half_life_here", "It comes out as if 1 stood where 0 belongs.")
def over_the_heads(log_decay):
    return math.log(2) / -log_decay.mean(dim=1)


@wrong("half_life_here", "A half-life is a time that passes, so it is positive. Log")
def below_zero(log_decay):
    return math.log(2) / log_decay.mean(0)


@wrong("half_life_here", "The result is 1 divided by what is asked for.")
def halvings_per_token(log_decay):
    return -log_decay.mean(0) / math.log(2)


@wrong("overlap", "It comes out as if `.exp(...)` were left out.")
def sums_not_exponentials(log_decay, C, key):
    return log_decay.cumsum(0) * (C @ key)


@wrong("overlap", "It comes out as if `exp` were taken before `cumsum`, not")
def adds_the_decays(log_decay, C, key):
    return log_decay.exp().cumsum(0) * (C @ key)


@wrong("overlap", "It comes out as if `sum` stood where `cumsum` belongs.")
def all_of_the_fading(log_decay, C, key):
    return log_decay.sum().exp() * (C @ key)


@wrong("shares", "Each part was divided by its own length, so this says how")
def by_each_parts_own_length(parts, whole):
    return parts @ whole / (parts * parts).sum(1)


@wrong("shares", "Each entry is divided by that of the whole, and all count")
def mean_of_ratios(parts, whole):
    return (parts / whole).mean(dim=1)


@wrong("shares", "Every number of the result is 2.5 times what it should be.")
def over_the_number_of_entries(parts, whole):
    return parts @ whole / len(whole)


@wrong("through_silu", "The bias is missing inside the sigmoid: the convolution adds")
def gate_without_the_bias(inputs, taps, bias):
    terms = taps * inputs
    return torch.cat([terms, bias[None]]) * torch.sigmoid(terms.sum(0))


@wrong("through_silu", "The bias is shared out among the inputs. It is a part of its")
def bias_shared_out(inputs, taps, bias):
    terms = taps * inputs + bias / len(inputs)
    return terms * torch.sigmoid(terms.sum(0))


@wrong("through_silu", "It comes out as if `dim=0` were left out.")
def one_gate_for_all_channels(inputs, taps, bias):
    terms = torch.cat([taps * inputs, bias[None]])
    return terms * torch.sigmoid(terms.sum())


@wrong("resampled", "The result is 1 divided by what is asked for.")
def bytes_over_sums(sums, counts, picks):
    return counts[picks].sum(1) / sums[picks].sum(1)


@wrong("resampled", "It comes out as if 0 stood where 1 belongs, at each place.")
def down_the_columns(sums, counts, picks):
    return sums[picks].sum(0) / counts[picks].sum(0)


@unexplained("resampled")
def sum_of_ratios(sums, counts, picks):
    return (sums / counts)[picks].sum(1)
