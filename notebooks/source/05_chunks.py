# %% [markdown]
# # Attention inside chunks, a recurrence between them
#
# After this notebook you can
#
# 1. compute the recurrence in four steps made of matrix products, for a text of any length;
# 2. say what it costs, by counting and by measuring, and choose the size of a chunk;
# 3. tell from the course of an error what a program forgot where it cut a text.
#
# **You need** notebook 04: the matrix M, its decay mask, and why little passes below its diagonal.
# **Time**: two hours for you, 90 minutes of them for the exercises; a minute for the machine.

# %% [markdown]
# ## Twelve words, three chunks
#
# The loop of notebook 03 takes one small step after another. The table M of notebook 04 is made by a few large matrix
# products, but it grows as the square of the length. Mamba-2 takes the best of both (Dao & Gu 2024,
# [arXiv:2405.21060](https://arxiv.org/abs/2405.21060), section 6). The algorithm is called *SSD*, after the state space
# duality that it rests on.
#
# The story of notebook 04 goes on. As there, the state has a column for things and one for events; B says where a word is
# written, C what it asks for, and a full stop keeps half of what was there.

# %%
import torch

words = "snow fell . then it melted . the grass grew green again".split()
things, events, half_a_thing, nothing = [1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.0]
written = {"snow": things, "fell": events, "it": half_a_thing, "melted": events}
written |= {"grass": things, "grew": events, "green": half_a_thing}
asked = dict.fromkeys(["fell", "it", "melted", "grew", "green"], things) | dict.fromkeys(["then", "again"], events)

# %%
B = torch.tensor([[written.get(word, nothing) for word in words]])  # (b,l,n), a batch of one text
C = torch.tensor([[asked.get(word, nothing) for word in words]])  # (b,l,n)
log_decay = torch.tensor([[0.5 if word == "." else 0.9 for word in words]]).log()  # (b,l)
x = torch.eye(len(words))[None]  # (b,l,p): each word writes in a channel of its own
print([tuple(part.shape) for part in (x, log_decay, B, C)])

# %% [markdown]
# From notebook 04 come segment sums and M. `answer` gives the function that you wrote there, or the reference if you have
# not.

# %%
from mamba2_lab.course import answer

segsum = answer("segsum")
attention_matrix = answer("attention_matrix")

# %% [markdown]
# A *chunk* is a run of q tokens. With q = 4 our text has c = 3 chunks, and M falls into nine blocks of 4 by 4.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "blocks",
    "How many of the nine hold anything? And what do you know of the rank of those off the diagonal?",
    unit="blocks",
)

# %%
M = attention_matrix(log_decay, B, C)
blocks = M[0].unflatten(0, (3, 4)).unflatten(2, (3, 4))  # (c,q,c,q)
print("entries that are not 0 in each block:", (blocks != 0).sum(dim=(1, 3)).tolist())
outcome("blocks", int((blocks != 0).any(dim=3).any(dim=1).sum()))

# %% [markdown] tags=["answer"]
# Six: three on the diagonal and three below it; the rest is future. The blocks on the diagonal are attention within a
# chunk. Those below have a rank of at most n = 2, so they need not be written out: each is what its words read of a
# state, times what earlier words left in it. Here is the plan. The steps are numbered, and each has a colour.

# %%
from mamba2_lab import plots
from mamba2_lab.widgets.explorers.chunks import ChunkStepper, four_steps

# %%
story = log_decay[0], B[0], C[0]
columns = "thing", "event"
plots.show(plots.chunk_steps(words, four_steps(*story, chunk_size=4), chunk_size=4, until=0, columns=columns), "plan")

# %% [markdown]
# <details><summary>Another way to see it: a reader with a notebook</summary>
#
# Somebody reads a long novel and keeps notes of one page. While a chapter is open, they can leaf back and forth in it and
# compare every line with every line before it: that is attention, and a chapter is short. At its end they write down, on
# the one page, what the chapter leaves (step 2), after they have let the older notes fade (step 3). In the next chapter
# they look at the notes whenever something earlier is meant (step 4). Chapters of one word would mean rewriting the page at
# every word: the loop. A single chapter would mean leafing through the whole novel: attention.
#
# And all chapters can be read at the same time, by many readers: only the page has to be handed on from one to the next.
#
# </details>

