# %% [markdown]
# # A memory that looks at its input can choose what to keep
#
# After this notebook you can
#
# 1. say why a memory with a fixed rule cannot keep some words and leave out others, and show it fail;
# 2. set the time that passes at each word, by hand and then by a rule that looks at the word;
# 3. say what Mamba-2 gave up of Mamba-1, and what it got for it.
#
# **You need** notebooks 01 and 02; `nn.Linear` from PyTorch.
# **Time**: 75 minutes for you, 35 of them for the exercises, and 25 more for Mamba-1, which you may skip; two minutes for
# the machine.

# %% [markdown]
# ## Three words out of ten
#
# Somebody says a sentence, and three of its words matter: where to, when, and from which platform.

# %%
import torch

words = "the train to Oslo leaves at nine from platform four".split()
marked = torch.tensor([word in ("Oslo", "nine", "four") for word in words])
l = len(words)

# %% [markdown]
# Let a memory hear it. The state has an entry for each word, so that we can see what becomes of it. At word $t$ a time
# $dt_t$ passes: everything in the state fades by $e^{dt_t A}$, and then the word writes $dt_t$ into its own entry. This
# is the step of notebook 01, and here $A$ is $-1$.
#
# ### Exercise: what is held at the end ★★
#
# ★★ a sum that runs from the end · importance 3 of 3 · 10 minutes · needed for `dt_to_hold`, and the training at the
# end
#
# How much of each word does the state hold after the last one? The step may be longer at one word than at another.

# %%
from mamba2_lab.course import exercise


@exercise("held")
def held(dt, A):
    """dt (..., l); A < 0, a number or (..., 1) -> (..., l): how much of each word the state holds after the last."""
    ...


# %% [markdown]
# In notebook 02 the rule was the same at every step.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "fixed dt",
    "With the same `dt` at every word, is there a `dt` that holds *Oslo* better than *platform*?",
    ["yes, a short one", "yes, a long one", "no"],
)

# %%
A = -1.0
fixed = {f"dt = {dt} at every word": held(torch.full((l,), dt), A) for dt in (0.1, 0.3, 1.0)}

# %%
from mamba2_lab import plots

plots.show(plots.held_at_end(words, marked, fixed))
where = [words.index("Oslo"), words.index("platform")]
gains = {name: -held(torch.full((l,), dt), A)[where].diff() for name, dt in (("short", 0.01), ("long", 3.0))}
outcome("fixed dt", next((f"yes, a {name} one" for name, gain in gains.items() if gain > 0), "no"))

# %% [markdown] tags=["answer"]
# A fixed rule weighs a word by its distance from the end, $dt\,e^{dt\,A\,(l-1-s)}$, and by nothing else. Several
# barrels with several decays, and a gauge over them, give other weights, but they too depend on the distance alone:
# that is the kernel of notebook 02. *Oslo* stands in the middle of words that do not matter.

# %% [markdown]
# ## Paint the time by hand
#
# The loop takes any rule at any step. So let the time that passes differ from word to word. We would like to end with
# 0.5 of each marked word and nothing of the others. Here is where a fixed $dt$ of 0.3 leads.

# %%
plots.show(plots.painted_memory(words, torch.full((l,), 0.3), marked, amount=0.5, A=A), "fixed")

# %% [markdown]
# Now paint: one slider for each word, with the mouse or with the arrow keys. (If the sliders are gone after you
# reloaded the page, run their cell again.) Begin with the words that should leave no trace. Then try to get all three
# marked bars to their lines.

# %%
from mamba2_lab import widgets

widgets.DtPainter(words, marked, amount=0.5, A=A)

# %% [markdown]
# Two things show while you paint. With $dt = 0$ it is as if a word had not been said: no time passes, so nothing is
# written and nothing fades. And writing a word takes from all earlier ones: whoever gives *four* its time takes some from
# *Oslo*.
#
# ### Exercise: the dt that holds ★★★
#
# ★★★ each dt depends on the later ones · importance 2 of 3 · 20 minutes · needed for seeing what dt does; nothing is
# built on it
#
# There is one right setting. Find it without trying.

# %%
import math


