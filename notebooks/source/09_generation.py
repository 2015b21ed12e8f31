# %% [markdown]
# # To write on, a model needs its state and nothing else
#
# After this notebook you can
#
# 1. let a model write from a memory that never grows, and say why so little is enough;
# 2. choose the next token: the likeliest, a draw behind filters, or several at once;
# 3. find out whether a generator remembers what it has read.
#
# **You need** the steps of the mixer of notebook 06, and the residual stream and the logits of notebook 07.
# **Time**: two hours for you, 90 minutes of them for the exercises; about one for the machine. Everything runs on the
# CPU.
#
# One function header comes with us all the way. It breaks off where an argument is due.

# %%
import os

import torch

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.course import glossary

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: shorter texts
torch.set_num_threads(1)  # one token at a time is little work: threads would wait for each other
glossary("state", "causal convolution", "mixer", "residual stream", "logits", "surprise")

# %%
header = "def read_line(self, "
model, tokenizer = Mamba2LM.from_pretrained("small").requires_grad_(False), load_tokenizer("small")
ids = torch.tensor([tokenizer.encode(header)])
print(f"{ids.shape[1]} bytes: {header!r}")

# %% [markdown]
# ## What a text leaves behind
#
# Notebook 07 got its logits by reading a whole text. So one way to write is: read the header, choose a byte, put it at
# the end, and read everything again.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "reading again",
    "We want 200 more bytes. How many bytes does the model read in this way?",
    unit="bytes",
)

# %%
l, count = ids.shape[1], 200  # bytes of the header, bytes to write
print(f"everything again: {sum(range(l, l + count)):,} bytes; each byte once: {l + count - 1}")
outcome("reading again", sum(range(l, l + count)))

# %% [markdown] tags=["answer"]
# To read each byte once, one must know what the bytes before it still do. Go through a layer: nearly every step of it
# works on a single token. Only two look back, the convolution at its last three inputs, and the scan at its state,
# which is made from the state before and the newest token. Whatever came earlier acts through these two or not at all.

# %% [markdown]
# So keep them. A layer's *window*, the last three inputs of its convolution, and its state: for all layers together
# that is the *cache*.

# %%
predict(
    "one number",
    "The scan of notebook 05 goes on from a state. Here is one of a single number, 2, and one token that writes 1; "
    "its log decay is -1. What will the state be?",
    unit="",
)

# %%
import math

from mamba2_lab.scan import chunked

one = torch.ones(1, 1, 1, 1)
_, state = chunked(one, -one[..., 0], one, one, 2 * one)
print(f"{state.item():.3f}; 2 exp(-1) + 1 = {2 * math.exp(-1) + 1:.3f}")
outcome("one number", state.item())

# %% [markdown]
# ### Exercise: read on ★★★
#
# ★★★ two things to carry over, each in its own form · importance 3 of 3 · 25 minutes · needed for prefill and step, all
# of generation
#
# Write what a mixer does with tokens that come in the middle of a text. It has its steps as methods, as in notebook 06:
# `project(u)` gives z, xbc and dt; `convolve(xbc, window)`; `discretise(convolved, dt)` gives x, dt, log_decay, B and
# C; `skip(y, x)`, `gate(y, z)` and `out(y)`. The scan, `chunked(x * dt[..., None], log_decay, B, C, state)`, gives y
# and the new state.

# %%
from mamba2_lab.course import exercise


@exercise("read_on")
def read_on(u, mixer, window, state):
    """u (b,l,d), window (b,w,channels), state (b,h,p,n) -> y (b,l,d), and window and state after these l tokens."""
    ...


# %% [markdown]
# The rest of the model is notebook 07: a table, a stream that every block adds to, a norm, and the table again. At the
# beginning of a text windows and states are zero.

# %%
def nothing(b=1):
    """What the layers keep before the first token of b texts."""
    return [(layer.conv_window, layer.ssm_state) for layer in model.new_cache(b).layers]


# %%
def read(ids, memory):
    """Tokens (b,l), after what the layers kept -> logits (b,l,v), and what they keep now."""
    u, after = model.embedding(ids), []
    for block, (window, state) in zip(model.blocks, memory, strict=True):
        y, window, state = read_on(block.norm(u), block.mixer, window, state)
        u, after = u + y, [*after, (window, state)]
    return model.lm_head(model.norm_f(u))[..., : tokenizer.vocab_size], after


# %%
predict(
    "cut header read",
    "We cut the header in two, read the first part, throw it away, and go on from what was kept. Where are the "
    "logits at the end far off?",
    ["where the cut is late", "where we go byte by byte", "in both cases", "nowhere"],
)

