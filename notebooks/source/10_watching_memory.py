# %% [markdown]
# # What a model remembers can be read, predicted and exchanged
#
# After this notebook you can
#
# 1. say how long each head of a trained model remembers, on the text before you;
# 2. predict what becomes of something written into a state, and draw a map of who reads what that holds to the last
#    digit;
# 3. ask a question about a memory in such a way that the answer could have been no.
#
# **You need** the half-life of notebook 01, the decay mask of notebook 04, the steps of the mixer of notebook 06, and
# the cache of notebook 09.
# **Time**: two hours for you, 60 minutes of them for the exercises; about two minutes for the machine. Everything runs
# on the CPU.
#
# One small class comes with us all the way. The model was trained on Python source, but it has never read this.

# %%
import math
import os

import torch

from mamba2_lab import Mamba2LM, inspect, load_tokenizer, plots
from mamba2_lab.course import exercise, glossary

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: fewer and shorter texts
glossary("half-life", "log decay", "decay mask", "mixer", "skip connection", "cache")

# %%
text = '''class Basket:
    """What a customer has chosen."""

    def __init__(self, limit=12):
        self.items = []
        self.limit = limit

    def add(self, item):
        if len(self.items) >= self.limit:
            raise ValueError("the basket is full")
        self.items.append(item)

    def total(self):
        return sum(item.price for item in self.items)
'''

# %%
model, tokenizer = Mamba2LM.from_pretrained("small").requires_grad_(False), load_tokenizer("small")
ids = torch.tensor(tokenizer.encode(text))
pieces = [tokenizer.decode([i]) for i in ids]
trace = inspect.trace(model, ids)
print(trace, f"{trace.nbytes / 1e6:.0f} MB")

# %% [markdown]
# A *trace* is what a model did while it read: for each layer and token its step size dt, log decay, B, C, x, what was
# read from the state, and what the layer put on the residual stream. States are not kept, for all of them together
# would fill the memory. They are computed when we ask for one.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "trace truth about",
    "Is a trace the truth about the model? Add up what all layers gave to the stream, and compare with the model. And "
    "take one state from the trace, and compare with the cache. What is the largest difference?",
    ["none at all", "rounding", "some percent"],
)

# %%
stream = trace.layers[0].u + sum(layer.output for layer in trace.layers)
logits, cache = model.prefill(ids[None])
state = trace.states(layer=3, head=0, positions=[len(ids) - 1])[0]
off = {
    "stream": (stream - trace.residual).abs().max(),
    "logits": (trace.logits[-1] - logits[0]).abs().max(),
    "state": (state - cache.layers[3].ssm_state[0, 0]).abs().max(),
}
print(*(f"{name}: {error:.0e} off" for name, error in off.items()), sep="\n")
largest = max(off.values())
outcome("trace truth about", "none at all" if largest == 0 else "rounding" if largest < 1e-4 else "some percent")


# %% [markdown] tags=["answer"]
# From here on the trace is what we look at.

# %% [markdown]
# ## How long does a head remember?
#
# A head's decay at a token is exp(dt A). A is a weight: it is the same for every text. The step size dt is not. It is
# softplus of a sum of two numbers: a bias, which is a weight, and what the projection makes of the token.
#
# If the projection gives 0, dt is softplus of the bias. Call that a head *at rest*. Half-lives at rest can be read off
# the weights, without any text: those of notebook 07 were of this kind.
#
# ### Exercise: the half-life on this text ★
#
# ★ one mean · importance 3 of 3 · 5 minutes · needed for the figure of half-lives
#
# On a text each token has a decay of its own. Which constant decay would fade as much from the first token to the last?
# Its half-life is what we call that of the head on this text.

# %%
@exercise("half_life_here")
def half_life_here(log_decay):
    """log_decay (l,h) <= 0 -> (h,): half-life, in tokens, of the constant decay that fades as much in all."""
    ...


# %%
at_rest = torch.stack([layer.half_life_at_rest for layer in trace.layers])
here = torch.stack([half_life_here(layer.log_decay) for layer in trace.layers])
print(f"{here.numel()} heads at rest: {at_rest.min():.1f} to {at_rest.max():.0f} tokens")

# %%
predict(
    "text half-lives longer",
    "Half-lives on the text, or half-lives at rest: which are longer, for most heads?",
    ["on the text", "at rest", "as many one as the other"],
)

# %%
ratio = at_rest / here
print(f"shorter here than at rest: {(ratio > 1).sum()} of {ratio.numel()} heads")
print(f"median factor {ratio.median():.1f}, largest {ratio.max():.0f}")
print(f"off by more than 2: {((ratio > 2) | (ratio < 0.5)).sum()} heads")
share = (ratio > 1).float().mean()
verdict = "at rest" if share > 0.6 else "on the text" if share < 0.4 else "as many one as the other"
outcome("text half-lives longer", verdict)


# %% [markdown]
# ## Three kinds of heads
#
# A half-life of 20 tokens can come about in two ways. A head may fade a little at each token. Or it keeps nearly all,
# and now and then throws nearly all away. The log decays tell them apart: add up those of the strongest tenth of all
# tokens, and see what share of all fading they have. If all tokens faded alike it would be one tenth.

# %%
def share_of_strongest_tenth(log_decay):
    """(l,h) -> (h,): the part of all fading that happens at the tokens where a head fades most."""
    fading = -log_decay.sort(dim=0).values
    return fading[: round(0.1 * len(fading))].sum(dim=0) / fading.sum(dim=0)


tenth = torch.stack([share_of_strongest_tenth(layer.log_decay) for layer in trace.layers])
print(f"strongest tenth: {tenth.min():.0%} to {tenth.max():.0%} of a head's fading")

# %% [markdown]
# We call a head *reset-like* if that share is above one half, and sort the others by their half-life on the text:
# *short* up to 10 tokens, *long* above. The limits are ours; nature draws none there.

# %%
kinds = {"short": (tenth <= 0.5) & (here <= 10), "long": (tenth <= 0.5) & (here > 10), "reset-like": tenth > 0.5}
print({name: int(heads.sum()) for name, heads in kinds.items()})


# %% [markdown]
# We shall follow one head of each kind: of the short ones that with a half-life near 3 tokens, the one that remembers
# longest, and the one whose fading is least even.

# %%
def of_kind(name, closeness):
    """(layer, head) of the head of a kind for which closeness (layers,heads) is largest."""
    return divmod(int(closeness.masked_fill(~kinds[name], -math.inf).argmax()), model.config.nheads)