# %% [markdown]
# ## Cut the text, ragged end and all
#
# The length of a text is rarely a multiple of q. So the last chunk is filled up. With what? With zeros: x = 0 writes
# nothing, and a log decay of 0 is a decay of 1, which keeps everything. Time stands still, and no harm is done.
#
# ### Exercise: chunks ★
#
# ★ a filling and a reshape · importance 3 of 3 · 5 minutes · needed for `chunked`

# %%
from mamba2_lab.course import exercise


@exercise("split_into_chunks")
def split_into_chunks(sequence, chunk_size):
    """(b, l, ...) -> (b, c, chunk_size, ...): the last chunk filled up with zeros behind the last token."""
    ...


# %%
predict(
    "last chunk",
    "We split the first ten words into chunks of 4. What shapes come out, and what stands at the end of the last "
    "chunk of log decays?",
    ["two zeros", "two times -inf", "nothing: it is shorter"],
)

# %%
print(tuple(split_into_chunks(x[:, :10], 4).shape), tuple(split_into_chunks(log_decay[:, :10], 4).shape))
last = split_into_chunks(log_decay[:, :10], 4)[0, -1].flatten()
print(last)
shown = {(0.0, 0.0): "two zeros", (-torch.inf, -torch.inf): "two times -inf"}
outcome("last chunk", shown.get(tuple(last[2:].tolist()), "nothing: it is shorter"))

# %% [markdown]
# ## Step 1: attend inside
#
# Each chunk by itself: M of the chunk, times its x. Nothing new is needed. The axes before the last two are carried
# along, so all chunks are done at once.

# %%
predict(
    "it inside",
    "In notebook 04, *it* read 0.36 of *snow* and 0.5 of itself. Now *it* is the first word of the second chunk. "
    "What does it read in this step?",
    ["0.36 of snow and 0.5 of itself", "0.5 of itself", "nothing"],
)

# %%
x_c, log_decay_c, B_c, C_c = (split_into_chunks(part, 4) for part in (x, log_decay, B, C))
y_inside = attention_matrix(log_decay_c, B_c, C_c) @ x_c
print(tuple(y_inside.shape))
reads = {word: round(a.item(), 2) for word, a in zip(words, y_inside[0, 1, 0], strict=True) if a > 0}
print("it reads", reads)
named = [f"{amount} of {word.replace('it', 'itself')}" for word, amount in reads.items()]
outcome("it inside", " and ".join(named) or "nothing")


# %% [markdown] tags=["answer"]
# *snow* lies in another chunk, and comes by way of the state.

# %% [markdown]
# ## Step 2: leave something behind
#
# Forget for a moment what comes into a chunk. What will its own tokens have left in the state at its end?
#
# ### Exercise: what is left behind ★★
#
# ★★ a fade and one matrix product · importance 3 of 3 · 15 minutes · needed for `chunked`

# %%
@exercise("left_behind")
def left_behind(x, log_decay, B):
    """x (..., q, p), log_decay (..., q), B (..., q, n) -> (..., p, n): what a chunk's own tokens leave at its end."""
    ...


# %%
left = left_behind(x_c, log_decay_c, B_c)  # (b,c,p,n)
print(f"chunk 1 leaves {left[0, 0, 0, 0]:.3f} of snow, as a thing, and {left[0, 0, 1, 1]:.3f} of fell, as an event")


# %% [markdown]
# *fell* keeps 0.5 x 0.9, because a full stop and *then* follow it; *snow* is one decay older.
#
# ## Step 3: pass the states on
#
# Now the chunks take turns, in a recurrence as in notebook 03, over c chunks instead of l tokens. What came in fades by
# all decays of the chunk, and what the chunk left behind is added.
#
# ### Exercise: the states at the boundaries ★★
#
# ★★ a recurrence, with axes to fit · importance 3 of 3 · 15 minutes · needed for `chunked`