# %%
(at_once, _), off = read(ids, nothing()), {}
for cut in (1, 7, 19):
    _, memory = read(ids[:, :cut], nothing())
    rest, _ = read(ids[:, cut:], memory)
    off[cut] = (rest[0, -1] - at_once[0, -1]).abs().max()
    print(f"cut after {cut:>2} bytes: logits differ by {off[cut]:.0e}")

# %%
memory = nothing()
for i in range(l):
    logits, memory = read(ids[:, i : i + 1], memory)
off["byte by byte"] = (logits[0, -1] - at_once[0, -1]).abs().max()
print(f"byte by byte: logits differ by {off['byte by byte']:.0e}")
outcome("cut header read", "nowhere" if max(off.values()) < 1e-3 else f"after {max(off, key=off.get)}")

# %% [markdown] tags=["answer"]
# Rounding, no more. To read a prompt at once is called *prefill*, to read one token is a *step*; both are the function
# that you wrote. The package has them as `model.prefill` and `model.step`. Its step has no chunks to set up, so it is
# faster.

# %%
logits, cache = model.prefill(ids)
for layer, (window, state) in zip(cache.layers, memory, strict=True):
    torch.testing.assert_close(layer.conv_window, window, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.ssm_state, state, rtol=1e-4, atol=1e-4)
print(f"the same windows and states: {cache.nbytes:,} bytes, which stand for {int(cache.tokens_read)} bytes of text")

# %% [markdown]
# More bytes than the text has! But their number stays what it is, however long the text grows. Later we shall see when
# that pays.
#
# A cache is a *value*, as a number is: a step makes a new one, and leaves the old one as it was. So one can go on from
# the same place twice.

# %%
for name in ("size", "line"):
    after, _ = model.prefill(torch.tensor([tokenizer.encode(name)]), cache)
    best = after[0].softmax(dim=-1).topk(3)
    print(name, "->", [f"{tokenizer.decode([i])!r} {p:.0%}" for p, i in zip(best.values, best.indices, strict=True)])

# %% [markdown]
# And it can be put away. Here it goes into a file, and comes back as it would on another day, when nobody knows the
# header any more.

# %%
import tempfile

from mamba2_lab.inspect import load_cache, save_cache

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "memory.safetensors")
    save_cache(cache, path, model.config)
    kept = load_cache(path, model.config)
again, _ = model.prefill(torch.tensor([tokenizer.encode(name)]), kept)
print(f"{name} -> the same logits: {torch.equal(again, after)}")


# %% [markdown]
# ## The likeliest byte, again and again
#
# Taking the likeliest token every time is called *greedy*.
#
# ### Exercise: write greedily ★★
#
# ★★ a loop in which nothing may be read twice · importance 3 of 3 · 10 minutes · needed for the texts that run in
# circles

# %%
@exercise("write_greedily")
def write_greedily(model, ids, count):
    """A prompt (1,l) -> a list of `count` new token ids, each the likeliest one; every token is read once."""
    ...


# %%
predict(
    "becomes text every",
    "What becomes of a text in which every byte is the likeliest one?",
    ["good Python", "letters without sense", "it runs in circles"],
)

# %%
greedy = write_greedily(model, ids, 120 if FAST else 300)
print(header + tokenizer.decode(greedy))
lines = [line for line in tokenizer.decode(greedy).splitlines() if line.strip()]
outcome("becomes text every", "it runs in circles" if len(set(lines)) < len(lines) else "no line comes twice")

# %% [markdown] tags=["answer"]
# It runs in circles. The reason can be measured.

# %%
predict(
    "surprised model own",
    "How surprised is the model by each of its own lines, from the first to the last?",
    ["more and more", "by all alike", "less and less"],
)


# %%
def surprise(new):
    """The bits that each new token takes after the header. All are read at once."""
    logits = model(torch.cat([ids[0], torch.tensor(new)])[None])[0, l - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(new), reduction="none") / math.log(2)


# %%
start, bits, means = 0, surprise(greedy), []
for line in tokenizer.decode(greedy).splitlines(keepends=True)[:-1]:
    means.append(bits[start : start + len(line)].mean().item())
    print(f"{means[-1]:.3f} bits per byte: {line!r}")
    start += len(line)
change = means[-1] / means[0]
outcome(
    "surprised model own", "less and less" if change < 0.8 else "more and more" if change > 1.25 else "by all alike"
)


# %% [markdown] tags=["answer"]
# Each time a line returns it is expected a little more, and so it returns. It is no fault of small models: Holtzman et
# al. (2019, arXiv:1904.09751) saw the same in GPT-2.

# %% [markdown]
# ## A draw from all that is possible
#
# People do not write the likeliest word each time. So let chance choose, with the probabilities that the model gives.
# The draws come from a generator with a seed.