examples = {
    "short": of_kind("short", -(here - 3).abs()),
    "long": of_kind("long", here),
    "reset-like": of_kind("reset-like", tenth),
}

# %%
for name, (layer, head) in examples.items():
    print(
        f"{name}: layer {layer}, head {head}, {at_rest[layer, head]:.0f} tokens at rest, {here[layer, head]:.0f} here"
    )

# %%
flat = {name: heads.flatten() for name, heads in kinds.items()}
named = {name: layer * model.config.nheads + head for name, (layer, head) in examples.items()}
plots.show(plots.half_lives(at_rest.flatten(), here.flatten(), flat, named))

# %%
predict(
    "named heads lose",
    "Below is what the three named heads lose, byte by byte. At which bytes would you reset a memory of Python source?",
)

# %%
part = slice(text.index("    def __init__"), text.index("        self.limit"))
decays = {name: trace.layers[layer].decay[part, head] for name, (layer, head) in examples.items()}
plots.show(plots.losses_by_token(pieces[part], decays))
outcome("named heads lose")


# %% [markdown] tags=["answer"]
# What one sees in one text is an anecdote. Further down we shall measure it over many.

# %% [markdown]
# ## Write a fact, and watch it fade
#
# A state is written to as in notebook 03: value times key, dt x B^T. So we can write as well. `inspect.inject` takes a
# cache and gives back one with one more pair in one head. We write just before `12`, with the B that the `1` itself
# will use as its key, and with a value that no text ever wrote: a random direction of length 1.
#
# ### Exercise: predict what will be read ★★
#
# ★★ a running product and a match · importance 2 of 3 · 15 minutes · needed for a fact that is written and fades
#
# Each of the next tokens lets the state fade, then reads it with its C. How much of our value will each one read?

# %%
@exercise("overlap")
def overlap(log_decay, C, key):
    """log_decay (l,), C (l,n), key (n,) -> (l,): how much of a value written with key the next l tokens read."""
    ...


# %%
layer, head = examples["reset-like"]
here_we_write = text.index("12")
record, rest = trace.layers[layer], slice(here_we_write, here_we_write + 48)
key = record.B[here_we_write, 0]
predicted = overlap(record.log_decay[rest, head], record.C[rest, 0], key)
left = record.log_decay[rest, head].cumsum(dim=0).exp()

# %% [markdown]
# That was the prediction, from decays and C alone. Now the experiment: read on twice, from the cache as it is and from
# the one with our pair in it, and take the difference of what the head read.

# %%
_, before = model.prefill(ids[None, :here_we_write])
value = torch.randn(model.config.headdim, generator=torch.Generator().manual_seed(0))
value = value / value.norm()
with_fact = inspect.inject(before, layer, head, key, value)

# %%
plain, changed = (inspect.trace(model, ids[rest], cache).layers[layer] for cache in (before, with_fact))
read = (changed.y - plain.y)[:, head] @ value
fact = changed.states(head) - plain.states(head)

# %%
measured = fact.flatten(1).norm(dim=1) / key.norm()
others = [i for i in range(model.config.nheads) if i != head]
print(f"read: {(read - predicted).abs().max():.0e} off, of up to {predicted.abs().max():.2f}")
print(f"left: {(measured - left).abs().max():.0e} off")
print(f"control: other heads of the layer changed by {(changed.y - plain.y)[:, others].abs().max():.0e}")

# %%
predict("half pair gone", "Half of the pair is gone after how many bytes?", unit="bytes")

# %%
print(f"half is gone after {(left > 0.5).sum()} bytes")
print(f"{(predicted < 0).sum()} of {len(predicted)} bytes read with a minus")

# %%
plots.show(plots.fading_pair(pieces[rest], (left, measured), (predicted, read)))
outcome("half pair gone", int((left > 0.5).sum()))


# %% [markdown]
# ## A map of who reads what
#
# What a head gives on is not y alone but y + D x: what it read from its state, and the skip. Both are vectors. For a
# map we want one number for each part of a sum.
#
# ### Exercise: shares of an output ★
#
# ★ one quotient · importance 3 of 3 · 5 minutes · needed for every map of this notebook

# %%
@exercise("shares")
def shares(parts, whole):
    """parts (k,p), whole (p,) their sum -> (k,): how far each part goes in the direction of the whole, 1 in all."""
    ...


# %%
predict(
    "heads give comes",
    "Of what a head gives on, how much comes from the state? (The rest just passed by it.) We take the median over the "
    "text for each head, and then over the heads.",
    unit="%",
)


# %%
def share_of_state(layer, head):
    """The median over the text of the share that y has in y + D x."""
    y, skipped = trace.layers[layer].y[:, head], trace.layers[layer].skipped[:, head]
    return float(
        torch.stack([shares(torch.stack(parts), sum(parts))[0] for parts in zip(y, skipped, strict=True)]).median()
    )


heads = [(layer, head) for layer in range(model.config.n_layer) for head in range(model.config.nheads)]
of_state = torch.tensor([share_of_state(*each) for each in heads])

# %%
print(f"median over the heads {of_state.median():.0%}; above one half: {(of_state > 0.5).sum()} of {len(heads)} heads")
layer, head = heads[of_state.argmax()]
record = trace.layers[layer]
print(f"most in layer {layer}, head {head}: {of_state.max():.0%}")
outcome("heads give comes", 100 * of_state.median().item())

# %% [markdown] tags=["answer"]
# Keep that in mind before you look at any map of a state: for many heads it shows the lesser part. We draw the map of
# the head that lives on its state most.

# %% [markdown]
# In notebook 04 the scan was a matrix: y = M x, with M = L ∘ (C Bᵀ) and dt on the columns. For a trained model people
# draw M as a *hidden attention* map (Ali et al. 2024, arXiv:2403.01590). Let us make an honest one. It has a sign, so
# its colours must have one. And it must give the output back.

# %%
M = trace.attention(layer, head)
print(f"M x against what the head read: {(M @ record.x[:, head] - record.y[:, head]).abs().max():.0e} off")
earlier = M[torch.ones_like(M, dtype=torch.bool).tril(-1)]
print(f"of the weights on earlier tokens {(earlier < 0).float().mean():.0%} are negative")

# %%
predict(
    "leave dt out",
    "Leave dt out, as if each token had written with the same force. In how many rows is it now another source "
    "that has the largest weight?",
    unit="% of the rows",
)

# %%
without_dt = trace.attention(layer, head, with_dt=False)
largest, other = (rows.abs().argmax(dim=1) for rows in (M, without_dt))
print(f"another largest source in {(largest != other).float().mean():.0%} of the rows")
outcome("leave dt out", 100 * (largest != other).float().mean().item())