# %%
@exercise("pass_between_chunks")
def pass_between_chunks(added, log_decay, initial_state):
    """States at the c+1 boundaries of the chunks.

    added (..., c, p, n) by each chunk, log_decay (..., c) of each, initial_state (..., p, n) -> (..., c+1, p, n)
    """
    ...


# %%
empty = torch.zeros(1, len(words), 2)
states = pass_between_chunks(left, log_decay_c.sum(dim=-1), empty)  # (b,c+1,p,n)
print("snow, as a thing, at each boundary:", "  ".join(f"{amount:.3f}" for amount in states[0, :, 0, 0]))

# %% [markdown]
# These are the states that the loop has after 0, 4, 8 and 12 words. Are they?

# %%
state = empty[0]
for t in range(len(words)):
    state = log_decay[0, t].exp() * state + x[0, t].outer(B[0, t])
    if t % 4 == 3:
        print(f"after {t + 1:>2} words they differ by {(state - states[0, (t + 1) // 4]).abs().max():.0e}")


# %% [markdown]
# ## Step 4: read what came in
#
# Each token reads the state that came into its chunk. On the way to it that state has faded.
#
# ### Exercise: reading what came in ★
#
# ★ a fade and one matrix product, which you know by now · importance 3 of 3 · 10 minutes · needed for `chunked`

# %%
@exercise("read_incoming")
def read_incoming(state, log_decay, C):
    """state (..., p, n) that came in, log_decay (..., q), C (..., q, n) -> (..., q, p): what each token reads of it."""
    ...


# %%
y_read = read_incoming(states[:, :-1], log_decay_c, C_c)  # the last state comes into no chunk
y = (y_inside + y_read).flatten(1, 2)  # (b,l,p)
print("it reads", {word: round(a.item(), 2) for word, a in zip(words, y[0, 4], strict=True) if a > 0})
print(f"from M x it differs by {(y - M @ x).abs().max():.0e}")

# %% [markdown]
# There is *snow* again. Here is the whole computation.

# %%
plots.show(plots.chunk_steps(words, four_steps(*story, chunk_size=4), chunk_size=4, columns=columns), "whole")

# %% [markdown]
# And here you can go through it. Move **step** with the arrow keys, then try other chunk sizes. (If the controls are
# gone after you reloaded the page, run their cell again.)

# %%
predict(
    "whole table",
    "Which chunk sizes leave the last chunk ragged? And from which size on does step 1 make the whole table?",
    unit="words",
)

# %%
ChunkStepper(words, *story, columns)

# %%
outcome("whole table", len(words))


# %% [markdown] tags=["answer"]
# A single chunk is the table of notebook 04. Chunks of a single token are, if you think it through, the loop. SSD is
# everything in between.

# %% [markdown]
# ## Put it together
#
# In a model there are heads, and groups of heads that share B and C (notebook 03): with h heads in g groups, head i has
# the B and C of group i // (h/g). Otherwise it is the four steps. This is the function that runs in the model; notebook
# 06 puts it there.
#
# ### Exercise: the recurrence in chunks ★★★
#
# ★★★ nothing new, but much to join, and axes to move · importance 3 of 3 · 30 minutes · needed for the block: notebook
# 06 runs yours

# %%
@exercise("chunked")
def chunked(x, log_decay, B, C, initial_state, chunk_size):
    """The recurrence in chunks: what each token reads within its chunk, and of the state that came in.

    x (b,l,h,p), log_decay (b,l,h), B, C (b,l,g,n), initial_state (b,h,p,n) -> y (b,l,h,p), final_state (b,h,p,n)
    """
    ...


# %% [markdown]
# Is it the loop, for lengths and chunk sizes that do not fit each other?

# %%
from mamba2_lab import scan


def draw(l, h=4, p=32, n=32, g=2):
    """x, log_decay, B, C and an initial state, at random: h heads in g groups."""
    generator = torch.Generator().manual_seed(5)
    x, B, C = (torch.randn(1, l, count, size, generator=generator) for count, size in ((h, p), (g, n), (g, n)))
    return x, -0.1 * torch.rand(1, l, h, generator=generator), B, C, torch.randn(1, h, p, n, generator=generator)