# %%
def draw(logits, generator):
    """logits (v,) -> a token, drawn with its probability."""
    return int(torch.multinomial(logits.softmax(dim=-1), 1, generator=generator))


# %%
def write(choose, count=60 if FAST else 200, seed=0):
    """The header and what follows; choose(logits (v,), generator, tokens so far) -> a token."""
    text, generator = ids[0].tolist(), torch.Generator().manual_seed(seed)
    logits, cache = model.prefill(ids)
    while len(text) < l + count:
        text.append(choose(logits[0], generator, text))
        logits, cache = model.step(torch.tensor(text[-1:]), cache)
    return tokenizer.decode(text)


# %%
print(write(lambda logits, generator, text: draw(logits, generator)))

# %% [markdown]
# No circles now, but it loses its way. One unlikely byte is enough, and the model goes on from it as if it had been
# meant.

# %%
predict(
    "rare bytes",
    "In how many of 1000 such draws does a byte come that the model held below 1 %?",
    unit="draws",
)

# %%
many = model.generate(ids.repeat(20, 1), max_new_tokens=50, seed=0)
chances = model(many)[:, l - 1 : -1].softmax(dim=-1)
rare = chances.masked_fill(chances >= 0.01, 0).sum(dim=-1).mean()
print(f"bytes below 1 % have {rare:.1%} together: some {1000 * rare:.0f} in 1000 draws")
outcome("rare bytes", 1000 * rare.item())

# %% [markdown] tags=["answer"]
# Each of them is rare; that one of them comes is not. Filters put an end to this: they take logits, and give back
# logits in which fewer tokens are possible, or some less likely.

# %% [markdown]
# ## Five filters, one by one
#
# We look at two places of our text. At one the model is unsure, at the other it is fairly sure.

# %%
unsure, sure = header, header + 'size=-1):\n        """Read'
names = {unsure: "def read_line(self,", sure: '"""Read'}
logits = {text: model(torch.tensor([tokenizer.encode(text)]))[0, -1] for text in names}
shown = {text: logits[text].topk(18).indices for text in names}
letters = {names[text]: [tokenizer.decode([i]) for i in shown[text]] for text in names}


# %%
def filtered(step):
    """The probabilities of the bytes shown, at both places, after a filter."""
    return {names[text]: step(logits[text]).softmax(dim=-1)[shown[text]] for text in names}


# %%
as_it_is = filtered(lambda logits: logits)
for place, chances in as_it_is.items():
    first = f"{letters[place][0]!r} has {chances[0]:.0%}"
    print(f"after {place}: {first}, the {len(chances)} likeliest bytes have {chances.sum():.1%}")

# %%
from mamba2_lab import plots


def compare(steps, what):
    """Bars for the model's probabilities, and for those after each filter: name -> filter."""
    chances = {"as the model says": as_it_is, **{name: filtered(step) for name, step in steps.items()}}
    plots.show(plots.filters(letters, chances), what)


# %% [markdown]
# ### Temperature makes the model bolder or more careful
#
# The logits are divided by a number, the *temperature*. Below 1 all differences between logits grow, and the likely
# gets likelier.

# %%
predict(
    "picture bars temperature",
    "Picture the bars for temperature 0.5 and for 2. What would be left at 0.01?",
    ["one byte", "a handful of bytes", "all bytes, as likely as each other"],
)

# %%
compare({"temperature 0.5": lambda logits: logits / 0.5, "temperature 2": lambda logits: logits / 2}, "temperature")
above = max(int((chances > 0.01).sum()) for chances in filtered(lambda logits: logits / 0.01).values())
outcome(
    "picture bars temperature",
    {1: "one byte", 18: "all bytes, as likely as each other"}.get(above, "a handful of bytes"),
)

# %% [markdown] tags=["answer"]
# At 0.01 one byte has nearly everything: that is greedy. At 1000 all would be alike.

# %% [markdown]
# ### Top-k keeps a fixed number
#
# *Top-k* keeps the k likeliest tokens. What is removed gets the logit -inf, which softmax turns into 0.

# %%
predict(
    "five bytes kept",
    "Five bytes are kept at both places. At the unsure one, how much probability did these five have together?",
    unit="%",
)


# %%
def keep_top_k(logits, k):
    return logits.masked_fill(logits < logits.topk(k).values[-1], -math.inf)


# %%
compare({"top-k, k = 5": lambda logits: keep_top_k(logits, 5)}, "top-k")
outcome("five bytes kept", 100 * as_it_is[names[unsure]][:5].sum().item())


# %% [markdown] tags=["answer"]
# So five is too few where the model is unsure: much is cut off that might well come. Where it is sure two would do.