# %% [markdown] tags=["answer"]
# M is still not the whole story. Its sources are the x that come out of the convolution, and each of those was made of
# four tokens. And D x goes round the state altogether. `trace.layers[layer].contributions` follows both: it says what
# each token of the text added to y + D x.

# %% [markdown]
# How can a convolution be taken apart, if a bent function, silu, comes after the sum?
#
# ### Exercise: shares that survive a silu ★★★
#
# ★★★ an idea, and then two lines · importance 2 of 3 · 25 minutes · needed for the map that looks through the
# convolution

# %%
@exercise("through_silu")
def through_silu(inputs, taps, bias):
    """inputs (w,p), taps (w,p), bias (p,) -> (w+1,p): what each input, and the bias, adds to silu(v)."""
    ...


# %%
p, t = model.config.headdim, 100
channels = slice(head * p, (head + 1) * p)
parts = through_silu(record.xBC[t - 3 : t + 1, channels], record.taps[:, channels], record.conv_bias[channels])
print(f"the parts against x: {(parts.sum(dim=0) - record.x[t, head]).abs().max():.0e} off")

# %% [markdown]
# B, C and dt stay whole in this account: they say how x is moved, and x is what is moved. Other accounts are possible.
# What all must do is add up.

# %%
window = slice(text.index("self.limit = "), text.index("\n\n    def add"))
rows, errors = [], []
for target in range(window.start, window.stop):
    made, whole = record.contributions(head, target), record.y[target, head] + record.skipped[target, head]
    rows.append(shares(made.tokens, whole))
    errors.append((made.total - whole).abs().max())
print(f"contributions against y + D x: {max(errors):.0e} off")

# %%
shown = {"M without dt": without_dt[window, window], "M": M[window, window]}
shown["share of y + D x"] = torch.stack(rows)[:, window]

# %%
plots.show(plots.signed_maps(pieces[window], shown))

# %% [markdown]
# ## Which bytes open the gate?
#
# A large dt lets much time pass: the state fades, and the new token is written strongly. One says that the gate opens.
# In one text we saw some openings. Is it the newline, the bracket, the name? We need many texts, classes that are fixed
# before we look, and a measure of doubt.
#
# Each byte is of the first class below that it fits.

# %%
import re

CLASSES = {
    **{"newline": r"\n", "indentation": r"^ +", "blank": " "},
    **{"opening bracket": r"[(\[{]", "closing bracket": r"[)\]}]", "quote": "[\"']"},
    **{"digit": r"\d", "first letter": r"\b[A-Za-z_]", "letter": r"\w", "other": "."},
}
names = list(CLASSES)
pattern = re.compile("|".join(f"({each})" for each in CLASSES.values()).encode(), re.MULTILINE | re.DOTALL)


# %%
def classify(source):
    """The class of each byte of a text, (bytes,)."""
    found = [[match.lastindex - 1] * len(match.group()) for match in pattern.finditer(source.encode())]
    return torch.tensor(sum(found, []))


print([(piece, names[i]) for piece, i in zip("x = [1]\n", classify("x = [1]\n"), strict=True)])

# %% [markdown]
# For each head and class: how much does a byte of this class fade the state, compared with the average byte of its
# file? With the average of all files a class could look strong only because it is frequent in files that fade more. We
# read files of the standard library that the model was not trained on.

# %%
from mamba2_lab.data import standard_library

length = 800 if FAST else 2500
documents = [document for document in standard_library().held_out if document.bytes >= length][: 10 if FAST else None]
sources = [document.text.encode()[:length].decode(errors="ignore") for document in documents]
print(f"{len(sources)} files, {sum(len(source.encode()) for source in sources):,} bytes")


# %%
def log_decays(source):
    """(layers,l,h), all that we keep of a trace."""
    return torch.stack([layer.log_decay for layer in inspect.trace(model, tokenizer.encode(source)).layers])


faded = [log_decays(source) for source in sources]


# %%
def by_class(layer, head, labels):
    """(f,k) files by classes: fading of all bytes of a class, in times the file's average; and their number."""
    fading = [each[layer, :, head] / each[layer, :, head].mean() for each in faded]
    sums = [torch.zeros(len(names)).index_add(0, of, amounts) for of, amounts in zip(labels, fading, strict=True)]
    counts = [torch.bincount(of, minlength=len(names)) for of in labels]
    return torch.stack(sums), torch.stack(counts)


# %% [markdown]
# How sure can we be? Bytes of one file are alike, so what chance dealt us are files, not bytes. The *bootstrap* draws
# as many files again, with repetition, many times, and looks how much the result moves. The middle 95 % of the draws
# are its *interval*.
#
# ### Exercise: the mean over resampled files ★★
#
# ★★ one mean of sums, with an axis more · importance 3 of 3 · 10 minutes · needed for every interval of this notebook

# %%
@exercise("resampled")
def resampled(sums, counts, picks):
    """sums (f,), counts (f,) of f files, picks (r,f) file numbers -> (r,): each row's mean over all bytes."""
    ...


# %%
f = len(sources)
draws = torch.randint(f, (1000, f), generator=torch.Generator().manual_seed(0))
picks = torch.cat([torch.arange(f)[None], draws])  # the files as they are, then 1000 draws


# %%
def ratios(layer, head, labels):
    """For each class: times the average fading, and an interval of 95 %."""
    sums, counts = by_class(layer, head, labels)
    found = torch.stack([resampled(sums[:, i], counts[:, i], picks) for i in range(len(names))])
    low, high = found[:, 1:].quantile(torch.tensor([0.025, 0.975]), dim=1)
    return dict(zip(names, zip(found[:, 0].tolist(), low.tolist(), high.tolist(), strict=True), strict=True))


# %%
predict(
    "classes far 1",
    "At bytes of which class does the reset-like head fade most?",
    names,
)

# %%
labels = [classify(source) for source in sources]
generator = torch.Generator().manual_seed(0)
shuffled = [of[torch.randperm(len(of), generator=generator)] for of in labels]
opened = {name: ratios(layer, head, labels) for name, (layer, head) in examples.items()}
opened["control: classes shuffled"] = ratios(*examples["reset-like"], shuffled)

# %%
for name, found in opened.items():
    away = [f"{each} {middle:.1f}" for each, (middle, low, high) in found.items() if not low <= 1 <= high]
    print(f"{name}\n    interval without 1: {', '.join(away) or 'none'}")