@exercise("dt_to_hold")
def dt_to_hold(marked, amount, A):
    """marked (l,) bool, amount > 0, A < 0 -> dt (l,): the state ends with `amount` of each marked word, no other."""
    ...


# %%
predict("longest time", "Which of the three marked words gets the longest time?", ["Oslo", "nine", "four"])

# %%
painted = dt_to_hold(marked, 0.5, A)
torch.testing.assert_close(held(painted, A), 0.5 * marked.float())
print({word: round(dt, 2) for word, dt in zip(words, painted.tolist(), strict=True) if dt > 0})
outcome("longest time", words[painted.argmax()])

# %%
plots.show(plots.painted_memory(words, painted, marked, amount=0.5, A=A), "painted")

# %% [markdown]
# ## Two words by hand
#
# Nobody stands by with sliders. And a painted $dt$ fits one sentence: in the next one the words stand elsewhere. So the
# rule has to come from the word that comes in, and we begin with an example small enough to do by hand.
#
# The state is a table of two rows and two columns, empty at first. The first word brings two numbers to remember,
# $x = (1, 2)$, a time, $dt = 1$, and two more numbers, $B = (1, 0)$, which say in which column to write.

# %%
x_1, dt_1, B_1 = torch.tensor([1.0, 2]), 1.0, torch.tensor([1.0, 0])
state = dt_1 * torch.outer(x_1, B_1)
print(state)

# %% [markdown]
# Row $c$ and column $i$ hold $dt\, x_c\, B_i$. The table of all products of two vectors is called their *outer product*,
# written $x B^\top$.
#
# The second word brings $x = (4, 0)$, $dt = 0.5$ and $B = (0, 1)$. First its time passes, and everything fades by
# $e^{-0.5}$, to about 0.61 of what it was. Then the word is written, into the other column.

# %%
x_2, dt_2, B_2 = torch.tensor([4.0, 0]), 0.5, torch.tensor([0.0, 1])
state = math.exp(dt_2 * A) * state + dt_2 * torch.outer(x_2, B_2)
print(state)

# %% [markdown]
# And what does the word read? A third pair of numbers, $C$, says how much of each column.

# %%
print("C = (1, 0) reads", state @ torch.tensor([1.0, 0]), "and C = (1, 1) reads", state @ torch.tensor([1.0, 1]))

# %% [markdown]
# That is all. In general $x$ has $p$ numbers, called *channels*, and each channel has a row of the state; $B$ and $C$
# have $n$ numbers, one for each column. In notebook 02, $B_i$ was what barrel $i$ catches, and $C_i$ the weight with
# which it is read; now every word has its own.
#
# $$h_t = e^{dt_t A}\, h_{t-1} + dt_t\, x_t B_t^\top \qquad\qquad y_t = h_t\, C_t$$
#
# ## Let the word set its own time
#
# A memory whose decay, writing and reading depend on its input is called *selective*. Three things can depend on it
# (section 3.2 of arXiv:2312.00752):
#
# - $dt$, how much time passes: whether the word counts at all;
# - $B$, where in the state it is written;
# - $C$, where in the state it reads.
#
# The simplest way from a word to these is one matrix: a word is a vector $u$, and `nn.Linear` makes $dt$, $B$ and $C$ of
# it.

# %% [markdown]
# A matrix gives numbers of either sign, and time must not run backwards. So $dt$ goes through *softplus*,
# $\log(1 + e^v)$, which is near 0 for very negative $v$, near $v$ for large ones, and never negative.

# %%
import torch.nn.functional as F

print(F.softplus(torch.tensor([-6.0, -1, 0, 1, 6])))


# %% [markdown]
# ### Exercise: the rule of a token ★
#
# ★ a matrix, cut in three · importance 3 of 3 · 5 minutes · needed for every memory of this notebook

# %%
@exercise("selective_rule")
def selective_rule(u, weight, bias, n):
    """u (..., d), weight (h+2n, d), bias (h+2n,) -> dt (..., h) above 0, then B and C, (..., n) each, in this order."""
    ...


# %% [markdown]
# We make such a memory by hand. A word is three numbers: is it a place, is it a number, does it ask? Two questions are
# added at the end of the sentence. Places are written into the first column of the state and numbers into the second;
# a question reads the column of its own kind.

