"""Exercises of notebook 09."""
# mypy: allow-untyped-defs

import math

import torch

from mamba2_lab.config import Mamba2Config
from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws
from mamba2_lab.layers import LayerState, Mamba2
from mamba2_lab.mamba2_lm import Mamba2LM
from mamba2_lab.scan import chunked


def _shaken(module, seed):
    """The same module with every weight moved, none left at a mere 0 or 1, and nothing to be trained."""
    draw = Draws(seed).normal
    for parameter in module.requires_grad_(False).parameters():
        parameter += 0.3 * draw(*parameter.shape)
    return module


# Reading on


@reference(
    stars=3,
    atol=1e-5,
    hints=(
        "The steps are those of notebook 06, in the same order: project, convolve, discretise, scan, skip, gate, out. "
        "Only two of them look back: the convolution at the window, the scan at the state.",
        "The window holds what went into the convolution, not what came out of it. If there are few new tokens, some "
        "of the old window must stay.",
        "`torch.cat([window, xbc], dim=1)` holds old and new inputs in order. After l new tokens, the first l of them "
        "are out of reach.",
    ),
)
def read_on(u, mixer, window, state):
    """u (b,l,d), window (b,w,channels), state (b,h,p,n) -> y (b,l,d), and window and state after these l tokens."""
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, window), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, state)
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


def _a_mixer_in_the_middle_of_a_text(b, l, seed, **fields):
    config = Mamba2Config(d_model=4, d_state=3, headdim=2, chunk_size=4, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mixer = _shaken(Mamba2(**config.mixer_fields()), seed)
    window = Draws(seed + 1).normal(b, config.d_conv - 1, config.conv_dim)
    state = Draws(seed + 2).normal(b, config.nheads, config.headdim, config.d_state)
    return given(Draws(seed + 3).normal(b, l, config.d_model), mixer, window, state)


read_on.returns("`y`", "`window`", "`state`")


@read_on.cases
def a_piece_of_text_and_one_shorter_than_the_window():
    return [
        _a_mixer_in_the_middle_of_a_text(1, 6, seed=90),
        _a_mixer_in_the_middle_of_a_text(2, 1, seed=91, ngroups=2, dt_limit=(0.05, 0.9)),
    ]


@read_on.oracle
def token_by_token(u, mixer, window, state):
    """By the step of the package in float64; the inputs of the convolution straight from the rows of in_proj."""
    mixer, config = mixer.double(), mixer.config
    rows = mixer.in_proj.weight[config.d_inner : config.d_inner + config.conv_dim]
    inputs = [*window.double().unbind(1), *(u_t @ rows.T for u_t in u.double().unbind(1))]
    kept, ys = LayerState(window.double(), state.double()), []
    for u_t in u.double().unbind(1):
        y_t, kept = mixer.step(u_t, kept)
        ys.append(y_t)
    return torch.stack(ys, dim=1), torch.stack(inputs[-window.shape[1] :], dim=1), kept.ssm_state


read_on.slip(
    "The scan starts from an empty state: what was read before is forgotten, but for the last three inputs. Give "
    "`chunked` the state as its fifth argument.",
    starts_from_an_empty_state={"log_decay, B, C, state)": "log_decay, B, C)"},
)

read_on.slip(
    "The convolution starts from zeros, as at the beginning of a text. Its first tokens must see the inputs that stand "
    "in the window.",
    starts_from_an_empty_window={"convolve(xbc, window)": "convolve(xbc, torch.zeros_like(window))"},
)

read_on.slip(
    "The window holds what came out of the convolution, but the next token has to see what went in: its values would "
    "be convolved twice. (An attention layer with a convolution in state-spaces/mamba did this, pull request 1027.)",
    keeps_what_came_out_of_the_convolution={"[window, xbc]": "[window, mixer.convolve(xbc, window)]"},
)

read_on.slip(
    "The window is made of the new tokens alone. When there are fewer of them than it is wide, and in writing there is "
    "one, the rest of it has to come from the old window.",
    forgets_the_old_window={"torch.cat([window, xbc], dim=1)[:, u.shape[1] :]": "xbc[:, -window.shape[1] :]"},
)

read_on.slip(
    "The window never moves on: it is returned as it came, so that each token sees the last three of the prompt.",
    leaves_the_window_where_it_was={"\n    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]": ""},
)

read_on.slip(
    "What is written is x, without its step size. The scan takes x dt: a token at which little time passes writes "
    "little.",
    writes_without_the_step_size={"x * dt[..., None]": "x"},
)


# Writing


@reference(
    stars=2,
    hints=(
        "`model.prefill(ids)` gives the logits after the last token of the prompt, (1,v), and the cache. The first new "
        "token is known already.",
        "Each further token takes one step: `model.step(token, cache)` with the token that was just written, (1,), "
        "gives new logits and a new cache.",
        "The cache that a step returns is the one that the next step needs.",
    ),
)
def write_greedily(model, ids, count):
    """A prompt (1,l) -> a list of `count` new token ids, each the likeliest one; every token is read once."""
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    while len(new) < count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.argmax()))
    return new