# %%
plots.show(plots.gate_openers(opened))
fading = {name: middle for name, (middle, _, _) in opened["reset-like"].items()}
outcome("classes far 1", max(fading, key=fading.get))

# %% [markdown]
# ### The same of what we saw in one text
#
# Half-lives, the share of the state and the part of dt were seen in one text. Now the same over all of these files,
# beside a control: a model of the same shape that has learned nothing.

# %%
predict(
    "something training brought",
    "By how much will the trained model differ from the untrained one, in that of the three where they differ most?",
    unit="points of percent",
)

# %%
untrained = Mamba2LM(model.config, seed=0).requires_grad_(False)


def seen_in(reader, source):
    """Of a file: shorter half-lives than at rest, of all heads; the state's share; rows where dt changes the source."""
    read = inspect.trace(reader, tokenizer.encode(source)[: 400 if FAST else 700])
    shorter = torch.stack([layer.half_life < layer.half_life_at_rest for layer in read.layers]).float().mean()
    y, whole = (torch.stack(of) for of in zip(*((each.y, each.y + each.skipped) for each in read.layers), strict=True))
    of_state = ((y * whole).sum(dim=-1) / whole.square().sum(dim=-1)).median(dim=1).values.median()
    rows = range(100, len(read.input_ids), 10)
    first = [read.attention(layer, head, rows, with_dt=dt).abs().argmax(dim=1) for dt in (True, False)]
    return torch.stack([shorter, of_state, (first[0] != first[1]).float().mean()])


layer, head = heads[of_state.argmax()]

# %%
claims = (
    "half-life shorter than at rest",
    "median share of the state",
    f"dt changes the source (layer {layer}, head {head})",
)
seen = {
    name: torch.stack([seen_in(reader, source) for source in sources])
    for name, reader in (("trained", model), ("untrained", untrained))
}
for i, claim in enumerate(claims):
    print(f"{claim}:")
    for name, values in seen.items():
        means = resampled(values[:, i], torch.ones(f), picks)
        low, high = means[1:].quantile(torch.tensor([0.025, 0.975]))
        print(f"  {name:>9}: {means[0]:.0%}, 95 % over files {low:.0%} to {high:.0%}")
gap = (seen["trained"] - seen["untrained"]).mean(dim=0).abs().max()
outcome("something training brought", 100 * gap.item())

# %% [markdown] tags=["answer"]
# All three hold over many files. But all three tell little about learning: without any training, most half-lives are
# shorter on a text too, the state's share is small, and dt changes the largest source in most rows. Training moved each
# by some points only. A claim about a trained model should always stand beside one that has learned nothing.

# %% [markdown]
# ## Exchange memories
#
# That a head fades at a newline does not say what it is for. To learn that one must change it, and see what the model
# does then. We ask the larger model in the box, `medium`. Its tokens are pieces of words, and a newline is one token
# together with the blanks behind it: how far in the next line begins is a matter of a single token.
#
# Take three texts that end in the same line. In the first it stands in a method, in the second one level deeper, behind
# an `if`. The third is the control: as deep as the first, with the words of the second. If the model knows how deep the
# next line may begin, what tells it?

# %%
larger, words = Mamba2LM.from_pretrained("medium").requires_grad_(False), load_tokenizer("medium")
n_layer, nheads = larger.config.n_layer, larger.config.nheads
vocabulary = [words.decode([i]) for i in range(larger.config.vocab_size)]


# %%
def log_odds(one, other):
    """Two tests of a token's text -> a function: logits (b,v) -> (b,), log p(what passes one) - log p(the other)."""
    passes = [torch.tensor([test(piece) for piece in vocabulary]) for test in (one, other)]
    return lambda logits: logits[:, passes[0]].logsumexp(dim=-1) - logits[:, passes[1]].logsumexp(dim=-1)


def blanks(k):
    return lambda piece: piece.startswith("\n") and piece.strip("\n") == k * " "


deeper = log_odds(blanks(12), blanks(8))

# %% [markdown]
# The number log p - log q is called the *log odds* of two things that may come: 0 for an even chance, and each unit
# multiplies the odds by e.
#
# One line proves nothing. We take assignments and calls from files of the standard library that `medium` was not
# trained on, and the conditions of their `if`s, some of each file.

# %%
import ast
import random

per_file = 1 if FAST else 2


def fitting(lines, least, most):
    """Those of one line with so many tokens, each once, in an order of chance."""
    found = [line for line in dict.fromkeys(lines) if "\n" not in line and least <= len(words.encode(line)) <= most]
    return random.Random(0).sample(found, len(found))


# %%
beginning = "class Basket:\n    def total(self, value):\n        "


def by_depth(nodes):
    """Texts of a file, by threes: shallow, one level deeper, and the control."""
    calls = [node for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    lines = fitting(map(ast.unparse, calls + [node for node in nodes if isinstance(node, ast.Assign)]), 12, 48)
    conditions = fitting((ast.unparse(node.test) for node in nodes if isinstance(node, ast.If)), 1, 16)
    for line, test in list(zip(lines, conditions, strict=False))[:per_file]:
        yield [beginning + before + line for before in ("", f"if {test}:\n            ", f"found = {test}\n        ")]


# %% [markdown]
# What a head does for this task it may do for every other. So there is a second task. A string was opened, with `'` or
# with `"`, and then come words. Which of the two will end it? Here the control is opened with the same quote as the
# first text, and the variable has another name.

# %%
def by_quote(nodes):
    """Texts of a file, by threes: opened with ', with ", and the control."""
    named = (ast.Module, ast.ClassDef, ast.FunctionDef)
    described = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, named)]
    lines = (line.strip() for text in described for line in text.split("\n"))
    for line in fitting((line for line in lines if not set(line) & set("\"'\\`")), 10, 30)[:per_file]:
        yield [f"{beginning}{opened}{line}" for opened in ("text = '", 'text = "', "line = '")]


double = log_odds(lambda piece: piece.startswith('"'), lambda piece: piece.startswith("'"))

# %%
held_out = standard_library().held_out[: 16 if FAST else None]
trees = [list(ast.walk(ast.parse(document.text))) for document in held_out]
tasks = {"depth": (by_depth, deeper), "quote": (by_quote, double)}
texts = {
    task: [(i, made) for i, nodes in enumerate(trees) for made in make(nodes)] for task, (make, _) in tasks.items()
}
for task, found in texts.items():
    print(f"{task}: {len(found)} times three texts, from {len({i for i, _ in found})} files")
print(f"One of the texts on depth, the deeper one:\n{texts['depth'][0][1][1]}")