# %%
place, number, question = torch.eye(3)
kinds = {"Oslo": place, "Rome": place, "place?": place + question, "numbers?": number + question}
kinds |= dict.fromkeys(("two", "four", "six", "nine"), number)


def described(told):
    return torch.stack([kinds.get(word, torch.zeros(3)) for word in told])


# %% [markdown]
# The first row of the matrix makes $dt$. The bias of $-6$ keeps it near 0; a place or a number adds 6, and a question
# takes 6 away again. The other rows make $B$ and then $C$.

# %%
weight = torch.tensor([[6.0, 6, -6], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
bias = torch.tensor([-6.0, 0, 0, 0, 0])
told = [*words, "place?", "numbers?"]
dt, B, C = selective_rule(described(told), weight, bias, n=2)
print({word: round(value, 3) for word, value in zip(told, dt[:, 0].tolist(), strict=True)})

# %% [markdown]
# The computation that carries a state along a sequence, with an output at every token, is called a *scan*. We take that
# of the package, `mamba2_lab.scan`: it is the loop of notebook 02 for many channels and heads. It wants the shapes
# $(b, l, h, p)$ for $x$, $(b, l, h)$ for log decays and $(b, l, g, n)$ for $B$ and $C$: $b$ texts of $l$ tokens, $h$
# heads, and $g$ *groups*, which is what heads are called that share one $B$ and one $C$. We have one of each but the
# tokens. Each word writes in a channel of its own.

# %%
predict(
    "stronger",
    "What do the two questions read? And which of the two numbers comes out stronger?",
    ["nine", "four", "both alike"],
)

# %%
from mamba2_lab import scan


def heard(told):
    dt, B, C = (part[None, :, None] for part in selective_rule(described(told), weight, bias, n=2))  # (1,l,1,...)
    x = torch.eye(len(told))[None, :, None]  # (1,l,1,p)
    y, _ = scan.sequential(x * dt, (dt * A)[..., 0], B, C)
    return y[0, :, 0]  # (l,p)


# %%
def show_answers(told):
    for asked, row in zip(told[-2:], heard(told)[-2:], strict=True):
        print(
            f"{asked:9}", {word: round(held, 2) for word, held in zip(told, row.tolist(), strict=True) if held > 0.01}
        )


show_answers(told)
nine, four = (heard(told)[-2:, told.index(word)].max() for word in ("nine", "four"))
outcome("stronger", "both alike" if torch.isclose(nine, four) else "nine" if nine > four else "four")

# %% [markdown] tags=["answer"]
# Each question reads its own kind only. Of the two numbers the later one is stronger: it has not faded. And the rule is
# made for words, not for positions, so it works for another sentence, too:

# %%
show_answers("at six the ferry for Rome leaves from pier two place? numbers?".split())

# %% [markdown]
# ## What trained heads keep
#
# A long $dt$ lets the new in and the old out, a short one does neither.
#
# <details><summary>An old acquaintance</summary>
#
# With $A = -1$ and the exact gain of notebook 01 this is the rule of older recurrent networks,
# $h_t = (1 - g)\,h_{t-1} + g\,x_t$ (theorem 1 of arXiv:2312.00752). They call $g$ a gate. Mamba-2 uses that word for
# something else, which comes in notebook 06.
#
# </details>
#
# Do trained models use $dt$ so? Let `small`, the model of notebook 00, read a line of Python, and look at the decay of
# three of its heads at every byte. A block gets its $dt$ from its input as we did, with a matrix and a softplus.

# %%
from mamba2_lab import Mamba2LM, load_tokenizer

model, tokenizer = Mamba2LM.from_pretrained("small", device="cpu"), load_tokenizer("small")
line = "def area(radius): return 3.14 * radius ** 2  # of a circle"
pieces = list(line)


# %%
@torch.no_grad()
def decays_of(text):
    u, decays = model.embedding(torch.tensor([tokenizer.encode(text)])), []
    for block in model.blocks:
        _, xBC, raw = block.mixer.project(block.norm(u))
        decays.append(block.mixer.discretise(xBC, raw).log_decay[0].exp())  # (l,h)
        u, _ = block(u)
    return torch.stack(decays)  # (layers,l,h)


# %%
predict("forgetting", "When would you forget, if you had to predict Python byte by byte?")

# %%
heads = [(3, 7), (7, 7), (6, 2)]
decays = decays_of(line)
for layer, head in heads:
    one = decays[layer, :, head]
    least = [pieces[t] for t in one.argsort()[:5]]
    print(f"layer {layer}, head {head}: median {one.median():.2f}, lowest {one.min():.2f}; it keeps least at", least)

# %%
plots.show(
    plots.kept_over_a_line(
        told,
        dt[:, 0],
        A,
        pieces,
        torch.stack([decays[layer, :, head] for layer, head in heads], dim=1),
        [f"layer {layer}, head {head}" for layer, head in heads],
    )
)
outcome("forgetting")

# %% [markdown]
# ## A task for both: selective copying
#
# Is this worth the trouble? We set a task that asks for choosing and for nothing else. *Selective copying*: among many blanks
# stand two symbols out of 14, in random places; then come two questions, to be answered with the first symbol and with
# the second (section 3.1 of arXiv:2312.00752). Token 0 is the blank, token 1 asks.

# %%
from mamba2_lab.data.synthetic import selective_copying

batch = selective_copying(1, 16, 2, torch.Generator().manual_seed(0))
print("reads:  ", batch.input_ids[0].tolist())
print("answers:", batch.targets[0, -2:].tolist())

# %% [markdown]
# The memory: a vector for each token, four heads of eight channels with a rate of their own, one matrix for the rule,
# and one that turns what is read into a score for each token. That is all. There is no layer that compares or sorts.

# %%
from torch import nn

h, p, n = 4, 8, 4
rates = -torch.linspace(1, 2, h)[:, None]  # A, one for each head


def newborn(seed):
    torch.manual_seed(seed)
    sizes = {"rule": (h * p, h + 2 * n), "readout": (h * p, 16)}
    memory = nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})
    memory["embed"] = nn.Embedding(16, h * p)
    memory["rule"].bias.data[:h] = torch.linspace(-2, 0.5, h)  # dt between 0.1 and 1
    return memory