@write_greedily.cases
def two_prompts_and_a_single_token():
    config = Mamba2Config(d_model=16, n_layer=2, vocab_size=23, d_state=8, headdim=8, chunk_size=4)
    model = _shaken(Mamba2LM(config, seed=7), seed=7)
    prompts = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])
    return [given(model, prompts[:1], 8), given(model, prompts[1:], 8), given(model, prompts[1:, :3], 1)]


@write_greedily.observe
def what_is_written_and_whether_each_token_was_read_once(answer, model, ids, count):
    looked_up = []
    model.embedding.register_forward_hook(lambda module, inputs, output: looked_up.append(inputs[0].numel()))
    new = answer(model, ids, count)
    once = sum(looked_up) <= ids.shape[1] + count
    return {"the list of new tokens": new, "every token is read": "once" if once else "more than once"}


@write_greedily.oracle
def by_reading_everything_for_each_token(model, ids, count):
    model, text = model.double(), ids
    for _ in range(count):
        text = torch.cat([text, model(text)[:, -1:].argmax(dim=-1)], dim=1)
    return {"the list of new tokens": text[0, ids.shape[1] :].tolist(), "every token is read": "once"}


write_greedily.slip(
    "It forgets its context: each token is read as if it were the first of a text. (Published: mlxcel built new states "
    "at every step for three families of recurrent models, issue 1220.)",
    forgets_its_context={"model.step(torch.tensor(new[-1:]), cache)": "model.prefill(torch.tensor([new[-1:]]))"},
)

write_greedily.slip(
    "The cache is never moved on: every step starts right after the prompt, and knows nothing of what was written "
    "since, but for one token.",
    keeps_the_cache_of_the_prompt={"logits, cache = model.step": "logits, _ = model.step"},
)

write_greedily.slip(
    "The last token of the prompt is read twice, once with the prompt and once more by the first step. To the model "
    "the prompt ends in a double letter.",
    reads_the_last_token_twice={
        "[int(logits.argmax())]": "ids[0, -1:].tolist()",
        "< count": "<= count",
        "return new": "return new[1:]",
    },
)


write_greedily.slip(
    "The first new token is missing. The logits of the prompt give it already: it is written before it is read.",
    leaves_the_first_token_out={"< count": "<= count", "return new": "return new[1:]"},
)