# %% [markdown]
# The same last token is left over, to be read with what we choose of the other text: with all its states; with none of
# its states, but with the windows of the convolutions; and with its state in one head, for each head.

# %%
from torch.nn.utils.rnn import pad_sequence


def before_last(texts):
    """The cache of all tokens but the last, for each of some texts; and the last one, which is the same for all."""
    ids = [torch.tensor(words.encode(text)) for text in texts]
    read = pad_sequence([each[:-1] for each in ids], batch_first=True)  # read together, with padding behind the shorter
    real = pad_sequence([torch.ones(len(each) - 1) for each in ids], batch_first=True)
    _, cache = larger.prefill(read, attention_mask=real)
    return ids[0][-1:], *(cache.select([i]) for i in range(len(texts)))


# %% [markdown]
# For this no state need be copied. If h was left behind, the state after the last token is exp(dt A) h + dt x Bᵀ, and
# read with C it gives exp(dt A) (h C) + (B · C) dt x. Whose h it was shows in the first part alone. So we go through a
# layer by the steps of notebook 06, and put this in the place of the scan.

# %%
def through(block, u, window, read, *more):
    """Rows u (r,l,d) through a layer, with `read` in place of its scan."""
    mixer = block.mixer
    z, xBC, dt = mixer.project(block.norm(u))
    terms = mixer.discretise(mixer.convolve(xBC, window), dt)
    return u + mixer.out(mixer.gate(mixer.skip(read(terms, *more), terms.x), z))


# %%
def read_exchanged(terms, a, b):
    """y (r,1,h,p) from a's state (1,h,p,n); in row 1 from b's, and in each of the last rows from b's in one head."""
    of_a, of_b = (torch.einsum("hpn,rln->rlhp", state[0], terms.C[:, :, 0]) for state in (a, b))
    head = torch.arange(nheads)
    of_a[1], of_a[head - nheads, 0, head] = of_b[1], of_b[head - nheads, 0, head]
    own = (terms.B * terms.C).sum(dim=-1, keepdim=True) * terms.x_dt
    return terms.log_decay.exp()[..., None] * of_a + own


# %% [markdown]
# A row that exchanges a head is the first row, a's own, until it comes to the layer of that head. So each layer adds
# rows for its heads.

# %%
def each_exchanged(a, b, token):
    """Logits after the token, with a's cache; b's states; b's windows; and b's state in one head, for each head."""
    u = larger.embed(token.expand(3, 1))
    for block, ours, theirs in zip(larger.blocks, a.layers, b.layers, strict=True):
        u = torch.cat([u, u[:1].expand(nheads, -1, -1)])
        window = ours.conv_window.repeat(len(u), 1, 1)
        window[2] = theirs.conv_window[0]
        u = through(block, u, window, read_exchanged, ours.ssm_state, theirs.ssm_state)
    return larger.unembed(u[:, 0])


# %%
def moved(three, odds):
    """(2,2+heads): by how much log odds move with what the other text left behind, and with the control's."""
    token, a, *others = before_last(three)
    rows = torch.stack([odds(each_exchanged(a, b, token)) for b in others])
    return rows[:, 1:] - rows[:, :1]


# %%
def read_with(cache, token):
    return larger.step(token, cache)[0]


token, a, b, _ = before_last(texts["depth"][0][1])
rows = each_exchanged(a, b, token)
for name, row, of in (("all states", 1, {}), ("layer 4, head 8", 3 + 4 * nheads + 8, {"layer": 4, "head": 8})):
    off = (rows[row] - read_with(inspect.swap(a, b, **of)[0], token)).abs().max()
    print(f"{name}, against `inspect.swap`: logits {off:.0e} off")

# %%
effects = {task: torch.stack([moved(three, tasks[task][1]) for _, three in found]) for task, found in texts.items()}
of_files = {task: torch.tensor([i for i, _ in found]) for task, found in texts.items()}


# %%
def interval(values, files, chosen=slice(None)):
    """Values (t,) of texts of these files -> their mean, and 95 % over the files, in words."""
    which = files[chosen].unique(return_inverse=True)[1]
    counts = torch.bincount(which)
    drawn = torch.randint(len(counts), (1000, len(counts)), generator=torch.Generator().manual_seed(0))
    means = resampled(torch.zeros(len(counts)).index_add(0, which, values[chosen]), counts, drawn)
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{values[chosen].mean():+.2f} ({low:+.2f} to {high:+.2f})"


# %%
predict(
    "model windows text",
    "What will the model do with windows of the one text and states of the other?",
    ["it goes by the windows", "it goes by the states", "it takes the middle"],
)

# %%
for task, found in effects.items():
    print(f"{task}: log odds move by (in brackets, 95 % over files)")
    for name, i in {"all states": 0, "all windows": 1}.items():
        of_text, of_control = (interval(found[:, j, i], of_files[task]) for j in (0, 1))
        print(f"  {name:11} {of_text}; control {of_control}")
by_states, by_windows = (effects["depth"][:, 0, i].mean() for i in (0, 1))
verdict = "it goes by the states" if by_states > 2 * by_windows else "it takes the middle"
outcome("model windows text", "it goes by the windows" if by_windows > 2 * by_states else verdict)

# %% [markdown] tags=["answer"]
# It is the states, not the windows; and it is what differs between the texts, not their words. Now single heads.

# %%
tables = {
    f"{task}: {kind}": found[:, j, 2:].mean(dim=0).view(n_layer, nheads).abs()
    for task, found in effects.items()
    for j, kind in enumerate(("exchanged", "control"))
}
plots.show(plots.head_effects(tables, "change of the log odds"))

# %% [markdown]
# The brightest of ninety is bright by chance as well. So we pick a head on every second file, and measure it on the
# others: for its own task, for the other one, and with the control. One thing this split cannot give is an independent
# confirmation: we had seen these two heads on these very files before the split was made.

# %%
picked = {}
for task, found in effects.items():
    even = of_files[task] % 2 == 0
    picked[task] = int(found[even, 0, 2:].mean(dim=0).abs().argmax())
    print(f"{task}, picked on {even.sum()} texts: layer {picked[task] // nheads}, head {picked[task] % nheads}")
    for other, its in effects.items():
        odd = of_files[other] % 2 == 1
        each = [interval(its[:, j, 2 + picked[task]], of_files[other], odd) for j in (0, 1)]
        print(f"  on {other:5} {each[0]}; control {each[1]}; all states {interval(its[:, 0, 0], of_files[other], odd)}")