# %%
for l, chunk_size in ((12, 4), (10, 4), (3, 64), (200, 1), (200, 64), (200, 200)):
    right, last = scan.sequential(*(part.double() for part in draw(l)))
    found, state = chunked(*draw(l), chunk_size)
    errors = [((one - other).norm() / other.norm()).item() for one, other in ((found, right), (state, last))]
    print(f"{l:>3} tokens in chunks of {chunk_size:>3}: relative error y {errors[0]:.0e}, state {errors[1]:.0e}")


# %% [markdown]
# ## What it costs, counted
#
# A product of an (i, j) and a (j, k) matrix takes i j k multiply-adds. Count those of the four steps.
#
# ### Exercise: multiply-adds ★★
#
# ★★ four products to count · importance 2 of 3 · 15 minutes · needed for the comparison of costs

# %%
@exercise("multiply_adds")
def multiply_adds(l, chunk_size, p, n):
    """How many multiply-adds the matrix products of one head take for l tokens, and passing its state on."""
    ...


# %% [markdown]
# A single chunk is attention over the whole text, so it counts for `quadratic` as well. The loop takes 3 p n for each
# token: it fades, writes and reads a state of p n numbers.

# %%
predict(
    "fewest",
    "With p = n = 32, which of the three takes the fewest multiply-adds for 4096 tokens?",
    ["loop", "quadratic", "chunks"],
)

# %%
p = n = 32
cost = {"loop": 3 * 4096 * p * n, "quadratic": multiply_adds(4096, 4096, p, n), "chunks": multiply_adds(4096, 64, p, n)}
for name, count in cost.items():
    print(f"{name:<9} {count:>15,}")
outcome("fewest", min(cost, key=cost.get))

# %% [markdown] tags=["answer"]
# The loop does the least. So is it the fastest?

# %% [markdown]
# ## What it costs, measured
#
# A clock needs care. The first call is not counted: it may load, compile or allocate what later ones find ready. Then we
# measure several times and take the median, for the machine does other things too. And all computations get one thread,
# so that none has more hands than another. Notebook 12 says more about clocks.

# %%
import os
import statistics
import timeit

torch.set_num_threads(1)


def median_seconds(compute):
    compute()
    return statistics.median(timeit.repeat(compute, number=1, repeat=5))


# %%
longest = 512 if os.environ.get("MAMBA2_LAB_FAST") else 4096
lengths = [2**power for power in range(6, 13) if 2**power <= longest]
ways = {
    "loop": (scan.sequential, lambda l: 3 * l * p * n, lengths),
    "quadratic": (scan.quadratic, lambda l: multiply_adds(l, l, p, n), lengths[:-1]),  # it makes l x l tables
    "chunks of 64": (lambda *arguments: chunked(*arguments, 64), lambda l: multiply_adds(l, 64, p, n), lengths),
}
inputs = {l: draw(l) for l in lengths}

# %%
predict(
    "crossing",
    "On logarithmic axes a cost that grows with l is a line, and one that grows with l² a line twice as steep. "
    "Which of the three lines cross, counted, and which measured?",
)

# %%
at, counted, measured = {}, {}, {}
for name, (compute, count, at[name]) in ways.items():
    counted[name] = [4 * count(l) for l in at[name]]  # four heads
    measured[name] = [median_seconds(lambda c=compute, l=l: c(*inputs[l])) for l in at[name]]

# %%
plots.show(plots.costs(at, counted, measured, along="length (tokens)"), "by length")
outcome("crossing")

# %% [markdown] tags=["answer"]
# The loop does the least work and takes long. Why? Let us ask two loops, that of the package and the bare one of Mamba-1
# from notebook 03, to carry a small state and a large one.

# %%
predict(
    "64 times the work",
    "A state of 32 x 32 is 64 times as large as one of 4 x 4. How many times as long does the loop of the package "
    "take?",
    unit="times",
)

# %%
bare = answer("selective_scan")


