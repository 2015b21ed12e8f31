"""Exercises of notebook 03."""
# mypy: allow-untyped-defs

import math

import torch
import torch.nn.functional as F

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws

# What a memory holds at the end


@reference(
    stars=2,
    hints=(
        "Token s writes dt[s]. After it, only the time of the later tokens fades what it wrote: how much is that?",
        "The time from s to the end is a running sum taken from the end; a token's own time is not part of it.",
        "`dt.flip(-1).cumsum(-1).flip(-1)` sums from s to the end, s included.",
    ),
)
def held(dt, A):
    """dt (..., l); A < 0, a number or (..., 1) -> (..., l): how much of each word the state holds after the last."""
    time_since = dt.flip(-1).cumsum(-1).flip(-1) - dt
    return dt * torch.exp(A * time_since)


@held.cases
def a_sentence_two_rows_and_a_single_word():
    draw = Draws(1).signed
    rows = given(1 + draw(2, 4), torch.tensor([[-0.5], [-2.0]]))
    return [given(torch.tensor([0.5, 0.0, 1.0, 0.2]), -1.0), rows, given(torch.tensor([0.7]), -3.0)]


@held.oracle
def by_running_the_recurrence(dt, A):
    l = dt.shape[-1]
    rates = torch.as_tensor(A, dtype=torch.float64).expand(*dt.shape[:-1], 1)
    state = torch.zeros_like(dt, dtype=torch.float64)
    for t in range(l):
        state = state * torch.exp(rates * dt[..., t : t + 1].double())
        state[..., t] += dt[..., t].double()
    return state


held.slip(
    "What a word writes has not faded yet at that word: only the time of the words after it fades it.",
    fades_at_once={" - dt": ""},
)

held.slip(
    "It says what is left of a writing of 1. But word s writes dt[s] of itself: with dt 0, nothing.",
    writes_one_of_each={"dt * torch.exp": "torch.exp"},
)

held.slip(
    "The time that passed before a word does it no harm. Sum the time from the word to the end.",
    fades_by_the_time_before={"dt.flip(-1).cumsum(-1).flip(-1)": "dt.cumsum(-1)"},
)

held.slip(
    "It counts the words after s. Time is what fades, and each word brings as much of it as its own dt.",
    counts_words={"dt.flip(-1).cumsum(-1).flip(-1) - dt": "torch.arange(dt.shape[-1]).flip(0)"},
)

held.slip(
    "Each later word is counted as if it took as long as this one. What fades a word is the sum of the dt of the "
    "words after it.",
    counts_later_words_alike={
        "dt.flip(-1).cumsum(-1).flip(-1) - dt": "dt * torch.arange(dt.shape[-1] - 1, -1, -1)",
    },
)

held.slip(
    "Each word is faded by the next one alone. All the words after it take their time, and it fades in all of it.",
    fades_by_the_next_word={
        "dt.flip(-1).cumsum(-1).flip(-1) - dt": "torch.cat([dt[..., 1:], torch.zeros_like(dt[..., :1])], dim=-1)"
    },
)

held.slip(
    "It makes shares of what is held, which add up to 1. A state holds as much as it holds: nothing is divided among "
    "the words.",
    makes_shares={"dt * torch.exp(A * time_since)": "(dt.log() + A * time_since).softmax(dim=-1)"},
)


# Choosing dt so that the memory holds what it should


@reference(
    stars=3,
    hints=(
        "What is an unmarked word's dt, if it must write nothing?",
        "Begin at the last marked word: nothing fades it, so its dt is the amount itself. How much time has then "
        "passed since the marked word before it, and how much more must that one write?",
        "Go backwards and keep the time that passes later. dt[s] exp(A later) has to be the amount: solve for dt[s], "
        "then add it to the time.",
    ),
)
def dt_to_hold(marked, amount, A):
    """marked (l,) bool, amount > 0, A < 0 -> dt (l,): the state ends with `amount` of each marked word, no other."""
    dt, later = torch.zeros(len(marked)), 0.0
    for s in reversed(range(len(marked))):
        if marked[s]:
            dt[s] = amount * math.exp(-A * later)
            later += dt[s].item()
    return dt


@dt_to_hold.cases
def two_marked_words_three_and_none():
    two, three, none = [0, 1, 0, 0, 1, 0], [1, 0, 1, 1], [0, 0, 0]
    return [
        given(torch.tensor(two).bool(), 0.5, -1.0),
        given(torch.tensor(three).bool(), 0.25, -2.0),
        given(torch.tensor(none).bool(), 0.5, -1.0),
    ]