# %%
for task, found in effects.items():
    net = (found[:, 0, 2:] - found[:, 1, 2:]).mean(dim=0).abs()
    order = net.argsort(descending=True)
    print(f"{task}, without what the control does: first {net[order[0]]:.2f}, second {net[order[1]]:.2f}; ", end="")
    print(f"{(net < 0.1 * net.max()).sum()} of {len(net)} heads do less than a tenth of the first")

# %% [markdown]
# `medium` keeps how deep it is in one head, and which quote is open in another. The quote's head has a share in the
# depth as well; the head of the depth has none in the quotes. Two things this does not say: that the head does it alone
# (it needs the layers before it to write, and those after it to use what it reads), and that another model has such a
# head, or has it in the same place.
#
# ### And when it writes?
#
# Log odds may move and the writing stay as it was. Let the model write: with its own states, with those of the deeper
# text in that one head, with all of them *but* that head, and with the control's state in that head.

# %%
odd = [three for i, three in texts["depth"] if i % 2 == 1]
predict(
    "far next line",
    f"We take {len(odd)} texts on which the head was not picked. In how many will the next line begin 12 blanks "
    f"in, with that one head of the deeper text?",
    unit="texts",
)

# %%
layer, head = divmod(picked["depth"], nheads)


def next_tokens(three):
    """What comes next, greedily, in each of the cases."""
    token, a, b, c = before_last(three)
    one, all_but_one = inspect.swap(a, b, layer, head)[0], inspect.swap(b, a, layer, head)[0]
    cases = (a, one, inspect.swap(a, all_but_one)[0], inspect.swap(a, c, layer, head)[0])
    return [vocabulary[int(read_with(cache, token).argmax())] for cache in cases]


# %%
written = [next_tokens(three) for three in odd]
cases = ("own states", "that head", "all but that head", "control")
files_of_odd = torch.tensor([i for i, _ in texts["depth"] if i % 2 == 1])
for name, tokens in zip(cases, zip(*written, strict=True), strict=True):
    deep = torch.tensor([float(blanks(12)(token)) for token in tokens])
    share = interval(deep, files_of_odd)
    print(f"{name:>17}: {int(deep.sum()):2} of {len(tokens)} go on 12 blanks in, a share of {share}")

# %%
from mamba2_lab.generation import stream

token, a, b, _ = before_last(odd[0])
for name, cache in {"own states": a, "that head of the deeper text": inspect.swap(a, b, layer, head)[0]}.items():
    new = stream(larger, token, cache=cache, tokenizer=words, max_new_tokens=24, temperature=0)
    print(f"--- {name}\n{odd[0][0]}{''.join(piece.text for piece in new)}\n")
outcome("far next line", sum(blanks(12)(tokens[1]) for tokens in written))

# %% [markdown] tags=["answer"]
# The one head moves the line in many texts, and all the others without it in none. But it does not always suffice.

# %% [markdown]
# ## Ask a state a question
#
# Exchange shows what a state does. A *probe* asks what is in it: can something be read off by a weighted sum? We ask
# three things that Python's own tokenizer can answer: how many blocks are open, whether we are inside a string, and how
# many brackets are open.
#
# The state of a head is many numbers, so we take 64 random sums of them. We read many files at once, 20 bytes at a
# time, and look at the states each time. (In quick checks: 40.)

# %%
length, every = (800, 40) if FAST else (4000, 20)
documents = [each for each in standard_library().held_out if each.bytes == len(each.text) >= length]
texts = torch.tensor([tokenizer.encode(document.text)[:length] for document in documents])
at = torch.arange(every - 1, length, every)
print(f"{len(texts)} files, {len(at)} places in each")

# %%
state_size = model.config.headdim * model.config.d_state
mix = torch.randn(state_size, 64, generator=torch.Generator().manual_seed(0)) / 8
cache, states = model.new_cache(len(texts)), []
for piece in texts.split(every, dim=1):
    _, cache = model.prefill(piece, cache)
    states.append(torch.stack([layer.ssm_state.flatten(2) @ mix for layer in cache.layers]))
states = torch.stack(states, dim=2).flatten(3).flatten(1, 2)  # (layers, files times places, sums)

# %%
truth = [inspect.python_labels(document.text) for document in documents]
questions = {
    "blocks open (0 to 3, more)": torch.cat([each.indent[at].clamp(max=4) for each in truth]),
    "inside a string": torch.cat([each.in_string[at] for each in truth]),
    "brackets open (0, 1, more)": torch.cat([each.brackets[at].clamp(max=2) for each in truth]),
}

# %%
files = torch.arange(len(texts)).repeat_interleave(len(at))
last_bytes = torch.cat([model.embedding(texts[:, at - k]) for k in range(4)], dim=-1).flatten(0, 1)

# %% [markdown]
# A probe is scored on files that it was not fitted on. Two controls go with it: the same probe fitted on shuffled
# labels, and a probe that sees the last four bytes in place of a state. What these can say needs no memory.

# %%
predict(
    "easiest read off",
    "Which of the three will be read off best, in points above what the last four bytes tell?",
    list(questions),
)


# %%
def probes(features, answers):
    """One probe for each of several ways to split the files."""
    return [inspect.fit_probe(features, answers, files, ridge=1.0, seed=seed) for seed in range(3 if FAST else 8)]


def scores(answers):
    """(layers,splits) for each kind of probe."""
    fitted, simple = [probes(layer, answers) for layer in states], probes(last_bytes, answers)
    right = [[probe.accuracy for probe in layer] for layer in fitted]
    chance = [[probe.control for probe in layer] for layer in fitted]
    without = [[probe.accuracy for probe in simple]] * len(fitted)
    found = {"state": right, "last 4 bytes": without, "shuffled labels": chance}
    return {kind: torch.tensor(each) for kind, each in found.items()}


# %%
found = {question: scores(answers) for question, answers in questions.items()}

# %%
gains = {}
for question, results in found.items():
    best = int(results["state"].mean(dim=1).argmax())
    gain = gains[question] = 100 * (results["state"] - results["last 4 bytes"])[best]
    print(f"{question}: best in layer {best}, {results['state'][best].mean():.0%} right; ", end="")
    print(f"{gain.mean():+.0f} points to the last 4 bytes ({gain.min():+.0f} to {gain.max():+.0f} by split)")

# %%
plots.show(plots.probe_scores(found, chance="shuffled labels"))
outcome("easiest read off", max(gains, key=lambda question: gains[question].mean()))

# %% [markdown] tags=["answer"]
# A range of points that reaches below 0 says that the four bytes won on some of the splits: for that question nothing
# is shown yet. The best layer was picked among all by these very scores, so its own is a little too good.