# %% [markdown]
# What does it read at its last token? The state is the sum of what was written, each piece as far as it is *held*:
# your function knows how far. A piece written along $B_s$ is read along $C$ with the factor $B_s \cdot C$.
#
# A memory with a fixed rule is the same network, *blindfolded*: its rule is shown zeros in place of the token, so the
# bias alone sets $dt$, $B$ and $C$, the same at every token. It has the same weights, and all of them can learn.

# %%
def scores(memory, ids, sees):
    """ids (b,l) -> (b,16): a score for each token, after the last of them."""
    u = memory["embed"](ids)
    dt, B, C = selective_rule(u if sees else 0 * u, memory["rule"].weight, memory["rule"].bias, n)
    weights = held(dt.mT, rates) * (B @ C[:, -1:].mT).mT  # (b,h,l)
    y = torch.einsum("bhl,blhp->bhp", weights, u.unflatten(-1, (h, p)))
    return memory["readout"](y.flatten(1))


# %% [markdown]
# We verify that this is the scan, on a memory that has learned nothing yet.

# %%
memory = newborn(0)
u = memory["embed"](batch.input_ids)
dt_0, B_0, C_0 = selective_rule(u, memory["rule"].weight, memory["rule"].bias, n)
x_dt = u.unflatten(-1, (h, p)) * dt_0[..., None]
y, _ = scan.sequential(x_dt, dt_0 * rates[:, 0], B_0[:, :, None], C_0[:, :, None])
torch.testing.assert_close(scores(memory, batch.input_ids, True), memory["readout"](y[:, -1].flatten(1)))


# %% [markdown]
# Training is the same for both: 500 steps on 32 fresh sequences of 64 tokens and the two questions.

# %%
def both_scores(memory, ids, sees):
    return torch.stack([scores(memory, ids[:, :stop], sees) for stop in (-1, None)], dim=1)  # (b,2,16)


