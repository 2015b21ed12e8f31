"""A fourth set for notebooks 09 and 10."""

import math

import torch
from support.learners.collect import unexplained, wrong

from mamba2_lab.scan import chunked

# 09 Generation


@unexplained("read_on")
def no_gate(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.skip(y, x).flatten(-2)), window, state


@wrong("read_on", "It comes out as if `B` and `C` were exchanged.")
def b_and_c_the_other_way(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, C, B, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("read_on", "The window never moves on: it is returned as it came, so that")
def the_old_window(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@wrong("write_greedily", "The list of new tokens ends too early: it has 7 of 8 entries,")
def one_too_few(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    for _ in range(count - 2):
        logits, cache = model.step(torch.tensor([new[-1]]), cache)
        new.append(int(logits.argmax()))
    return new


@wrong("write_greedily", "It comes out as if `argmin` stood where `argmax` belongs, at")
def the_least_likely(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmin())]
    while len(new) < count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.argmin()))
    return new


@wrong("write_greedily", "The last token of the prompt is read twice, once with the")
def reads_the_last_token_of_the_prompt_again(model, ids, count):
    logits, cache = model.prefill(ids)
    token, new = ids[:, -1], []
    while len(new) < count:
        logits, cache = model.step(token, cache)
        token = logits.argmax(-1)
        new.append(int(token))
    return new


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


@wrong("release", "A single letter is held back. More of the stop string may")
def keeps_one_letter(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    if pending and pending[-1] == stop[0]:
        return pending[:-1], pending[-1], False
    return pending, "", False


@wrong("release", "Whether it is over is False where True belongs.")
def never_over(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", False
    for n in range(len(stop) - 1, 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], pending[-n:], False
    return pending, "", False


@wrong("release", "Letters of the stop string wait in any order. Only what may")
def waits_for_any_letter_of_it(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    shown = pending.rstrip(stop)
    return shown, pending[len(shown) :], False


# 10 Watching memory


@wrong("half_life_here", "It comes out as if the last one stood where `mean` belongs.")
def of_the_last_token(log_decay):
    return math.log(2) / -log_decay[-1]


@wrong("half_life_here", "It comes out as if `dim=0` were left out.")
def mean_over_everything(log_decay):
    return math.log(2) / -log_decay.mean()


@wrong("half_life_here", "It comes out as if 0.5 stood where `math.log(2)` belongs.")
def half_and_not_ln(log_decay):
    return 0.5 / -log_decay.mean(dim=0)


@wrong("overlap", "The result has shape (4, 3) where (4,) is expected: the sum")
def by_each_ones_key(log_decay, C, key):
    return log_decay.cumsum(0).exp()[:, None] * C * key


@wrong("overlap", "It comes out as if it were divided by")
def divided_by_the_fading(log_decay, C, key):
    return (C @ key) / log_decay.cumsum(0).exp()


@wrong("overlap", "The result is added up, entry after entry: leave that out.")
def faded_and_summed(log_decay, C, key):
    return (log_decay.cumsum(0).exp() * (C @ key)).cumsum(0)


@unexplained("shares")
def softmax_of_products(parts, whole):
    return (parts @ whole).softmax(0)


@wrong("shares", "This is the cosine: how well a part points along the whole,")
def over_both_lengths(parts, whole):
    return parts @ whole / (parts.norm(dim=1) * whole.norm())


@wrong("shares", "Sizes are added up, so what points against the whole counts")
def sizes_over_sizes(parts, whole):
    return parts.abs().sum(1) / whole.abs().sum()


@unexplained("through_silu")
def silu_of_the_total(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    silu = total * torch.sigmoid(total)
    return silu.expand(len(inputs) + 1, -1)


@wrong("through_silu", "It comes out as if `taps` were left out.")
def taps_forgotten(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    return torch.cat([inputs, bias[None]]) * torch.sigmoid(total)


@wrong("through_silu", "The result ends too early: it has 2 of 3 entries along axis")
def without_a_row_for_the_bias(inputs, taps, bias):
    total = (taps * inputs).sum(0) + bias
    return taps * inputs * torch.sigmoid(total)


@wrong("resampled", "It divides by the bytes of all files. Each row of `picks` has")
def counts_as_they_are(sums, counts, picks):
    return sums[picks].sum(1) / counts.sum()


@wrong("resampled", "It comes out as if `mean` stood where `sum` belongs.")
def means_for_sums(sums, counts, picks):
    return sums[picks].mean(1) / counts[picks].sum(1)


@unexplained("resampled")
def median_of_files(sums, counts, picks):
    return (sums[picks] / counts[picks]).median(dim=1).values