@write_greedily.wrong(
    "The tokens are right, but the whole text is read again for each of them. The cache holds all that is needed of "
    "what was read: read the prompt once, and then only what is new."
)
def reads_everything_again(model, ids, count):
    text = ids
    for _ in range(count):
        text = torch.cat([text, model(text)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return text[0, ids.shape[1] :].tolist()


write_greedily.slip(
    "The model reads the last token of the prompt again and again. It must read the one that was written last.",
    reads_the_prompts_last_token={"torch.tensor(new[-1:])": "ids[:, -1]"},
)

write_greedily.slip(
    "It reads its first token again and again. `new[-1:]` is the last one.",
    reads_its_first_token={"new[-1:]": "new[:1]"},
)


# Filters


def _logits(*probabilities):
    """Logits with these probabilities. A logit is known up to a constant: one is added, so that 0 means nothing."""
    return torch.tensor(probabilities).log() + 2.0


# Probabilities that computers add up and compare without rounding: 1/4, 1/2, 1/8, 1/8.
_HALVES = torch.tensor([0.25, 0.5, 0.125, 0.125], dtype=torch.float64).log()


@reference(
    stars=2,
    hints=(
        "Sort the logits from the likeliest down, and turn them into probabilities. How much is there before each "
        "token comes?",
        "A token is kept while less than p has been reached before it. So the one that reaches p is kept too, and the "
        "likeliest always.",
        "`sort` returns the order as well: `order[i]` is the token in place i. What is removed gets -inf.",
    ),
)
def keep_top_p(logits, p):
    """logits (v,), 0 < p < 1 -> (v,): -inf for all but the fewest likeliest tokens with probability p together."""
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(dim=-1)
    reached_before = probabilities.cumsum(dim=-1) - probabilities
    kept = torch.full_like(logits, -math.inf)
    kept[order[reached_before < p]] = ordered[reached_before < p]
    return kept


@keep_top_p.cases
def a_flat_distribution_a_sharp_one_and_some_in_disorder():
    return [
        given(_logits(0.1, 0.35, 0.05, 0.3, 0.2), 0.9),
        given(_logits(0.02, 0.95, 0.03), 0.9),
        given(_logits(0.15, 0.25, 0.2, 0.4), 0.3),
        given(Draws(93).normal(12) - 4, 0.65),
        given(_HALVES, 0.75),
    ]


@keep_top_p.oracle
def one_token_after_the_other(logits, p):
    values = logits.tolist()
    total = math.fsum(math.exp(value) for value in values)
    kept, reached = set(), 0.0
    for token in sorted(range(len(values)), key=lambda token: -values[token]):
        if reached < p:
            kept.add(token)
        reached += math.exp(values[token]) / total
    return [value if token in kept else -math.inf for token, value in enumerate(values)]


keep_top_p.slip(
    "It stops at one half, whatever p says. (Published: a threshold of 0.5, written into the sampler. The text looks "
    "fine, and the control does nothing.)",
    always_keeps_one_half={
        "order[reached_before < p]": "order[reached_before < 0.5]",
        "ordered[reached_before < p]": "ordered[reached_before < 0.5]",
    },
)

keep_top_p.slip(
    "The token with which the sum reaches p must be kept too; here the kept ones have less than p together, and where "
    "one token alone has more than p, nothing is left. (Published: Biohub/esm, pull request 360.)",
    drops_the_token_that_reaches_p={
        " - probabilities": "",
        "order[reached_before < p]": "order[reached_before <= p]",
        "ordered[reached_before < p]": "ordered[reached_before <= p]",
    },
)


@keep_top_p.wrong(
    "The likeliest token is always kept, as it must be. But where it takes several, the one with which the sum reaches "
    "p is left out, and the kept ones have less than p together. Ask what was reached before each token came."
)
def drops_the_token_that_reaches_p_unless_it_is_the_first(logits, p):
    ordered, order = logits.sort(descending=True)
    reached = ordered.softmax(dim=-1).cumsum(dim=-1)
    keep = reached <= p
    keep[0] = True
    kept = torch.full_like(logits, -math.inf)
    kept[order[keep]] = ordered[keep]
    return kept


keep_top_p.slip(
    "Where the kept tokens have exactly p together, one more is kept, and they are not the fewest. A token is kept "
    "while less than p has been reached before it: `<`, not `<=`.",
    keeps_one_more_where_p_is_met_exactly={
        "order[reached_before < p]": "order[reached_before <= p]",
        "ordered[reached_before < p]": "ordered[reached_before <= p]",
    },
)


keep_top_p.slip(
    "The logits are added up. What has to reach p is probability: take their softmax first.",
    adds_up_logits={
        "probabilities = ordered.softmax(dim=-1)": "probabilities = ordered / ordered.sum()",
    },
)


@keep_top_p.wrong(
    "The tokens are added up in the order of their ids. The fewest tokens are found by starting with the likeliest: "
    "sort first."
)
def forgets_to_sort(logits, p):
    probabilities = logits.softmax(dim=-1)
    reached_before = probabilities.cumsum(dim=-1) - probabilities
    return logits.masked_fill(reached_before >= p, -math.inf)


@keep_top_p.wrong(
    "The marks are those of the sorted tokens, and they were laid on the unsorted ones: place 0 is the likeliest "
    "token, not token 0. Go back through `order`."
)
def forgets_to_go_back(logits, p):
    probabilities = logits.softmax(dim=-1).sort(descending=True).values
    reached_before = probabilities.cumsum(dim=-1) - probabilities
    return logits.masked_fill(reached_before >= p, -math.inf)


keep_top_p.slip(
    "It adds up from the unlikeliest token: these are the many that one wants to be rid of. Sort with descending=True.",
    keeps_the_unlikely_ones={"descending=True": ""},
)

keep_top_p.slip(
    "Removed tokens got the logit 0, and exp(0) = 1 is no small weight: they may be likelier than before. A token that "
    "must not come has the logit -inf.",
    removes_with_zero={"torch.full_like(logits, -math.inf)": "torch.zeros_like(logits)"},
)

keep_top_p.slip(
    "Each probability is compared with a floor of 1 - p. Top-p is about a sum: from the likeliest on, add "
    "probabilities up until they reach p.",
    sets_a_floor={
        "kept[order[reached_before < p]] = ordered[reached_before < p]": (
            "kept[order[probabilities >= 1 - p]] = ordered[probabilities >= 1 - p]"
        ),
    },
)


@reference(
    stars=1,
    hints=(
        "The likeliest token sets the measure: its logit is the largest. Twice the probability is a larger logit, by "
        "how much?",
        "Probabilities are proportional to exp(logit), so a share min_p of the largest lies log(min_p) from the "
        "largest logit: below it, as min_p is less than 1.",
    ),
)
def keep_min_p(logits, min_p):
    """logits (v,), 0 < min_p < 1 -> (v,): -inf for tokens less than min_p times as probable as the likeliest."""
    return logits.masked_fill(logits < logits.max() + math.log(min_p), -math.inf)


@keep_min_p.cases
def a_likeliest_token_that_is_not_the_first():
    return [
        given(torch.tensor([-2.0, 3.0, 1.5, 0.9, -0.2]), 0.2),
        given(_logits(0.3, 0.02, 0.6, 0.08), 0.1),
        given(Draws(94).normal(12) - 4, 0.3),
        given(_HALVES, 0.5),
    ]


@keep_min_p.oracle
def probability_against_probability(logits, min_p):
    weights = [math.exp(value) for value in logits.tolist()]
    shares = [weight / math.fsum(weights) for weight in weights]
    return [
        value if share >= min_p * max(shares) else -math.inf
        for value, share in zip(logits.tolist(), shares, strict=True)
    ]


keep_min_p.slip(
    "A token that is exactly min_p times as probable as the likeliest is removed. Only those below the floor go: `<`, "
    "not `<=`.",
    removes_what_stands_on_the_floor={"logits < logits": "logits <= logits"},
)

keep_min_p.slip(
    "It measures by token 0, as if the tokens were sorted, and takes a share of its logit. The likeliest token sets "
    "the measure, wherever it stands. (Published: min_p in state-spaces/mamba; pull request 927.)",
    measures_by_token_0={"logits.max() + math.log(min_p)": "min_p * logits[0]"},
)

keep_min_p.slip(
    "A share of the probability is not a share of the logit: logits can be below 0, and only their differences mean "
    "something. Go down from the largest logit by log(min_p), or compare probabilities.",
    takes_a_share_of_the_logit={"logits.max() + math.log(min_p)": "min_p * logits.max()"},
)

keep_min_p.slip(
    "Each probability is compared with min_p itself. The floor is min_p times that of the likeliest token, so that it "
    "sinks where the model is unsure.",
    takes_min_p_for_the_floor={"logits < logits.max() + math.log(min_p)": "logits.softmax(dim=-1) < min_p"},
)

keep_min_p.slip(
    "These are probabilities. Tokens that stay keep their logits: only those that go are changed, to -inf.",
    returns_probabilities={
        "logits.masked_fill(": "logits.softmax(dim=-1).masked_fill(",
    },
)

keep_min_p.slip(
    "min_p is added to the largest logit. Logits are logarithms: a share of min_p lies log(min_p), a number below 0, "
    "under it.",
    adds_the_share_to_a_logit={
        "math.log(min_p)": "min_p",
    },
)


@keep_min_p.wrong(
    "Probabilities come back. Return logits with -inf for what is removed: other filters come after this one."
)
def returns_probabilities(logits, min_p):
    probabilities = logits.softmax(dim=-1)
    return torch.where(probabilities >= min_p * probabilities.max(), probabilities, 0.0)


@reference(
    stars=1,
    hints=(
        "Less likely means a smaller logit. Dividing makes a positive logit smaller. What does it do to a negative "
        "one?",
        "Multiply where the logit is negative, divide where it is positive, and leave tokens alone that have not been "
        "seen. A token seen twice counts once.",
        "`set(seen)` names each token once; start from `logits.clone()`, because the caller still needs the logits.",
    ),
)
def penalise(logits, seen, penalty):
    """logits (v,), seen a list of ids, penalty > 1 -> (v,): seen tokens less likely than they were."""
    penalised = logits.clone()
    for token in set(seen):
        penalised[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    return penalised


@penalise.cases
def logits_of_both_signs_and_a_token_seen_twice():
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0, 4.0])
    return [given(logits, [0, 2], 2.0), given(logits, [1, 4], 1.5), given(logits, [3, 0, 3, 3], 2.0)]


@penalise.oracle
def by_how_much_each_logit_falls(logits, seen, penalty):
    falls = [abs(value) * (penalty - 1) / (penalty if value > 0 else 1) for value in logits.tolist()]
    return [value - (falls[token] if token in seen else 0) for token, value in enumerate(logits.tolist())]


penalise.slip(
    "Dividing brings a negative logit closer to 0, that is up: a token that was seen gets likelier. Multiply those. "
    "(Published in transformers, issue 2302, and in NeMo, issue 8194.)",
    always_divides={" if logits[token] > 0 else logits[token] * penalty": ""},
)

penalise.slip(
    "Multiplying makes a positive logit larger: a token that was seen gets likelier. Divide those.",
    always_multiplies={"logits[token] / penalty if logits[token] > 0 else ": ""},
)

penalise.slip(
    "A token that was seen three times is punished three times. Here it counts once: a space would be forbidden within "
    "a few words.",
    punishes_each_time={
        "set(seen)": "seen",
        "= logits[token]": "= penalised[token]",
        "else logits[token]": "else penalised[token]",
    },
)

penalise.slip(
    "All tokens are penalised, also those that have not been seen: nothing is gained for the new ones.",
    penalises_everything={"set(seen)": "range(len(logits))"},
)

penalise.slip(
    "Seen tokens are ruled out altogether. A penalty makes them less likely; some letters must come again.",
    forbids_what_was_seen={"logits[token] / penalty if logits[token] > 0 else logits[token] * penalty": "-math.inf"},
)

penalise.slip(
    "The penalty is subtracted. It is a factor: a positive logit is divided by it, a negative one multiplied.",
    subtracts_the_penalty={
        "logits[token] / penalty if logits[token] > 0 else logits[token] * penalty": "logits[token] - penalty",
    },
)

keep_top_p.slip(
    "One token too many is kept: those before it have p together already.",
    keeps_one_more={
        "kept = ": "reached_before = torch.cat([reached_before.new_zeros(1), reached_before[:-1]])\n    kept = "
    },
)


@penalise.wrong(
    "The tokens that were seen stay as they are, and all others are made less likely. It is the other way round."
)
def penalises_the_unseen(logits, seen, penalty):
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    penalised[seen] = logits[seen]
    return penalised


keep_top_p.slip(
    "Those are the others: what is left when p is reached is thrown away, not kept.",
    keeps_the_others={
        "kept[order[reached_before < p]] = ordered[reached_before < p]": (
            "kept[order[reached_before >= p]] = ordered[reached_before >= p]"
        )
    },
)

keep_top_p.slip(
    "Only the likeliest token is kept, whatever p is. Keep as many as it takes to have p together.",
    keeps_one={
        "reached_before = probabilities.cumsum(dim=-1) - probabilities": "reached_before = torch.arange(len(logits))"
    },
)

keep_min_p.slip(
    "min_p is subtracted from a logit. A share of a probability is the logarithm of it, added.",
    subtracts_min_p={"+ math.log(min_p)": "- min_p"},
)

penalise.slip(
    "A logarithm is subtracted: that divides the probability. Here the logit itself is divided, or multiplied below 0.",
    subtracts_a_logarithm={
        "logits[token] / penalty if logits[token] > 0 else logits[token] * penalty": "logits[token] - math.log(penalty)"
    },
)


# Stop strings


@reference(
    stars=3,
    hints=(
        "Two questions, in this order: is the stop string there as a whole? If not, could the end of the text be its "
        "beginning?",
        "Try the beginnings of the stop string, longest first: `pending.endswith(stop[:n])`. The longest that fits is "
        "held back; everything before it may be shown.",
        "`pending.partition(stop)` gives what stands before the stop string, the string itself or nothing, and the "
        "rest.",
    ),
)
def release(pending, stop):
    """Text not shown yet -> (what may be shown, what must wait, whether it is over). The stop string is never shown."""
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    for n in range(min(len(stop) - 1, len(pending)), 0, -1):
        if pending.endswith(stop[:n]):
            return pending[:-n], pending[-n:], False
    return pending, "", False


release.returns("what may be shown", "what must wait", "whether it is over")


@release.cases
def nothing_a_beginning_the_whole_and_a_beginning_in_a_beginning():
    return [
        given("x = 1", "\n\n"),
        given("x = 1\n", "\n\n"),
        given("x = 1\n\ny", "\n\n"),
        given("a\n\nb\n\n", "\n\n"),
        given("\n", "\n\ndef"),
        given("pass\n\nde", "\n\ndef"),
        given("xaba", "abab"),
        given("a need", "end"),
        given("ab", "bcd"),
        given("", "end"),
    ]


@release.oracle
def every_way_to_cut(pending, stop):
    """The earliest place from which on the text agrees with the stop string, as far as both go."""
    for start in range(len(pending)):
        rest = pending[start:]
        if all(one == other for one, other in zip(rest, stop, strict=False)):
            whole = len(rest) >= len(stop)
            return pending[:start], "" if whole else rest, whole
    return pending, "", False


@release.wrong(
    "A beginning of the stop string is shown. Once it is on the screen nobody can take it back. (Published: vLLM, "
    "issue 3574; text-generation-inference, issue 1254.)"
)
def holds_nothing_back(pending, stop):
    before, found, _ = pending.partition(stop)
    return before, "", bool(found)


release.slip(
    "What stands behind the stop string is shown. It belongs to what nobody asked for: nothing from the stop string on "
    "is shown.",
    shows_what_comes_behind={"return before,": 'return pending.replace(stop, ""),'},
)

release.slip(
    "The stop string is shown. It says where the text ends, and is not part of it.",
    shows_the_stop_string={"return before,": "return before + stop,"},
)


@release.wrong(
    "It always holds back as many characters as might belong to a stop string, whether they fit or not: every text "
    "lags behind. Hold back only what is a beginning of it."
)
def holds_too_much_back(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    shown = max(0, len(pending) - len(stop) + 1)
    return pending[:shown], pending[shown:], False


release.slip(
    "The shortest beginning is held back. The end `aba` holds two beginnings of `abab`, `a` and `aba`: if `b` comes "
    "next, the longer one was it. Try the longest first.",
    holds_the_shortest_beginning={
        "range(min(len(stop) - 1, len(pending)), 0, -1)": "range(1, min(len(stop) - 1, len(pending)) + 1)"
    },
)

release.slip(
    "The stop string waits, as if it might still be shown. Once it is there the text is over, and nothing waits.",
    lets_the_stop_string_wait={'return before, "", True': "return before, stop, True"},
)

release.slip(
    "It only sees a stop string at the very end. A token may bring the stop string and more at once: look for it "
    "anywhere.",
    looks_at_the_end_only={
        "before, found, _ = pending.partition(stop)": "before, found = pending[: -len(stop)], pending.endswith(stop)"
    },
)

release.slip(
    "The stop string is shown. What stands before it is all that may be seen, and nothing waits once it is over.",
    shows_it_and_holds_back_the_rest={
        'return before, "", True': "return before + found, pending[len(before + found) :], True",
    },
)

release.slip(
    "What stands behind the stop string waits for nothing: the text is over, and it is thrown away.",
    keeps_what_follows={
        "before, found, _ =": "before, found, after =",
        'return before, "", True': "return before, after, True",
    },
)

release.slip(
    "It goes up to the last stop string. The text is over at the first.",
    ends_at_the_last={"pending.partition": "pending.rpartition"},
)


release.slip(
    "A single letter is held back. More of the stop string may stand there already.",
    holds_back_a_letter={"min(len(stop) - 1, len(pending))": "min(1, len(pending))"},
)


@release.wrong("Letters of the stop string wait in any order. Only what may be its beginning waits.")
def holds_back_its_letters(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    shown = pending.rstrip(stop)
    return shown, pending[len(shown) :], False