# %% [markdown]
# ### Exercise: top-p keeps as many as it takes ★★
#
# ★★ sorted there and back · importance 2 of 3 · 15 minutes · needed for the filters compared
#
# *Top-p* (Holtzman et al. 2019, section 3.1) keeps the fewest likeliest tokens that have probability p together. So the
# number follows the model: many where it is unsure, few where it is sure.

# %%
@exercise("keep_top_p")
def keep_top_p(logits, p):
    """logits (v,), 0 < p < 1 -> (v,): -inf for all but the fewest likeliest tokens with probability p together."""
    ...


# %% [markdown]
# ### Exercise: min-p measures by the likeliest ★
#
# ★ one comparison · importance 2 of 3 · 5 minutes · needed for the filters compared
#
# *Min-p* (Nguyen et al. 2024, arXiv:2407.01082) removes tokens that are less than a share, say one tenth, as probable
# as the likeliest.

# %%
@exercise("keep_min_p")
def keep_min_p(logits, min_p):
    """logits (v,), 0 < min_p < 1 -> (v,): -inf for tokens less than min_p times as probable as the likeliest."""
    ...


# %%
predict("bytes top-p 0", "How many bytes does top-p with 0.9 keep where the model is unsure?", unit="bytes")

# %%
for text, place in names.items():
    by_top_p, by_min_p = keep_top_p(logits[text], 0.9), keep_min_p(logits[text], 0.1)
    print(f"after {place}: top-p keeps {by_top_p.isfinite().sum()} bytes, min-p {by_min_p.isfinite().sum()}")

# %%
compare(
    {"top-p 0.9": lambda logits: keep_top_p(logits, 0.9), "min-p 0.1": lambda logits: keep_min_p(logits, 0.1)},
    "top-p and min-p",
)
outcome("bytes top-p 0", int(keep_top_p(logits[unsure], 0.9).isfinite().sum()))

# %% [markdown] tags=["answer"]
# The official code of Mamba measures min-p by token 0, whatever that is, and takes a share of its logit in place of its
# probability (state-spaces/mamba, pull request 135; pull request 927 tells of it). On a single text nothing complains.

# %%
predict(
    "token 0 zero",
    "Token 0 is the zero byte, which hardly ever stands in a source file. How many of the 257 tokens will be "
    "kept where the model is unsure?",
    unit="tokens",
)


# %%
def published_min_p(logits, min_p):
    return logits.masked_fill(logits < min_p * logits[0], -math.inf)


for text, place in names.items():
    kept = published_min_p(logits[text], 0.1).isfinite()
    print(f"after {place}: logit of token 0 {logits[text][0]:.1f}; of {len(kept)} tokens {kept.sum()} are kept")
outcome("token 0 zero", int(published_min_p(logits[unsure], 0.1).isfinite().sum()))


# %% [markdown] tags=["answer"]
# Its logit is far below 0, and a tenth of it is not: the floor lies where chance puts it. All bytes that could come at
# all pass, and with them several that should not.

# %% [markdown]
# ### Exercise: a penalty for repeating oneself ★
#
# ★ two signs to treat apart · importance 1 of 3 · 10 minutes · needed for the filters compared
#
# The *repetition penalty* (Keskar et al. 2019, arXiv:1909.05858, section 4.1) makes tokens that the text already holds
# less likely. Their logits are divided by the penalty. That is meant for positive logits: divided, a negative one would
# come closer to 0, which is up. So negative ones are multiplied by the penalty.

# %%
@exercise("penalise")
def penalise(logits, seen, penalty):
    """logits (v,), seen a list of ids, penalty > 1 -> (v,): seen tokens less likely than they were."""
    ...


# %%
predict(
    "take greedy loop",
    "Take the greedy loop, and a penalty of 1.1. The tokens are bytes. How many of its lines will stand there twice?",
    unit="lines",
)

# %%
punished = write(lambda logits, generator, text: int(penalise(logits, text, 1.1).argmax()))
print(punished)
lines = [line for line in punished.splitlines() if line.strip()]
outcome("take greedy loop", len(lines) - len(set(lines)))

# %% [markdown] tags=["answer"]
# The old circle is broken, and nothing better has come of it: inside a line words return. And spaces, which every line
# needs, are punished like anything else. Look at the two places once more.

# %%
seen = ids[0].tolist()
compare(
    {f"penalty {penalty}": lambda logits, penalty=penalty: penalise(logits, seen, penalty) for penalty in (1.1, 1.5)},
    "penalty",
)


# %% [markdown]
# ### All five together
#
# They are applied in this order: penalty, temperature, top-k, top-p, min-p. That is the order of transformers, and of
# `model.generate`. Does your own chain write what the package writes, from the same seed?

# %%
def choose(logits, generator, text):
    logits = penalise(logits, text, 1.05) / 0.7
    return draw(keep_min_p(keep_top_p(logits, 0.9), 0.05), generator)