def both_loops(l, size):
    x, log_decay, B, C, _ = draw(l, h=1, p=size, n=size, g=1)
    for_mamba1 = x[0, :, 0], 0.1 * torch.ones(l, size), -torch.ones(size, size), B[0, :, 0], C[0, :, 0]
    return median_seconds(lambda: scan.sequential(x, log_decay, B, C)), median_seconds(lambda: bare(*for_mamba1))


# %%
tokens = 256
per_token = {size: [1e6 * seconds / tokens for seconds in both_loops(tokens, size)] for size in (4, 32)}
for size, (package, own) in per_token.items():
    print(f"state of {size:>2} x {size:>2}: Mamba-2's loop {package:4.0f} microseconds a token, Mamba-1's {own:4.0f}")
outcome("64 times the work", per_token[32][0] / per_token[4][0])

# %% [markdown] tags=["answer"]
# Far less than 64 times: what takes the time is not the arithmetic. Every operation of PyTorch costs a little before it has
# touched a number, a loop has several of them at each token, and each token waits for the one before it. That is also why
# Mamba-2's loop may take longer than Mamba-1's, though it does less: the one in the package serves any number of texts,
# heads and groups, and so it asks for more operations at each token than the bare loop of an exercise. Matrix products do
# the same for many tokens at once, and pay that price once.

# %% [markdown]
# Now the size of a chunk, for the longest text.

# %%
predict(
    "best chunk",
    "By the count, small chunks are best. Which size will the clock find best, and why?",
    unit="tokens",
)

# %%
sizes = [2**power for power in range(2, 11) if 2**power <= longest]
by_size = [median_seconds(lambda q=q: chunked(*inputs[longest], q)) for q in sizes]
counts = [4 * multiply_adds(longest, q, p, n) for q in sizes]
print(f"fewest multiply-adds at q = {sizes[counts.index(min(counts))]}")
print(f"fastest here at q = {sizes[by_size.index(min(by_size))]}")
outcome("best chunk", sizes[by_size.index(min(by_size))])

# %%
plots.show(
    plots.costs({"chunks": sizes}, {"chunks": counts}, {"chunks": by_size}, along="chunk size q"), "by chunk size"
)

# %% [markdown]
# Chunks of one token are the loop, a single chunk is attention. The valley lies between, and where depends on the machine:
# `chunk_size` is 64 in this package and 256 in the official code, and changes nothing in the result.

# %% [markdown]
# ## Break it: what was forgotten at the cut?
#
# Long texts are read in pieces, and chats go on. What has to be carried over the cut? The state, and one thing more: in
# front of its scan a Mamba-2 layer mixes each token with the three before it, through a short filter (notebook 06 builds
# it). So the next piece needs the last three tokens as well. They are called the *window*.
#
# Both have been forgotten in public. Given a text in pieces, the official layer starts each of them from nothing
# ([state-spaces/mamba, issue 641](https://github.com/state-spaces/mamba/issues/641)); so did several models in
# transformers that are built on Mamba-2, until they were mended
# ([pull request 46741](https://github.com/huggingface/transformers/pull/46741)). Text comes out, and it is not the same.
#
# Let us build such a layer, with a half-life of 16 tokens, so that we know what to look for.

# %%
import math

half_life, taps = 16, [0.1, 0.2, 0.3, 0.4]  # the last tap meets the token itself
dt = math.log(2) / half_life  # with A = -1 the log decay is -dt


def mix(x, window):
    """x (b,l,h,p), window (b,3,h,p) the tokens before it -> each token mixed with the three before it."""
    inputs = torch.cat([window, x], dim=1)
    return sum(tap * inputs[:, i : i + x.shape[1]] for i, tap in enumerate(taps))


# %%
def layer(x, B, C, window, state):
    """A piece of text, and what came before -> its outputs, and the window and the state for the next piece."""
    mixed = mix(x, window)
    log_decay = torch.full(x.shape[:3], -dt)
    y, state = chunked(dt * mixed, log_decay, B, C, state, 64)
    return y + mixed, torch.cat([window, x], dim=1)[:, -3:], state