# %% [markdown]
# A probe shows that something can be read off, not that the model reads it. Exchange showed that a model uses
# something, and what for. Where you can have only one of the two, take the exchange.
#
# ## How far back does it hear?
#
# Half-lives say how long a state keeps something, not whether anyone reads it. The model as a whole can be asked: how
# much does what it expects change if the embedding of a byte d bytes back changes a little? That is a gradient. Its
# mean over many places is the *effective receptive field*. The control is a model of the same shape that has learned
# nothing.

# %%
predict(
    "influence byte comes",
    "In the trained model, how much of all influence on a byte comes from further back than the windows of all layers "
    "reach? (And in a model that has learned nothing, would you expect more, or less?)",
    unit="%",
)

# %%
windows = model.config.n_layer * (model.config.d_conv - 1)
targets = torch.tensor([380] if FAST else [300, 340, 380])
some = texts[: 4 if FAST else None, :400]  # one row for each file


def reach(reader):
    """(files,l): the mean influence at each distance."""
    rows = [inspect.mean_by_distance(inspect.gradient_reach(reader, each, targets), targets) for each in some]
    return torch.stack(rows)[:, : int(targets.min()) + 1]


# %%
curves = {"trained": reach(model), "untrained": reach(untrained)}
drawn = torch.randint(len(some), (1000, len(some)), generator=torch.Generator().manual_seed(0))
for name, rows in curves.items():
    beyond = resampled(rows[:, windows + 1 :].sum(dim=1), rows.sum(dim=1), drawn)
    low, high = beyond.quantile(torch.tensor([0.025, 0.975]))
    share = rows[:, windows + 1 :].sum() / rows.sum()
    print(f"{name}: {share:.0%} ({low:.0%} to {high:.0%} over {len(some)} files) of all influence is from further back")
print(f"than {windows} bytes, where the windows end")

# %%
plots.show(plots.reaches({name: rows.mean(dim=0) for name, rows in curves.items()}, windows, "windows end"))
rows = curves["trained"]
outcome("influence byte comes", 100 * (rows[:, windows + 1 :].sum() / rows.sum()).item())

# %% [markdown] tags=["answer"]
# A gradient is about small changes, and it counts what hardly matters as well. So we also take the far text away: the
# model reads each byte from so many bytes before it only. If influence from far were of no use, it would cost nothing.

# %%
at = torch.arange(300, 699 if FAST else 999, 50)


def bits_lost(reader, ids):
    """By how many bits some bytes cost more, on average, where each is read from a window's length before it."""
    near = reader.prefill(torch.stack([ids[t - windows : t + 1] for t in at]))[0]
    far = reader(ids[None, : at[-1] + 1])[0, at]
    costs = [torch.nn.functional.cross_entropy(each, ids[at + 1]) for each in (near, far)]
    return (costs[0] - costs[1]) / math.log(2)


# %%
for name, reader in {"trained": model, "untrained": untrained}.items():
    more = torch.stack([bits_lost(reader, ids) for ids in texts[: len(some)]])
    low, high = resampled(more, torch.ones(len(more)), drawn).quantile(torch.tensor([0.025, 0.975]))
    needs = f"{more.mean():+.2f} bits per byte ({low:+.2f} to {high:+.2f})"
    print(f"{name}: with {windows} bytes in place of all before them it needs {needs}")

# %% [markdown]
# ## Break it: a map that is made presentable
#
# Maps of attention are expected to be positive, with rows that add up to 1. Hidden attention is neither. So it was
# brought into shape. A reader of the paper asked what becomes of negative weights in a softmax; its authors answered
# that softmax is a problem there, that scaling from minimum to maximum is another way, and that the second version of
# the paper draws absolute values (AmeenAli/HiddenMambaAttn, issue 6, of 2024).
#
# Let us judge the three by a question that maps are drawn to answer: which source matters most to a target? We must
# take care what we judge by. Silence a source s in a head, and the head's output at t moves by exactly M[t, s] x_s. A
# judge that looks there must find |M| times |x| right in every row: that is algebra, and could not have come out
# otherwise.
#
# So the judge looks at the end of the model instead. One token's pair is taken out of one head's state, and the model
# reads on. What it misses goes through all later tokens and layers. How far does its expectation of the next token
# move? We measure that in nats, as the *divergence* from what it expected. Of these later ways a map of one head knows
# nothing: the test can fail.

# %%
from mamba2_lab import scan

chosen = [(i, int(row.argmax())) for i, row in enumerate(of_state.view(model.config.n_layer, -1))]
back = 24  # sources before the target


# %%
def without_a_pair(terms, state, head):
    """y (r,l,h,p); of the last rows, the first goes on without the pair of token 0 in a head, and so on."""
    x_dt, source = terms.x_dt, torch.arange(back)
    x_dt[source - back, source, head] = 0
    state = state.expand(len(x_dt), -1, -1, -1)
    y, _ = scan.chunked(x_dt, terms.log_decay, terms.B, terms.C, state)
    y[source - back, source] = y[0, source]  # the token itself has read its pair, as in the first row
    return y


# %%
def silenced(ids):
    """(heads,back): how far the expectation after the last token moves if one source writes nothing in one head."""
    _, cache = model.prefill(ids[None, : -back - 1])
    u = model.embed(ids[None, -back - 1 :])
    for block, before, (_, head) in zip(model.blocks, cache.layers, chosen, strict=True):
        u = torch.cat([u, u[:1].expand(back, -1, -1)])  # a row for each source; before this layer they are the first
        window = before.conv_window.expand(len(u), -1, -1)
        u = through(block, u, window, without_a_pair, before.ssm_state, head)
    own, *others = model.unembed(u[:, -1]).double().log_softmax(-1)
    return (own.exp() * (own - torch.stack(others))).sum(dim=-1).view(len(chosen), back)


# %% [markdown]
# The maps, of the same head, target and sources. Three controls go with them: how near a source is, the map of the
# head's neighbour, and the map with its sources shuffled.

# %%
def maps(trace, layer, head):
    """What each map says of the sources, (back,) by name; the largest comes first."""
    target = len(trace.input_ids) - 1
    part, neighbour = slice(target - back, target), (head + 1) % model.config.nheads
    M, bare = (trace.attention(layer, head, [target], with_dt=dt)[0, part] for dt in (True, False))
    size = M.abs() * trace.layers[layer].x[part, head].norm(dim=-1)
    made = {"|M| times |x|": size, "absolute values": M.abs(), "absolute values, no dt": bare.abs()}
    made |= {"softmax, or min to max": M, "control: nearest first": torch.arange(back)}
    made["control: neighbour's map"] = trace.attention(layer, neighbour, [target])[0, part].abs()
    return made | {"control: shuffled": size[torch.randperm(back, generator=generator)]}