print(ours := write(choose, seed=3))

# %%
settings = {"repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.9, "min_p": 0.05}
theirs = tokenizer.decode(model.generate(ids, max_length=len(ours), seed=3, **settings)[0])
print("the package writes the same:", theirs == ours)

# %%
predict(
    "order matter where",
    "Does the order matter? Where does top-p keep more bytes: before the temperature of 0.7, or after it?",
    ["before it", "after it", "as many"],
)

# %%
first, last = keep_top_p(logits[unsure], 0.9), keep_top_p(logits[unsure] / 0.7, 0.9)
print(f"before: {first.isfinite().sum()} bytes; after temperature 0.7: {last.isfinite().sum()}")
more = int(first.isfinite().sum() - last.isfinite().sum())
outcome("order matter where", "before it" if more > 0 else "after it" if more else "as many")


# %% [markdown]
# ## Where to stop
#
# The model writes one method after the other. To get a single one, we stop where the next begins, at the *stop string*
# `"\n    def"`. It comes in eight bytes, one at a time. If you show each byte at once, you have shown half of the stop
# string before you know what it is.
#
# ### Exercise: hold back what may be a stop string ★★★
#
# ★★★ text that may or may not be a beginning · importance 1 of 3 · 25 minutes · needed for stop strings; nothing else
# is built on it

# %%
@exercise("release")
def release(pending, stop):
    """Text not shown yet -> (what may be shown, what must wait, whether it is over). The stop string is never shown."""
    ...


# %% [markdown]
# `stream` of the package gives token by token what `generate` gives at the end.

# %%
from mamba2_lab import stream

shown_text, pending, waited = header, "", []
for token in stream(model, ids, max_length=600, tokenizer=tokenizer, seed=1, **settings):
    show, pending, over = release(pending + token.text, "\n    def")
    shown_text, waited = shown_text + show, [*waited, pending]
    if over:
        break
print(shown_text)

# %%
predict("beginnings stop string", "How many times did a beginning of the stop string have to wait?", unit="times")

# %%
from collections import Counter

print({beginning: times for beginning, times in Counter(waited).items() if beginning})
outcome("beginnings stop string", sum(bool(beginning) for beginning in waited))

# %% [markdown] tags=["answer"]
# Most of them were only the end of a line, and were shown a moment later. The package does the same if it is told
# `stop="\n    def"`.

# %% [markdown]
# ## Several texts at once
#
# A batch of texts of different lengths is filled up with *padding*. Notebook 06 showed what padding should do to a
# memory: nothing. No time passes, Δ = 0, and the window keeps the last inputs that were text. The `attention_mask`
# tells which tokens are real.

# %%
texts = [header, "def close(self", "class Reader"]
rows = [tokenizer.encode(text) for text in texts]
alone = torch.cat([model.prefill(torch.tensor([row]))[0] for row in rows])


# %%
def padded(in_front=False):
    """The texts filled up with spaces (32) to one length, and the mask: 1 where a token is real. Both (b,l)."""
    gaps = [[(32, 0)] * (l - len(row)) for row in rows]
    real = [[(token, 1) for token in row] for row in rows]
    both = [gap + text if in_front else text + gap for gap, text in zip(gaps, real, strict=True)]
    return torch.tensor(both).unbind(-1)


# %%
predict(
    "far logits those",
    "In which batch are the logits far from those of each text alone?",
    ["with padding behind", "with padding in front", "without a mask", "in none"],
)

# %%
tokens, mask = padded()
front = padded(in_front=True)
batches = {"with padding behind": (tokens, mask), "with padding in front": front, "without a mask": (tokens, None)}
far = []
for name, (tokens, mask) in batches.items():
    off = (model.prefill(tokens, attention_mask=mask)[0] - alone).abs().amax(dim=1)
    far += [name] if off.max() > 0.01 else []
    print(f"{name:>21}:", "  ".join(f"{error:.0e}" for error in off))
outcome("far logits those", ", ".join(far) or "in none")

# %% [markdown] tags=["answer"]
# Without a mask the shorter texts end in spaces that nobody wrote. In transformers a prompt with padding behind it
# leaves empty windows and faded states in the cache (issue 48256, of 2026). The logits of the prompt itself are right,
# and so nothing is noticed until the model writes on.

# %%
tokens, mask = padded()
together = model.generate(tokens, max_new_tokens=30, temperature=0, attention_mask=mask)[:, l:]
for row, new in zip(rows, together, strict=True):
    single = write_greedily(model, torch.tensor([row]), 30)
    print(repr(tokenizer.decode(row) + tokenizer.decode(new)), new.tolist() == single)


# %% [markdown]
# ## Several states at once: beam search
#
# Greedy takes the likeliest byte, and then has to live with it. *Beam search* keeps several texts, the *beams*. At each
# step every beam is continued with every token, and of all these the few that are likeliest as a whole are kept.
#
# Two beams may come from the same one, and others die out. So their states have to be picked anew at each step: some
# copied, some dropped. That is `cache.select(rows)`.

# %%
def best_continuations(scores, logits, width):
    """scores (beams,), logits (beams,v) -> of the `width` best: log probability, the beam gone on from, the token."""
    totals = scores[:, None] + logits.log_softmax(dim=-1)
    scores, best = totals.flatten().topk(width)
    return scores, best // totals.shape[1], best % totals.shape[1]


# %%
def beam_search(width, count, follow=True):
    """The beams' scores at the end, and for each step the beams that were gone on from, and the tokens."""
    (logits, cache), scores, steps = model.prefill(ids), torch.zeros(1), []
    for _ in range(count):
        scores, rows, tokens = best_continuations(scores, logits, width)
        steps.append((rows.tolist(), tokens.tolist()))
        logits, cache = model.step(tokens, cache.select(rows if follow or len(steps) == 1 else range(width)))
    return scores, steps


# %%
_, steps = beam_search(width=6, count=24)
plots.show(
    plots.beam_tree([[tokenizer.decode([i]) for i in tokens] for _, tokens in steps], [rows for rows, _ in steps])
)

# %% [markdown]
# Follow the thick line: it was not always the best on its way. A beam of one is greedy.

# %%
predict(
    "bits 60 bytes",
    "We search for 60 bytes with 1, 2, 4 and 8 beams. How many times as many bits does the text of one beam "
    "take as that of eight?",
    unit="times",
)


# %%
def spell(steps):
    """The tokens of the best beam."""
    beams = [[]]
    for rows, tokens in steps:
        beams = [beams[row] + [token] for row, token in zip(rows, tokens, strict=True)]
    return beams[0]


# %%
took = {}
for width in (1, 8) if FAST else (1, 2, 4, 8):
    _, steps = beam_search(width, 60)
    took[width] = surprise(spell(steps)).sum().item()
    print(f"width {width}: {took[width]:.1f} bits, {tokenizer.decode(spell(steps))!r}")
outcome("bits 60 bytes", took[1] / took[8])

# %% [markdown] tags=["answer"]
# The search finds likelier texts. That they are better does not follow: likely is what is said often.

# %% [markdown]
# The method asks that states follow their texts. For Mamba, transformers left them where they were: it picked the
# states anew only if they stood under another name (issue 46612, repaired in pull request 46819, both of 2026).

# %%
predict(
    "such search still",
    "Such a search still adds up probabilities, and believes them. Does its text take in truth more bits, or fewer?",
    ["more", "as many", "fewer"],
)

# %%
for follow in (True, False):
    scores, steps = beam_search(4, 60, follow)
    believed, true = -scores[0] / math.log(2), surprise(spell(steps)).sum()
    print(f"states {'follow' if follow else 'stay'}: {believed:.1f} bits believed, {true:.1f} true")
    print(f"    {tokenizer.decode(spell(steps))!r}")
outcome("such search still", "more" if true > believed + 0.1 else "fewer" if true < believed - 0.1 else "as many")

# %% [markdown] tags=["answer"]
# The test is to read the result once more, in one pass. It would have shown the bug on the first day.

# %% [markdown]
# ## What remembering costs
#
# A transformer keeps two vectors, a *key* and a *value*, for each token in each layer: the *KV cache*. Let us count its
# bytes. We take a transformer with as many weights as the preset `medium` of this package, random ones: only sizes
# matter here.

# %%
from mamba2_lab import Mamba2Config
from mamba2_lab.yardsticks.transformer import Transformer

transformer = Transformer(vocab_size=4096, seed=0)
medium = Mamba2LM(Mamba2Config.preset("medium"), device="meta")
print(f"weights: transformer {transformer.num_parameters():,}, medium {medium.num_parameters():,}")


# %%
def kv_bytes(l):
    """Counted in the cache that l tokens leave behind."""
    cache = transformer.llama(torch.zeros(1, l, dtype=torch.long), use_cache=True).past_key_values
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


# %%
predict(
    "as many tokens",
    "How many tokens can the transformer keep in the bytes that `medium` needs for any number?",
    unit="tokens",
)

# %%
state_bytes = medium.new_cache().nbytes
per_token = kv_bytes(2) - kv_bytes(1)
assert kv_bytes(50) == 50 * per_token
print(f"medium keeps {state_bytes:,} bytes, the transformer {per_token:,} for each token")
meet = state_bytes / per_token
print(f"they meet at {meet:.0f} tokens; with 16 bits in the KV cache at {2 * meet:.0f}")
outcome("as many tokens", meet)

# %%
lengths = [10**power for power in range(1, 7)]
sizes = {"KV cache, 32 bits": [per_token * length for length in lengths]}
sizes["KV cache, 16 bits"] = [size / 2 for size in sizes["KV cache, 32 bits"]]
sizes["cache of medium"] = [state_bytes] * len(lengths)

# %%
plots.show(plots.memory_by_length(lengths, sizes, [meet, 2 * meet]))

# %% [markdown]
# The transformer's bytes buy something: every token is still there, to be looked up. A state of fixed size has to give
# things up. Notebook 11 asks what that costs.
#
# ## Break it: a generator without history
#
# A generator reads a token, gets logits, chooses, and reads the next. If its states are made anew on the way, it goes
# on writing all the same. mlxcel did that at every step for three families of recurrent models (lablup/mlxcel, issue
# 1220, 2026); notebook 00 met another such port.

# %%
predict(
    "greedy text byte",
    "Greedy text, each byte chosen after the one before it and nothing else. How will its last ten bytes look?",
    ["like a word", "all different", "a circle of one or two bytes"],
)


# %%
def forgetful(ids, count):
    new = [int(model.prefill(ids)[0].argmax())]
    while len(new) < count:
        new.append(int(model.prefill(torch.tensor([new[-1:]]))[0].argmax()))
    return new


new = forgetful(ids, 60)
print(repr(header + tokenizer.decode(new)))
outcome("greedy text byte", "a circle of one or two bytes" if len(set(new[-10:])) < 3 else "no circle of two")

# %% [markdown] tags=["answer"]
# Nobody would ship that. It is harder to see when a part is lost, and the cache has two parts. We read texts that the
# model was not trained on, byte by byte, and after each byte wipe the states, the windows, or both.

# %%
from mamba2_lab.data import standard_library

held_out = [document.text for document in standard_library().held_out if len(document.text) > 2000]
pieces = torch.tensor([tokenizer.encode(text)[1000 : 1030 if FAST else 1090] for text in held_out[:12]])
print(f"{len(pieces)} pieces of {pieces.shape[1]} bytes, such as {tokenizer.decode(pieces[0, :40])!r}")


# %%
def bits_per_byte(texts, window_kept, state_kept):
    """texts (b,l), read byte by byte -> bits (b,l-1) for every byte but the first."""
    memory, found = nothing(len(texts)), []
    for t in range(texts.shape[1] - 1):
        logits, memory = read(texts[:, t : t + 1], memory)
        memory = [(window * window_kept, state * state_kept) for window, state in memory]
        found.append(torch.nn.functional.cross_entropy(logits[:, 0], texts[:, t + 1], reduction="none"))
    return torch.stack(found, dim=1) / math.log(2)


# %%
predict(
    "bits per byte",
    "The states are by far the larger part of the cache. In bits per byte, which loss costs more?",
    ["that of the states", "that of the windows"],
)

# %%
kept = {"all is kept": (1, 1), "states lost": (1, 0), "windows lost": (0, 1), "both lost": (0, 0)}
losses = {name: bits_per_byte(pieces, *parts) for name, parts in kept.items()}
for name, bits in losses.items():
    print(f"{name:>12}: {bits.mean():.2f} bits per byte")

# %%
some = [tokenizer.decode([i]) for i in pieces[0, 1:81]]
plots.show(plots.surprises(some, {name: bits[0, :80] for name, bits in losses.items()}))
of_states, of_windows = (losses[f"{part} lost"].mean() for part in ("states", "windows"))
outcome("bits per byte", "that of the states" if of_states > of_windows else "that of the windows")

# %% [markdown] tags=["answer"]
# Without windows the model is about as lost as without anything: its scans get inputs that they never saw in training.
# But without states it seems to know its Python. It hears as far as the windows of its layers reach, one behind the
# other.

# %%
reach = model.config.n_layer * (model.config.d_conv - 1)
print(f"{model.config.n_layer} layers of {model.config.d_conv - 1} inputs each reach {reach} bytes back")

# %%
predict("let four write", "Let all four write. In what will the second one go wrong, and how soon?")


# %%
def write_with_losses(window_kept, state_kept, count=30 if FAST else 100):
    (logits, memory), text = read(ids, nothing()), ids[0].tolist()
    generator = torch.Generator().manual_seed(2)
    while len(text) < l + count:
        text.append(draw(logits[0, -1] / 0.6, generator))
        memory = [(window * window_kept, state * state_kept) for window, state in memory]
        logits, memory = read(torch.tensor([text[-1:]]), memory)
    return tokenizer.decode(text)


# %%
for name, parts in kept.items():
    print(f"--- {name} ---\n{write_with_losses(*parts)}\n")
outcome("let four write")

# %% [markdown] tags=["answer"]
# It can begin well. But whoever hears no further than that cannot know how deep a line should be indented, once it has
# written as many spaces as it hears.

# %% [markdown]
# Text is a poor witness: a weak model writes nonsense as well. A better one is a text that is given. What the generator
# says at each of its bytes must be what one pass over the whole says.

# %%
whole = torch.nn.functional.cross_entropy(model(pieces)[:, :-1].mT, pieces[:, 1:], reduction="none") / math.log(2)
for name, bits in losses.items():
    print(f"{name:>12}: up to {(bits - whole).abs().max():.0e} bits from one pass")

# %% [markdown]
# ## The playground
#
# The package can tell how a token came to be chosen: its probability in the eyes of the model, and what each filter
# made of it.

# %%
predict(
    "settings above after",
    "With the settings from above, after the header: how many of the 257 bytes are still possible in the end?",
    unit="bytes",
)

# %%
from mamba2_lab.generation import explain

writing = stream(model, ids, max_new_tokens=1, tokenizer=tokenizer, seed=1, **settings)
first = next(writing)
why = explain(writing.stages(), first.id)
for stage, left in zip(why.stages, why.left, strict=True):
    print(f"{stage:>18}: {left} bytes possible")
outcome("settings above after", why.left[-1])

# %% [markdown]
# Penalty and temperature change chances and remove nothing. What a filter removes shows as a falling count: read it off
# above. Where the last number equals the one before it, min-p found nothing left to remove after top-p.

# %%
candidates = [tokenizer.decode([i]) for i in why.candidates]
titles = ("as the model says", "penalty 1.05", "temperature 0.7", "top-p 0.9", "min-p 0.05")
chances = dict(zip(titles, why.probabilities, strict=True))
plots.show(plots.candidates(candidates, chances, why.candidates.index(first.id)))

# %% [markdown] tags=["answer"]
# The playground draws this for every token, and lets you change everything while you watch. *Generate* writes, each
# token coloured by its probability; a click on a token, or the arrow keys, open its bars. *Stop* ends a run at once,
# and *Continue* goes on from the state, without reading anything again. A second column writes from the same prompt and
# the same seed with other settings.

# %% [markdown]
# It begins with `medium`, the larger model in the box, which writes pieces of words; choose `small` to see the bytes
# from above. (It puts the mark that ends a text before the prompt, as it stood between the files that a model learned
# from. So its numbers for `small` differ a little from those above.)
#
# If the playground is gone after you reloaded the page, run its cell again. While another cell is running a click
# waits: the kernel does one thing at a time. Writing itself goes on in a thread of its own, and you can work in other
# cells meanwhile.
#
# Three things to try:
#
# - Temperature 0. Where does the text begin to turn in circles, and do the colours tell it before you can read it?
# - Stop and Continue a few times, and watch the number of tokens read, and the bytes that stand for them.
# - Two columns, temperature 1.2, in one of them min-p 0.1. After which token do they part?

# %%
from mamba2_lab.widgets import Playground

playground = Playground(prompt=header, seed=1, stop=["\n    def"], **settings)
playground

# %% [markdown]
# ## Recap
#
# - A token acts on what comes later through windows and states alone. So these can be kept, and the text thrown away.
# - Prefill and step are one function, and wherever a text is cut, the logits stay the same.
# - Greedy text runs in circles, plain draws stumble. Temperature changes all chances; top-k, top-p and min-p cut the
#   tail; a penalty pushes away from what was written.
# - A cache is a value: it can be continued twice, picked, put back. Beam search must pick the states with their texts.
# - A KV cache grows with the text, a state does not, and has to forget instead.
# - Fluent text proves nothing. Compare with one pass over the same text.

# %%
glossary("greedy", "temperature", "top-k", "top-p", "min-p", "repetition penalty", "beam search", "KV cache")

# %% [markdown]
# ## On your own
#
# Two ideas that are in no cell above. *Mirostat* steers the surprise of the text: it raises or lowers the temperature
# after each token, until the tokens take on average as many bits as you ask for. Write it, as a `choose` for `write`,
# and look whether circles are gone. Or: put the states of two headers together, a + b, and let the model write from the
# sum. What of each does it still know?
#
# ## To read on
#
# - A. Holtzman and others, [The curious case of neural text degeneration](https://arxiv.org/abs/1904.09751).
# - S. Basu and others, [Mirostat](https://arxiv.org/abs/2007.14966).
# - What can be set in [transformers](https://huggingface.co/docs/transformers/main_classes/text_generation), a list.
#
# **Before**: [08, Training](08_training.ipynb). **Next**:
# [10, Watching memory](10_watching_memory.ipynb) looks into the states themselves.