def train(memory, sees, seed, steps=500):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(memory.parameters(), lr=0.01)
    for _ in range(steps):
        batch = selective_copying(32, 64, 2, generator)
        guessed = both_scores(memory, batch.input_ids, sees)
        loss = F.cross_entropy(guessed.flatten(0, 1), batch.targets[:, -2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %% [markdown]
# A guess to compare with: whoever knows *which* two symbols were shown, but not in which order, names one of the two.
# That is right half of the time, and a little more often, because both may be the same.

# %%
predict(
    "blindfolded",
    "How often will the blindfolded memory be right? And does it matter if the gaps become four times as long as "
    "any that it was trained on?",
    unit="%",
)

# %%
import os

torch.set_num_threads(1)  # for tensors this small, one thread is quickest
seeds = [0] if os.environ.get("MAMBA2_LAB_FAST") else [0, 1, 2]
memories = {(sees, seed): newborn(seed) for sees in (True, False) for seed in seeds}
for (sees, seed), memory in memories.items():
    train(memory, sees, seed)


# %%
@torch.no_grad()
def share_right(memory, sees, length):
    batch = selective_copying(500, length, 2, torch.Generator().manual_seed(99))
    answers = both_scores(memory, batch.input_ids, sees).argmax(dim=-1)
    return (answers == batch.targets[:, -2:]).float().mean().item()


# %%
lengths = [16, 32, 64, 128, 256]
shares = {(sees, seed): [share_right(memory, sees, l) for l in lengths] for (sees, seed), memory in memories.items()}
guess = 0.5 + 0.5 / 14
for (sees, seed), row in shares.items():
    name = f"{'sees its input' if sees else 'blindfolded'}, seed {seed}"
    print(f"{name:23} {row[2]:6.1%} right at length 64, {row[4]:6.1%} at 256")
print(f"{'either of the two':23} {guess:6.1%}")
outcome("blindfolded", 100 * shares[False, 0][2])

# %%
runs = {
    "sees its input": [shares[True, seed] for seed in seeds],
    "blindfolded": [shares[False, seed] for seed in seeds],
}
assert min(run[2] for run in runs["sees its input"]) > 0.95
assert max(run[2] for run in runs["blindfolded"]) < 0.7

# %%
plots.show(plots.recall_by_length(lengths, runs, {"either of the two": guess, "any symbol": 1 / 14}, trained=64))

# %% [markdown]
# The blindfolded memory does find the two symbols. It suppresses blanks by what they write, a much smaller vector:

# %%
for seed in seeds:
    sizes = memories[False, seed]["embed"].weight.norm(dim=1)
    print(f"blindfolded, seed {seed}: a blank's vector has size {sizes[0]:.2f}, a symbol's {sizes[2:].mean():.2f}")

# %% [markdown]
# What it lacks is a clock that can stand still. For it, *first* can only mean *longer ago*, and how long ago that is
# changes from sequence to sequence. And what has the other one learned?

# %%
memory = memories[True, 0]
with torch.no_grad():
    learned, _, _ = selective_rule(memory["embed"].weight, memory["rule"].weight, memory["rule"].bias, n)  # (16,h)
for name, rows in (("a blank", learned[:1]), ("a question", learned[1:2]), ("a symbol, mean", learned[2:])):
    print(f"dt at {name:15}", [f"{value:.3f}" for value in rows.mean(dim=0)])


# %% [markdown]
# What we painted by hand: next to no time at a blank, much at a symbol. Nobody told it. Its clock counts symbols, and
# that is why longer gaps do it little harm.
#
# ## Mamba-1: a decay for every entry (you may skip this part)
#
# From here to *Break it* we look back at Mamba-1, and at what Mamba-2 gave up. No later notebook needs its exercises.
#
# So far all of a head's state fades alike. Mamba-1 is finer: each channel has a $dt$ of its own, and $A$ is a table
# $(d, n)$, so that every entry of the state has its own decay $e^{dt_c\,A_{ci}}$ (algorithm 2 of arXiv:2312.00752).
#
# ### Exercise: Mamba-1's scan ★★
#
# ★★ a loop with one outer product · importance 1 of 3 · 10 minutes · needed for Mamba-1, which one may skip

# %%
@exercise("selective_scan")
def selective_scan(x, dt, A, B, C):
    """x, dt (l,d); A (d,n), negative; B, C (l,n) -> y (l,d): the scan of Mamba-1, from an empty state."""
    ...


# %% [markdown]
# Mamba-2 keeps one $dt$ and one $A$ for each head, a number each (section 5.1 of arXiv:2405.21060). So it is a Mamba-1
# in which many decays happen to be the same.
#
# ### Exercise: Mamba-2 as a Mamba-1 ★
#
# ★ two repeats · importance 1 of 3 · 5 minutes · needed for the comparison with Mamba-1, which one may skip

# %%
@exercise("as_mamba1")
def as_mamba1(dt, A, p, n):
    """Mamba-2's dt (l,h), A (h,) -> Mamba-1's dt (l,h*p), A (h*p,n) that fade the same, heads of p channels each."""
    ...


# %% [markdown]
# We draw a sequence for two heads of 32 channels in float64, and compute it both ways.

# %%
generator = torch.Generator().manual_seed(4)
length, nheads, headdim, d_state = 256, 2, 32, 16


def drawn(size):
    return torch.randn(length, size, generator=generator, dtype=torch.float64)


# %%
x, B, C = drawn(nheads * headdim), drawn(d_state), drawn(d_state)
dt_2, A_2 = F.softplus(drawn(nheads) - 2), torch.tensor([-1.0, -16.0], dtype=torch.float64)
x_dt = x.view(length, nheads, headdim) * dt_2[..., None]
for_mamba2 = x_dt[None], (dt_2 * A_2)[None], B[None, :, None], C[None, :, None]
y, _ = scan.sequential(*for_mamba2)

# %%
by_channel, by_entry = as_mamba1(dt_2, A_2, headdim, d_state)
difference = (selective_scan(x, by_channel, by_entry, B, C) - y.flatten(2)[0]).abs().max()
print(f"largest difference: {difference:.1e}")
assert difference < 1e-10

# %% [markdown]
# There is no way back: Mamba-1 can do more.

# %%
predict(
    "different decays",
    "Mamba-1 has a decay for each of the 1,024 numbers of this state. How many different ones does Mamba-2 compute "
    "at a token, with two heads?",
    unit="",
)

# %%
dt_1 = F.softplus(drawn(nheads * headdim) - 2)
A_1 = -torch.arange(1.0, d_state + 1).double().expand(nheads * headdim, d_state)  # 1 ... n, as Mamba-1 starts
fades = {"Mamba-1": -dt_1[0, :, None] * A_1, "Mamba-2": -by_channel[0, :, None] * by_entry}
for name, table in fades.items():
    print(f"{name}: a state of {table.numel():,} numbers, {table.unique().numel():,} different decays")
outcome("different decays", fades["Mamba-2"].unique().numel())

# %%
plots.show(plots.decay_tables(fades))

# %% [markdown]
# What did Mamba-2 get for what it gave up? Ask how much token $t$ reads of token $s$, in channel $c$. Let $T_c$ be the
# time that passed in between.
#
# $$\text{Mamba-1:}\quad \sum_i C_{ti}\; e^{T_c A_{ci}}\; B_{si} \qquad\qquad
#   \text{Mamba-2:}\quad e^{T A} \sum_i C_{ti}\, B_{si}$$
#
# In Mamba-2 the decay comes out of the sum, and the sum is the same for all channels: for all $t$ and $s$ together it
# is one matrix product, $C B^\top$. In Mamba-1 the decay stays inside, different for every channel. So how many
# exponentials does each need, for all pairs of tokens?

# %%
pairs = length * (length + 1) // 2
counts = pairs * nheads * headdim * d_state, pairs * nheads
print(f"exponentials: {counts[0]:,} for Mamba-1, {counts[1]:,} for Mamba-2, {counts[0] // counts[1]} times fewer")

# %% [markdown]
# What Mamba-2 got is a computation made of matrix products. Notebooks 04 and 05 build it, and 05 measures what it is
# worth. Mamba-1 has no such way out; its authors wrote a scan for GPUs that keeps the state in the fastest memory
# (section 3.3 of arXiv:2312.00752). What the simpler decay loses, Mamba-2 can make up for with a larger state. In
# Mamba-1's code $n$ is 16 unless told otherwise. And in the published Mamba-2?

# %%
from mamba2_lab import Mamba2Config

print("n of the published Mamba-2 models:", Mamba2Config.preset("130m").d_state)

# %% [markdown]
# ## Break it: the bias is added twice
#
# The bias under the softplus sets how much time passes when the token says nothing. In the code of Mamba-1 it belongs
# to a linear layer, but is handed to the scan, which adds it before the softplus. So it is easy to call the layer, bias
# and all, and hand the bias over as well. A fast path proposed for Apple's GPUs did that, until a reader saw its text
# diverge from that of the slow path after a few tokens (github.com/ml-explore/mlx-lm, pull request 1153). So does the code of a
# vision model (github.com/NVlabs/MambaVision, issue 32). Nothing complains: every shape is right, every $dt$ positive,
# every number finite.

# %%
predict(
    "bias twice",
    "Biases of a new model are such that `dt` starts between 0.001 and 0.1. What becomes of a `dt` of 0.01 if the "
    "bias counts twice?",
    unit="",
)

# %%
started = torch.tensor([0.001, 0.01, 0.1])
start = torch.log(torch.expm1(started))  # softplus(start) = started
for times, name in ((1, "once"), (2, "twice")):
    print(f"{name:5}", [f"{value:.2g}" for value in F.softplus(times * start)])
outcome("bias twice", F.softplus(2 * start)[1].item())

# %% [markdown] tags=["answer"]
# Nearly the square, because softplus is nearly $e^v$ there: a memory that took in a hundredth now takes in a
# ten-thousandth, and hardly ever forgets. The clock almost stands still. We do this to `small`, and look at every $dt$
# while it reads.

# %%
import copy
import json
from pathlib import Path

broken = copy.deepcopy(model)
with torch.no_grad():
    for block in broken.blocks:
        block.mixer.dt_bias *= 2
ids = torch.tensor([tokenizer.encode(Path(json.__file__).read_text(encoding="utf-8"))[:1000]])


# %%
@torch.no_grad()
def bits_per_byte(model):
    nats = F.cross_entropy(model(ids)[0, :-1], ids[0, 1:])
    return (nats / math.log(2)).item()


print(f"bias once: {bits_per_byte(model):.2f} bits per byte; twice: {bits_per_byte(broken):.2f}; not reading at all: 8")


# %%
def first_dt(model):
    block = model.blocks[0]
    with torch.no_grad():
        _, xBC, raw = block.mixer.project(block.norm(model.embedding(ids)))
        return block.mixer.discretise(xBC, raw).dt[0]  # (l,h)


plots.show(plots.two_step_sizes(first_dt(model), first_dt(broken), ("bias once", "bias twice")))

# %% [markdown]
# The test that finds it is the one of notebook 02: two computations of one system must agree. Run the fast path and the
# plain loop with the same weights, and compare numbers, not samples of text.
#
# ## Recap
#
# - A fixed rule weighs a word by how long ago it was said. It cannot keep *Oslo* and drop *platform*.
# - $dt$ is how long a token lasts: 0 lets it pass as if it were not there, a long one writes it and fades what was there
#   before.
# - *Selective*: each token sets its own $dt$, $B$ and $C$. On selective copying this is the difference between knowing
#   the order and guessing it.
# - Mamba-1 has a decay for every entry of the state. Mamba-2 has one for each head, which comes out of the sum, and a
#   matrix product is left.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("channel", "softplus", "selective", "B", "C", "scan", "group", "selective copying")

# %% [markdown]
# ## On your own
#
# Set a task in which a token must make the memory *forget*: say, only symbols after the last full stop count. Change the
# memory made by hand so that a full stop wipes it (what does its $dt$ have to be, and what must it not write?). Then make
# sequences of this kind, train both memories on them, and see how long the gaps may become.
#
# ## To read on
#
# - A. Gu and T. Dao, [Mamba](https://arxiv.org/abs/2312.00752): section 3 has the choice that this notebook builds, and
#   the task of selective copying.
# - M. Grootendorst, [A Visual Guide to Mamba](https://newsletter.maartengrootendorst.com/p/a-visual-guide-to-mamba-and-state):
#   the same road in pictures.
#
# **Before**: [02, One system, three computations](02_one_system_three_computations.ipynb). **Next**:
# [04, Duality](04_duality.ipynb) takes the matrix product seriously: the whole scan is one masked attention.