@dt_to_hold.oracle
def by_repeating_until_it_holds(marked, amount, A):
    later_than = torch.ones(len(marked), len(marked), dtype=torch.float64).triu(1)
    dt = torch.zeros(len(marked), dtype=torch.float64)
    for _ in range(len(marked) + 1):  # each round settles one word more, from the last to the first
        dt = marked * amount * torch.exp(-A * (later_than @ dt))
    return dt


dt_to_hold.slip(
    "Every marked word is written alike, so the earlier ones have faded by the end: time passes while the later ones "
    "are written. The earlier a word, the more it must write.",
    writes_all_alike={"amount * math.exp(-A * later)": "amount"},
)

dt_to_hold.slip(
    "It goes through the words forwards, and lets a word make up for the time before it. What fades a word is the "
    "time after it: go backwards.",
    makes_up_for_the_time_before={"reversed(range(len(marked)))": "range(len(marked))"},
)

dt_to_hold.slip(
    "The exponent has the wrong sign: an earlier word has to write more than the amount, not less.",
    writes_less_of_the_earlier={"-A * later": "A * later"},
)

dt_to_hold.slip(
    "The time that passes at a later marked word is its own dt, and that is more than `amount` for all but the last.",
    takes_every_later_word_for_the_last={"later += dt[s].item()": "later += amount"},
)


# The rule that looks at the token


@reference(
    stars=1,
    hints=(
        "One matrix makes all the numbers of a token's rule: `F.linear(u, weight, bias)` has h + 2 n of them.",
        "Split them along the last axis into h, n and n. Which of the three must not be negative?",
    ),
)
def selective_rule(u, weight, bias, n):
    """u (..., d), weight (h+2n, d), bias (h+2n,) -> dt (..., h) above 0, then B and C, (..., n) each, in this order."""
    dt, B, C = F.linear(u, weight, bias).split([len(bias) - 2 * n, n, n], dim=-1)
    return F.softplus(dt), B, C


selective_rule.returns("`dt`", "`B`", "`C`")


@selective_rule.cases
def three_tokens_and_two_rows_of_them():
    def rule(seed, *rows, n):
        draw = Draws(seed).signed
        return given(draw(*rows, 4), 3 * draw(7, 4), draw(7), n)

    return [rule(2, 3, n=2), rule(3, 2, 3, n=1)]


@selective_rule.oracle
def row_by_row(u, weight, bias, n):
    made = torch.einsum("kd,...d->...k", weight.double(), u.double()) + bias.double()
    h = len(bias) - 2 * n
    softplus = torch.log(1 + torch.exp(made[..., :h]))
    return softplus, made[..., h : h + n], made[..., h + n :]


selective_rule.slip(
    "dt can be negative here, and time would run backwards, as in notebook 01: `F.softplus` makes it positive.",
    lets_time_run_backwards={"F.softplus(dt)": "dt"},
)

selective_rule.slip(
    "Softplus is for dt alone. B and C may have either sign: they say where, not how long.",
    makes_all_of_it_positive={
        "F.linear(u, weight, bias)": "F.softplus(F.linear(u, weight, bias))",
        "F.softplus(dt)": "dt",
    },
)

selective_rule.slip(
    "B and C have changed places. The order is dt, B, C.",
    exchanges_b_and_c={"dt, B, C =": "dt, C, B ="},
)

selective_rule.slip(
    "The bias is left out: it says what the rule is when the token says nothing.",
    forgets_the_bias={"weight, bias": "weight"},
)

selective_rule.slip(
    "This is exp, not softplus, log(1 + exp): near it while dt is small, and far too large for a long dt.",
    takes_the_exponential={"F.softplus": "torch.exp"},
)

selective_rule.slip(
    "relu gives 0 for every negative number: such a token is never written, and no gradient could change that. "
    "softplus is above 0 everywhere.",
    cuts_off_at_zero={
        "F.softplus": "F.relu",
    },
)

selective_rule.slip(
    "`dt` is taken from the end. The rows of the weight come in this order: h for dt, n for B, n for C.",
    takes_dt_from_the_end={
        "dt, B, C = F": "B, C, dt = F",
        "[len(bias) - 2 * n, n, n]": "[n, n, len(bias) - 2 * n]",
    },
)


# Mamba-1


@reference(
    stars=2,
    hints=(
        "The state has a row for each channel and a column for each entry of B: (d, n). Begin with zeros.",
        "The log decay of a token is dt[t] with an axis behind it, times A: (d, 1) times (d, n).",
        "What is written is dt[t] * x[t], (d,), in the direction B[t], (n,): an outer product. What is read is the new "
        "state times C[t].",
    ),
)
def selective_scan(x, dt, A, B, C):
    """x, dt (l,d); A (d,n), negative; B, C (l,n) -> y (l,d): the scan of Mamba-1, from an empty state."""
    state, y = torch.zeros_like(A), []
    for t in range(len(x)):
        state = torch.exp(dt[t][:, None] * A) * state + (dt[t] * x[t])[:, None] * B[t]
        y.append(state @ C[t])
    return torch.stack(y)


