"""A fourth set for notebooks 09 and 10."""

import math

import torch
from support.learners.collect import wrong

from mamba2_lab.scan import chunked

# 09 Generation


@wrong("read_on", "")
def no_gate(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.skip(y, x).flatten(-2)), window, state


@wrong("read_on", "")
def b_and_c_the_other_way(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, C, B, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "")
def the_old_window(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("write_greedily", "")
def one_too_few(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    for _ in range(count - 2):
        logits, cache = model.step(torch.tensor([new[-1]]), cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "")
def the_least_likely(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmin())]
    while len(new) < count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.argmin()))
    return new


@wrong("write_greedily", "")
def reads_the_last_token_of_the_prompt_again(model, ids, count):
    logits, cache = model.prefill(ids)
    token, new = ids[:, -1], []
    while len(new) < count:
        logits, cache = model.step(token, cache)
        token = logits.argmax(-1)
        new.append(int(token))
    return new


@wrong("keep_top_p", "")
def keeps_the_tail(logits, p):
    ordered, order = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    kept = torch.full_like(logits, -math.inf)
    kept[order[before >= p]] = ordered[before >= p]
    return kept


@wrong("keep_top_p", "")
def the_likeliest_alone(logits, p):
    kept = torch.full_like(logits, -math.inf)
    kept[logits.argmax()] = logits.max()
    return kept


@wrong("keep_top_p", "")
def stops_before_p(logits, p):
    ordered, order = logits.sort(descending=True)
    total = ordered.softmax(-1).cumsum(-1)
    kept = torch.full_like(logits, -math.inf)
    kept[order[total < p]] = ordered[total < p]
    return kept


@wrong("keep_min_p", "")
def ln_left_out(logits, min_p):
    return logits.masked_fill(logits < logits.max() - min_p, -math.inf)


@wrong("keep_min_p", "")
def log10_for_ln(logits, min_p):
    return logits.masked_fill(logits < logits.max() + math.log10(min_p), -math.inf)


@wrong("keep_min_p", "")
def times_the_least_likely(logits, min_p):
    p = logits.softmax(-1)
    return logits.masked_fill(p < min_p * p.min(), -math.inf)


@wrong("penalise", "")
def by_the_logarithm(logits, seen, penalty):
    out = logits.clone()
    for token in seen:
        out[token] = logits[token] - math.log(penalty)
    return out


@wrong("penalise", "")
def multiplies_always(logits, seen, penalty):
    out = logits.clone()
    for token in set(seen):
        out[token] = logits[token] * penalty
    return out


@wrong("penalise", "")
def forbids_what_was_seen(logits, seen, penalty):
    out = logits.clone()
    out[seen] = -math.inf
    return out


@wrong("release", "")
def keeps_one_letter(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    if pending and pending[-1] == stop[0]:
        return pending[:-1], pending[-1], False
    return pending, "", False


@wrong("release", "")
def never_over(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", False
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], pending[-n:], False
    return pending, "", False


@wrong("release", "")
def waits_for_any_letter_of_it(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    shown = pending.rstrip(stop)
    return shown, pending[len(shown) :], False


# 10 Watching memory


@wrong("half_life_here", "")
def of_the_last_token(log_decay):
    return math.log(2) / -log_decay[-1]


@wrong("half_life_here", "")
def mean_over_everything(log_decay):
    return math.log(2) / -log_decay.mean()


@wrong("half_life_here", "")
def half_and_not_ln(log_decay):
    return 0.5 / -log_decay.mean(dim=0)


@wrong("overlap", "")
def by_each_ones_key(log_decay, C, key):
    return log_decay.cumsum(0).exp()[:, None] * C * key


@wrong("overlap", "")
def divided_by_the_fading(log_decay, C, key):
    return (C @ key) / log_decay.cumsum(0).exp()


@wrong("overlap", "")
def faded_and_summed(log_decay, C, key):
    return (log_decay.cumsum(0).exp() * (C @ key)).cumsum(0)


@wrong("shares", "")
def softmax_of_products(parts, whole):
    return (parts @ whole).softmax(0)


@wrong("shares", "")
def over_both_lengths(parts, whole):
    return parts @ whole / (parts.norm(dim=1) * whole.norm())


@wrong("shares", "")
def sizes_over_sizes(parts, whole):
    return parts.abs().sum(1) / whole.abs().sum()


@wrong("through_silu", "")
def silu_of_the_total(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    silu = total * torch.sigmoid(total)
    return silu.expand(len(inputs) + 1, -1)


@wrong("through_silu", "")
def taps_forgotten(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    return torch.cat([inputs, bias[None]]) * torch.sigmoid(total)


@wrong("through_silu", "")
def without_a_row_for_the_bias(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    return taps * inputs * torch.sigmoid(total)


@wrong("resampled", "")
def counts_as_they_are(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "")
def means_for_sums(sums, counts, picks):
    return sums[picks].mean(1) / counts[picks].sum(1)


@wrong("resampled", "")
def median_of_files(sums, counts, picks):
    return (sums[picks] / counts[picks]).median(dim=1).values