# %% [markdown]
# As in the model, the token also takes a way around the state: `y + mixed`. First the right way: cut anywhere, carry
# both over, and get what the whole text gives.

# %%
generator = torch.Generator().manual_seed(5)
text = [torch.randn(1, 192, 64, 8, generator=generator) for _ in range(3)]  # x, B, C: 64 heads, p = n = 8
no_window, no_state = torch.zeros(1, 3, 64, 8), torch.zeros(1, 64, 8, 8)
whole, _, _ = layer(*text, no_window, no_state)
for cut in (1, 2, 64, 100):
    first, window, state = layer(*(part[:, :cut] for part in text), no_window, no_state)
    second, _, _ = layer(*(part[:, cut:] for part in text), window, state)
    print(f"cut at {cut:>3}: differs by {(torch.cat([first, second], dim=1) - whole).abs().max():.0e}")

# %% [markdown]
# Now two suspects read the second piece after a cut at 128. One forgot the window, the other the state; chance decides
# who is called A.

# %%
cut = 128
_, window, state = layer(*(part[:, :cut] for part in text), no_window, no_state)
lost = [("the window", no_window, state), ("the state", window, no_state)]
order = torch.randperm(2, generator=torch.Generator().manual_seed(5)).tolist()
suspects = {name: lost[i] for name, i in zip("AB", order, strict=True)}


# %%
def error_by_token(window, state):
    """How far each token after the cut is from the right one, relative to a token's usual size."""
    found, _, _ = layer(*(part[:, cut:] for part in text), window, state)
    return (found - whole[:, cut:]).square().mean(dim=(0, 2, 3)).sqrt() / whole.square().mean().sqrt()


errors = {f"suspect {name}": error_by_token(*carried) for name, (_, *carried) in suspects.items()}

# %%
plots.show(plots.errors_after_a_cut(errors, half_life, width=len(taps)))

# %%
predict("suspects", "Who forgot what?", ["A forgot the window, B the state", "A forgot the state, B the window"])

# %%
for name, (what, *_) in suspects.items():
    error = errors[f"suspect {name}"]
    print(f"suspect {name} forgot {what}: error", *(f"{amount:.3f}" for amount in error[:4]), end=" ... ")
    print(f"and from token 3 to 35 it falls by {error[3] / error[35]:.1f}")
outcome("suspects", "A forgot {}, B {}".format(*(what for what, *_ in suspects.values())))

# %% [markdown] tags=["answer"]
# A forgotten window hurts the first three tokens at once. But those three were also written into the state, wrongly, and
# that part fades with the half-life: 32 tokens are two half-lives, so it falls by a factor of about 4. A forgotten state hurts from
# the first token with all that was in it, and fades at the same rate. So look at the first tokens: is there a cliff after
# three? And if an error does not fade at all, it is neither.

# %% [markdown]
# ## Recap
#
# - SSD is four steps: attend inside, leave behind, pass on, read what came in. All but the third are large matrix
#   products, done for all chunks at once.
# - Its cost grows as l. It does more arithmetic than the loop and was much faster here, for it pays the price of an
#   operation once for many tokens.
# - Filling up with x = 0 and log decay 0 lets time stand still, so any length will do.
# - A text may be cut anywhere if window and state are carried over. The course of an error tells which was not.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("chunk", "SSD", "window")

# %% [markdown]
# ## On your own
#
# Step 3 is a loop over chunks, and nothing forbids chunks of chunks: pass the states on in chunks, too. Write it, for
# any depth. Count what it takes in multiply-adds and in steps that must wait for one another, then measure: from which
# length on does a second level pay here?
#
# ## To read on
#
# - T. Dao and A. Gu, [the algorithm](https://tridao.me/blog/2024/mamba2-part3-algorithm/), the third part of their
#   introduction to Mamba-2, with the same four steps in colours.
# - Section 6 of [their paper](https://arxiv.org/abs/2405.21060), which counts the cost of each.
#
# **Before**: [04, Duality](04_duality.ipynb). **Next**: [06, The whole block](06_the_whole_block.ipynb) puts your `chunked`
# into a Mamba-2 layer.