@selective_scan.cases
def five_tokens_and_one():
    def system(seed, l):
        draw = Draws(seed).signed
        return given(draw(l, 3), 1.1 + draw(l, 3), draw(3, 2) - 1.1, draw(l, 2), draw(l, 2))

    return [system(5, 5), system(6, 1)]


@selective_scan.oracle
def term_by_term(x, dt, A, B, C):
    """Every entry of y as a sum over what was written: no state, no step."""
    x, dt, A, B, C = (part.double() for part in (x, dt, A, B, C))
    l, d = x.shape
    y = torch.zeros(l, d, dtype=torch.float64)
    for t in range(l):
        for s in range(t + 1):
            faded = torch.exp(dt[s + 1 : t + 1].sum(dim=0)[:, None] * A)  # (d,n)
            y[t] += torch.einsum("n,dn,n,d->d", C[t], faded, B[s], dt[s] * x[s])
    return y


selective_scan.slip(
    "The log decay lacks dt: exp(A) fades the same at every token, and the memory can no longer choose what to keep.",
    decays_without_time={"dt[t][:, None] * A": "A"},
)

selective_scan.slip(
    "What is written lacks dt: the input is dt[t] * x[t].",
    writes_without_time={"(dt[t] * x[t])": "x[t]"},
)

selective_scan.slip(
    "Each channel has one decay here, the mean of its row of A. In Mamba-1 every entry has its own.",
    one_decay_a_channel={"dt[t][:, None] * A": "(dt[t] * A.mean(dim=1))[:, None]"},
)

selective_scan.slip(
    "The state is read before the token is written: y[t] must know of x[t].",
    reads_too_early={
        "state = torch.exp(dt[t][:, None] * A) * state + (dt[t] * x[t])[:, None] * B[t]": "y.append(state @ C[t])",
        "y.append(state @ C[t])": "state = torch.exp(dt[t][:, None] * A) * state + (dt[t] * x[t])[:, None] * B[t]",
    },
)

selective_scan.slip(
    "B and C have changed places: B says where a token is written, C where it reads.",
    reads_with_b={"* B[t]": "* C[t]", "@ C[t]": "@ B[t]"},
)


# Mamba-2 as a special case


@reference(
    stars=1,
    hints=(
        "The p channels of a head lie side by side: channels 0 ... p-1 belong to head 0. All take its dt.",
        "`repeat_interleave` writes each entry several times in a row; `repeat` begins again from the first.",
    ),
)
def as_mamba1(dt, A, p, n):
    """Mamba-2's dt (l,h), A (h,) -> Mamba-1's dt (l,h*p), A (h*p,n) that fade the same, heads of p channels each."""
    return dt.repeat_interleave(p, dim=1), A.repeat_interleave(p)[:, None].repeat(1, n)


as_mamba1.returns("`dt`", "`A`")


@as_mamba1.cases
def two_heads_of_three_channels_and_three_of_two():
    two = given(torch.tensor([[0.1, 0.2], [0.3, 0.4]]), torch.tensor([-1.0, -2.0]), 3, 2)
    return [two, given(torch.tensor([[0.5, 0.2, 0.1]]), torch.tensor([-1.0, -4.0, -2.0]), 2, 4)]


@as_mamba1.oracle
def entry_by_entry(dt, A, p, n):
    channels = range(dt.shape[1] * p)
    return [[row[c // p] for c in channels] for row in dt.tolist()], [[A[c // p].item()] * n for c in channels]


as_mamba1.slip(
    "The heads alternate from channel to channel. The p channels of a head lie side by side: use `repeat_interleave`.",
    deals_the_heads_out={"dt.repeat_interleave(p, dim=1)": "dt.repeat(1, p)", "A.repeat_interleave(p)": "A.repeat(p)"},
)

as_mamba1.slip(
    "dt and A are both for heads; here dt was laid out by channels in the right order, and A was not.",
    lays_out_the_rates_by_turns={"A.repeat_interleave(p)": "A.repeat(p)"},
)

as_mamba1.slip(
    "dt is shared out among the channels. Time is not divided: it passes for each of them in full.",
    divides_the_time={"dt.repeat_interleave(p, dim=1)": "dt.repeat_interleave(p, dim=1) / p"},
)

as_mamba1.slip(
    "The tokens are repeated, not the heads: dt is (l,h), so the heads lie along dim 1.",
    repeats_tokens={
        "(p, dim=1)": "(p, dim=0)",
    },
)