# %%
hits = {}
for row in texts[: 4 if FAST else None]:
    ids = row[400:600]
    read = inspect.trace(model, ids)
    for (layer, head), move in zip(chosen, silenced(ids), strict=True):
        for name, each in maps(read, layer, head).items():
            hits.setdefault(name, []).append(float(each.argmax() == move.argmax()))

# %% [markdown]
# Softmax and scaling keep the order of M, so both name the same source as the first, and share a row.

# %%
predict(
    "cases map name",
    "In how many cases does the best of these maps name the right source as the first? A guess among 24 would "
    "be right in 4 %. (And what do softmax and scaling do with a source whose weight is strongly negative?)",
    unit="%",
)

# %%
for name, each in hits.items():
    by_file = torch.tensor(each).view(-1, len(chosen)).mean(dim=1)
    low, high = resampled(by_file, torch.ones(len(by_file)), drawn).quantile(torch.tensor([0.025, 0.975]))
    print(f"{name:>24}: {by_file.mean():.0%} ({low:.0%} to {high:.0%} over files) name the right source first")
outcome("cases map name", 100 * max(sum(each) / len(each) for each in hits.values()))

# %% [markdown] tags=["answer"]
# So a map says something about the model, and not all: by size, and with dt, it is right more than twice as often as
# any control, and still wrong in about half of the cases. Leave dt out, and it is hardly better than the map of the
# neighbour. Whether the length of x is counted or not makes no difference that these files could show.

# %% [markdown]
# What the last two do to a single map one can see without any judge.

# %%
layer, head = heads[of_state.argmax()]  # of the map above
stretch = slice(100, 160)
M = trace.attention(layer, head)[stretch, stretch]
past = torch.ones_like(M, dtype=torch.bool).tril()
softmax = M.masked_fill(~past, -math.inf).softmax(dim=1)
scaled = (M - M.min()) / (M.max() - M.min())

# %%
strongest = M.abs().argmax(dim=1, keepdim=True)
print(f"the weight largest in size is negative in {(M.gather(1, strongest) < 0).float().mean():.0%} of the rows")
future = scaled[~past].mean()
print(f"the future, which weighs nothing, is drawn as {future:.2f} of 1 after scaling from minimum to maximum")
flat = softmax[-1].max() * len(M)
print(f"softmax, last row: the largest weight is {flat:.2f} times that of an even spread over {len(M)} sources")

# %% [markdown]
# A softmax, and any scaling that moves the zero, turn what is subtracted most into what counts least. Absolute values
# know how much, but no longer which way. Such a map looks like attention. That is all it has in common with it.
#
# ## The state debugger
#
# All of this can be had for any text, token by token. Here is some of what it draws, for the byte at which our
# reset-like head loses the most.

# %%
layer, head = examples["reset-like"]
record = trace.layers[layer]
sizes = record.states(head).flatten(1).norm(dim=1)
lost = (1 - record.decay[1:, head]) * sizes[:-1]
place = 1 + int(lost.argmax())

# %%
print(f"byte {place}, {pieces[place]!r}, finds a state of size {sizes[place - 1]:.2f}")
print(f"leaves {record.decay[place, head]:.1%} of it, and writes a pair of size {record.written[place, head]:.2f}")

# %%
predict(
    "six states row",
    "Six states in a row, the third of them after that byte. Which one differs most from the one before it?",
    ["2", "3", "4", "5", "6"],
)

# %%
around = range(place - 2, min(place + 4, len(ids)))
titles = [f"{i} '{plots.visible(pieces[i])}'" for i in around]
film = record.states(head, around)
plots.show(plots.film_strip(dict(zip(titles, film, strict=True))))

# %%
part = slice(max(place - 40, 0), place + 20)
columns = [table[part, head] for table in (record.dt, record.decay, record.written, record.y.norm(dim=-1))]
plots.show(plots.strengths(pieces[part], *columns))
outcome("six states row", 2 + int(film.diff(dim=0).flatten(1).norm(dim=1).argmax()))

# %% [markdown]
# And here it is for you to try. Click a byte or use the arrow keys, pick a layer and a head. Lock a byte to keep its
# row and its state beside those of the next one. If the debugger is gone after you reloaded the page, run its cell
# again. While another cell is running, a click waits: the kernel does one thing at a time.
#
# Three things to try:
#
# - The reset-like head: step over a quote, a bracket, the end of a line. Which of them empties its state?
# - Lock the `limit` of the first line that has it, and go to the next one. Do their rows have the same signs?
# - Find a head that writes strongly at quotes. Is it in a layer that probing would have named?

# %%
from mamba2_lab.widgets import StateDebugger

debugger = StateDebugger(trace, pieces)
debugger

# %% [markdown]
# ## Recap
#
# - A trace is exact: what its pieces add up to is the model's own output.
# - Half-lives at rest are a property of the weights. On a text they are others, and they hide whether a head fades
#   evenly or resets.
# - What is written in a state fades by the product of decays, and is read by the product of C and key. Both can be
#   predicted to the last digit.
# - Hidden attention has a sign, needs dt, and stops at the convolution. Whether a map tells what the model uses is a
#   question to the whole model; a test that is true by algebra does not answer it.
# - A probe says what can be read off a state, an exchange what the model makes of it. Both need many texts, an
#   interval, a control that could have shown the same, and a second task that could have shown it too.

# %%
glossary("trace", "hidden attention", "log odds", "bootstrap", "probe", "effective receptive field")

# %% [markdown]
# ## On your own
#
# Find a head of your own. Choose something that a model must remember: the name of a class, the number of arguments,
# whether a loop is open. Write texts by threes, as above, from files that the model has not read: one, its change, and
# a control. Pick a head on half of the files, and measure it on the other half, on your task and on a second one. What
# would a result look like that you would not publish?
#
# ## To read on
#
# - A. Ali and others, [The hidden attention of Mamba models](https://arxiv.org/abs/2403.01590).
# - A. Sen Sharma and others, [Locating and editing factual associations in Mamba](https://arxiv.org/abs/2404.03646).
# - Y. Belinkov, [Probing classifiers](https://arxiv.org/abs/2102.12452), on what a probe can say and what it cannot.
#
# **Before**: [09, Generation](09_generation.ipynb). **Next**: [11, Limits](11_limits.ipynb) asks what a state of fixed
# size cannot hold.
