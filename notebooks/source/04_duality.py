# %% [markdown]
# # A loop over states is attention with a mask that fades
#
# After this notebook you can
#
# 1. write the recurrence as one matrix M, and say what each entry of it means;
# 2. show that little passes from one part of a text to the next: every block of M below the diagonal has a rank of at
#    most n, the size of the state;
# 3. tell a sound way to sum decays from published ones that lose digits, the past, or everything.
#
# **You need** notebook 03: a recurrence whose decay, B and C belong to each token. A little linear algebra: products of
# matrices.
# **Time**: 110 minutes for you, 85 of them for the exercises; under a minute for the machine.

# %% [markdown]
# ## Six words, one state
#
# Our text has six words. The state has n = 2 columns, one for *things* and one for *events*. B says in which column a
# word is written: *snow* is a thing, *fell* and *melted* are events, *it* is half a thing. C says which column a word
# reads: *fell*, *it* and *melted* want to know of a thing, *then* of an event. The full stop keeps half of what was
# there, every other word nine tenths.

# %%
import torch

words = "snow fell . then it melted".split()
decay = torch.tensor([0.9, 0.9, 0.5, 0.9, 0.9, 0.9])
B = torch.tensor([[1, 0], [0, 1], [0, 0], [0, 0], [0.5, 0], [0, 1]])
C = torch.tensor([[0, 0], [1, 0], [0, 0], [0, 1], [1, 0], [1.0, 0]])


# %% [markdown]
# This is the recurrence of notebook 03 for a single head. The decay comes as its logarithm, as in the model.

# %%
def recurrence(x, log_decay, B, C):
    """x (l,p), log_decay (l,), B, C (l,n) -> y (l,p): one word after another."""
    state, ys = x.new_zeros(x.shape[1], B.shape[1]), []
    for t in range(len(x)):
        state = log_decay[t].exp() * state + x[t].outer(B[t])
        ys.append(state @ C[t])
    return torch.stack(ys)


# %% [markdown]
# And what does a word write? To be able to tell words apart, we give each a channel of its own: word s writes a 1 in
# channel s. Then channel s of the output at word t says how much of word s is in it.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "it",
    "*it* wants to know of a thing. How much of *snow* does it get, and how much of *fell*?",
    unit="of snow",
)

# %%
log_decay = decay.log()
x = torch.eye(len(words))
y = recurrence(x, log_decay, B, C)
print({word: round(amount.item(), 4) for word, amount in zip(words, y[4], strict=True)})
outcome("it", y[4, 0].item())

# %% [markdown] tags=["answer"]
# *fell* was written in the other column, so *it* gets nothing of it. *snow* has faded at each word since: at *fell*, at
# the full stop, at *then*, and at *it*. Its own decay does not count, for what a word writes begins to fade at the next
# word.

# %%
print(f"{0.9 * 0.5 * 0.9 * 0.9:.4f}")

# %% [markdown]
# Here is the whole of it, a row for each word that reads.

# %%
from mamba2_lab import plots

plots.show(plots.word_tables(words, {"what the loop gives": y}), "loop")

# %% [markdown]
# ## The same table without a loop
#
# Follow a word through the loop. What s writes is $x_s B_s^\top$. On the way to t it is multiplied by each decay after
# s, and what t reads of it is the part along $C_t$. With $a$ for the log decay,
#
# $$y_t = \sum_{s \le t} \underbrace{\exp(a_{s+1} + \dots + a_t)}_{L_{ts}\text{, the fade}}\;
# \underbrace{(C_t \cdot B_s)}_{\text{the match}}\; x_s$$
#
# or, for all t at once, $y = M x$ with $M = L \circ (C B^\top)$, where $\circ$ multiplies entry by entry. L is called
# the *decay mask*. Its logarithm holds sums of log decays over segments of the text, so it is called a *segment sum*,
# `segsum`. We build it first. Shapes begin with `...` because a model has many heads, and one function should do for all.
#
# ### Exercise: segment sums ★★
#
# ★★ a mask before the sum, and one after it · importance 3 of 3 · 15 minutes · needed for `decay_mask`, and notebook 05

# %%
from mamba2_lab.course import exercise


@exercise("segsum")
def segsum(log_decay):
    """(..., l) -> (..., l, l): summed log decay from source s to target t; -inf above the diagonal."""
    ...


# %%
print(segsum(torch.tensor([-1.0, -2.0, -4.0])))


# %% [markdown]
# A -inf stands where the target comes before the source: exp(-inf) is 0, so nobody sees the future.
#
# ### Exercise: the decay mask ★
#
# ★ one line · importance 3 of 3 · 5 minutes · needed for `attention_matrix`

# %%
@exercise("decay_mask")
def decay_mask(log_decay):
    """(..., l) -> (..., l, l): what is left at target t of what was written at source s; 0 above the diagonal."""
    ...


# %% [markdown]
# ### Exercise: the whole matrix ★
#
# ★ one line, with two products of two kinds · importance 3 of 3 · 5 minutes · needed for `quadratic`, and all of
# notebook 05

# %%
@exercise("attention_matrix")
def attention_matrix(log_decay, B, C):
    """log_decay (..., l), B, C (..., l, n) -> M (..., l, l): how much of source s is in the output at target t."""
    ...


# %%
M = attention_matrix(log_decay, B, C)
plots.show(
    plots.word_tables(words, {"fade: L": decay_mask(log_decay), "match: C Bᵀ": C @ B.mT, "M": M}, joined_by="∘="),
    "product",
)

# %% [markdown]
# Is it the table of the loop, for other inputs too?

# %%
values = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
print(f"x as above: they differ by {(M @ x - y).abs().max():.1e}")
print(f"x at random: they differ by {(M @ values - recurrence(values, log_decay, B, C)).abs().max():.1e}")

# %% [markdown]
# ## It is attention, and the mask fades
#
# An *attention* layer of a transformer makes each output as a weighted sum over earlier tokens, too. The parts
# correspond:
#
# | | transformer | here |
# |---|---|---|
# | what a token asks | query Q | C |
# | what it is found by | key K | B |
# | what it hands over | value V | x |
# | the mask | 1 on and below the diagonal | L, which fades |
# | each row | goes through a softmax | stays as it is |
#
# That one map is both a recurrence over states and a masked attention over tokens is called *duality* (Dao & Gu 2024,
# [arXiv:2405.21060](https://arxiv.org/abs/2405.21060), sections 3 to 5).

# %% [markdown]
# <details><summary>Another way to see it: where the brackets stand</summary>
#
# Take the last word alone, and let nothing fade. Its output is $C\,B^\top x$, a product of three, and one may begin at
# either end:
#
# $$(C\,B^\top)\,x \qquad\qquad C\,(B^\top x)$$
#
# On the left it is matched with every word first, and the matches weigh the words: attention, with a row as long as the
# text. On the right all words are first added up into a table of n rows, and it reads that: a state, whose size does not
# depend on the text. The numbers are the same, for brackets do not change a product. The next cell tries it.
#
# With a fade, each word is scaled by its own before it is added up. And since every word has a different past, the right
# way has to be gone word by word. That is the recurrence.
#
# </details>

# %%
last = C[-1]  # what *melted* asks for
print("match first:", (last @ B.mT) @ x, " add up first:", last @ (B.mT @ x), sep="\n")

# %% [markdown]
# Now two other masks: one where nothing fades, and one where the full stop wipes the state. A log decay of -1e4 does that:
# exp(-1e4) is exactly 0 in float32, and unlike -inf it can be added up without ever giving a NaN.

# %%
predict(
    "wiped mask",
    "What does L look like if the full stop wipes the state?",
    ["two triangles", "all zeros", "ones on the diagonal alone"],
)

# %%
wiped = log_decay.clone()
wiped[2] = -1e4
masks = {"nothing fades": 0 * log_decay, "as above": log_decay, "the full stop wipes": wiped}
plots.show(plots.word_tables(words, {title: decay_mask(logs) for title, logs in masks.items()}), "masks")
outcome("wiped mask")

# %% [markdown] tags=["answer"]
# Without fading this is *linear attention*, attention without a softmax (Katharopoulos and others 2020,
# [arXiv:2006.16236](https://arxiv.org/abs/2006.16236)). With a wipe between them, many documents can share one row in
# training: that is what `document_ids` does in this package.

# %% [markdown]
# ## Little passes below the diagonal
#
# Cut the text after the full stop. The block M[3:, :3] says what the second sentence knows of the first. Its *rank* says
# how much that can be: how many outer products of two vectors it takes to make the block as their sum.

# %%
print(M[3:, :3])

# %%
predict("rank", "The block is 3 by 3. What is its rank?", unit="")

# %%
print(torch.linalg.matrix_rank(M[3:, :3]).item())
outcome("rank", torch.linalg.matrix_rank(M[3:, :3]).item())


# %% [markdown] tags=["answer"]
# Two: all that the second sentence knows of the first went through the state at the cut, and that has n = 2 columns.
# So the block must be a product of something with n columns and something with n rows. Find the two: the algorithm of
# notebook 05 is made of them.

# %% [markdown]
# ### Exercise: two thin factors ★★★
#
# ★★★ a fade to split at the right place · importance 3 of 3 · 25 minutes · needed for the idea of notebook 05

# %%
@exercise("factor_below")
def factor_below(log_decay, B, C, cut):
    """log_decay (..., l), B, C (..., l, n) -> left (..., l-cut, n), right (..., n, cut).

    Their product left @ right is M[cut:, :cut].
    """
    ...


# %%
left, right = factor_below(log_decay, B, C, cut=3)
print(f"left: what then, it and melted read of the state at the cut\n{left}")
print(f"right: what snow, fell and the full stop left in it\n{right}")


# %% [markdown]
# How does one measure the rank of a block that rounding has touched? By its *singular values*. They say by how much a
# matrix stretches in each of its directions, and a matrix of rank r has r of them above 0. Rounding turns a 0 into
# something tiny, so we count those that are not tiny.
#
# ### Exercise: a rank that survives rounding ★★
#
# ★★ one call and one comparison · importance 1 of 3 · 10 minutes · needed for the figure of ranks

# %%
@exercise("numerical_rank")
def numerical_rank(matrix, tolerance):
    """(..., rows, columns) -> (...): how many singular values exceed tolerance times the largest of their matrix."""
    ...


# %% [markdown]
# Six words are few. Take 48 tokens at random and a state with n = 4 columns, and measure the block at every cut. Any
# block below the diagonal lies within one of these. Beside it stands a transformer's matrix, made of the same B and C.

# %%
generator, l, n = torch.Generator().manual_seed(4), 48, 4
log_decay_text = -0.3 * torch.rand(l, generator=generator, dtype=torch.float64)
B_text, C_text = torch.randn(2, l, n, generator=generator, dtype=torch.float64)

# %%
future = torch.ones(l, l, dtype=torch.bool).triu(1)
matrices = {
    "recurrence: M": attention_matrix(log_decay_text, B_text, C_text),
    "transformer: softmax(C Bᵀ)": (C_text @ B_text.mT).masked_fill(future, -torch.inf).softmax(dim=-1),
}

# %%
predict(
    "ranks",
    "What is the largest rank below the diagonal for the recurrence? And for the transformer?",
    unit="for the recurrence",
)

# %%
ranks = {
    name: [int(numerical_rank(matrix[cut:, :cut], 1e-10)) for cut in range(1, l)] for name, matrix in matrices.items()
}
for name, found in ranks.items():
    print(f"{name:<27} rank below the diagonal: up to {max(found)}")
outcome("ranks", max(ranks["recurrence: M"]))

# %%
middle = {name: torch.linalg.svdvals(matrix[l // 2 :, : l // 2]) for name, matrix in matrices.items()}
plots.show(plots.below_the_diagonal(ranks, middle, n))


# %% [markdown]
# A lower-triangular matrix like this is called *semiseparable*, of order n. That is the price of a state of fixed size,
# and the reason why M never has to be written out: notebook 05 replaces all of it that lies far below the diagonal by
# thin factors.

# %% [markdown]
# ## Many heads, and a state to start from
#
# A model has a batch of texts and many heads, and it goes on from a state. The package keeps tokens before heads:
# x is (b,l,h,p), with b texts, l tokens, h heads and p channels in each. Write the recurrence so, with your
# `attention_matrix`. What was in the state before the first token fades like all else, and is read like all else.
#
# ### Exercise: the recurrence, quadratic ★★★
#
# ★★★ axes to exchange, and a state that comes in and goes out · importance 2 of 3 · 25 minutes · needed for the
# comparison of five ways

# %%
@exercise("quadratic")
def quadratic(x, log_decay, B, C, initial_state):
    """The recurrence by attention_matrix, from a state to a state.

    x (b,l,h,p), log_decay (b,l,h), B, C (b,l,h,n), initial_state (b,h,p,n) -> y (b,l,h,p), final_state (b,h,p,n)
    """
    ...


# %% [markdown]
# The package has the same under the same name, and the loop as `sequential`. Do the three agree?

# %%
from mamba2_lab import scan

generator = torch.Generator().manual_seed(4)
x_many, B_many, C_many = (torch.randn(2, 100, 3, size, generator=generator) for size in (8, 16, 16))
before = torch.randn(2, 3, 8, 16, generator=generator)
arguments = x_many, -torch.rand(2, 100, 3, generator=generator), B_many, C_many, before


# %%
def relative_error(found, right):
    return ((found - right).norm() / right.norm()).item()


right_y, right_state = scan.sequential(*(part.double() for part in arguments))
for name, way in {"yours": quadratic, "package": scan.quadratic, "loop": scan.sequential}.items():
    found_y, state = way(*arguments)
    print(f"{name:>8}: y {relative_error(found_y, right_y):.0e}, state {relative_error(state, right_state):.0e}")


# %% [markdown]
# All are in float32, and compared with the loop in float64. A rounding of float32 is about 6e-8 of a number, so this is
# as good as it gets.

# %% [markdown]
# ## Segment sums that lose their digits
#
# There is a shorter way to a segment sum: add the log decays up from the start once, and subtract.

# %%
def segsum_by_difference(log_decay):
    total = log_decay.cumsum(dim=-1)
    sums = total[..., :, None] - total[..., None, :]
    return sums.masked_fill(torch.ones_like(sums).triu(1) == 1, -torch.inf)


# %%
predict(
    "difference of sums",
    "On paper the two are equal. The log decay from *then* to *it* is -0.105361. What does `segsum_by_difference` "
    "give after the wipe, where the totals are around -10000?",
    unit="",
)

# %%
for name, function in {"segsum": segsum, "by difference": segsum_by_difference}.items():
    print(f"{name:>13}: from then to it {function(wiped)[4, 3]:.6f}, from snow to it {function(log_decay)[4, 0]:.6f}")
outcome("difference of sums", f"{segsum_by_difference(wiped)[4, 3]:.6f}")


# %% [markdown] tags=["answer"]
# With seven digits, a total near -10000 is known to about 0.001, and so is the difference of two of them. The totals of a
# long text grow large without any wipe. Official code keeps both versions side by side, called `segsum_unstable` and `segsum`
# (`ssd_minimal.py` in [state-spaces/mamba](https://github.com/state-spaces/mamba)), to show this.

# %% [markdown]
# ## Break it: two shortcuts that pass their tests
#
# Why build L at all? The fade is exp(total_t - total_s) = exp(total_t) / exp(total_s). So scale each input up, add, and
# scale down: a `cumsum` and no l x l matrix. A port of Mamba-2 to Macs does that, over 256 tokens at a time
# (`mamba2_chunk_scan_mps.py` in [vvr3ddy/mamba-ssm-macos](https://github.com/vvr3ddy/mamba-ssm-macos)).

# %%
def scaled_scan(x, log_decay, B, C):
    """x (b,l,h,p), log_decay (b,l,h), B, C (b,l,h,n) -> y: up by exp(-cumsum), down by exp(cumsum)."""
    total = log_decay.cumsum(dim=1)[..., None, None]
    written = x[..., None] * B[..., None, :]  # (b,l,h,p,n)
    states = total.exp() * ((-total).exp() * written).cumsum(dim=1)
    return (states * C[..., None, :]).sum(dim=-1)


# %% [markdown]
# The other shortcut counts from the end: scale each input by the decays still to come, add, and divide by them. The
# divisor may be 0, so something small is added to it. It comes from a small Mamba, and others have copied it
# (mode `cumsum` of `scans.py` in [PeaBrane/mamba-tiny](https://github.com/PeaBrane/mamba-tiny)).

# %%
def divided_scan(x, log_decay, B, C):
    """As above: times the decays still to come, divided by the decays still to come."""
    to_come = torch.nn.functional.pad(log_decay[:, 1:], (0, 0, 0, 1)).flip(1).cumsum(dim=1).flip(1)
    left = to_come.exp()[..., None, None]
    written = x[..., None] * B[..., None, :]
    states = (left * written).cumsum(dim=1) / (left + 1e-12)
    return (states * C[..., None, :]).sum(dim=-1)


# %% [markdown]
# We give them what a new Mamba-2 layer gives its scan: dt is drawn for each head, evenly on a logarithmic scale from
# 0.001 to 0.1, and -A evenly from 1 to 16. The log decay of a token is dt A.

# %%
import math
import os

longest = 512 if os.environ.get("MAMBA2_LAB_FAST") else 2048
generator, h = torch.Generator().manual_seed(4), 8
dt = torch.empty(h).uniform_(math.log(0.001), math.log(0.1), generator=generator).exp()
A = -torch.empty(h).uniform_(1, 16, generator=generator)
text = [torch.randn(1, longest, h, size, generator=generator) for size in (8, 16, 16)]


# %%
def scan_inputs(l, dt):
    """The first l tokens: x dt (1,l,h,p), dt A (1,l,h), B and C (1,l,h,n)."""
    x, B, C = (part[:, :l] for part in text)
    return x * dt[:, None], (dt * A).expand(1, l, h), B, C


# %% [markdown]
# First a test such as a port might have: 16 tokens.

# %%
right, _ = scan.sequential(*(part.double() for part in scan_inputs(16, dt)))
for shortcut in (scaled_scan, divided_scan):
    print(f"{shortcut.__name__}: {relative_error(shortcut(*scan_inputs(16, dt)), right):.0e}")

# %% [markdown]
# Both pass. Now the whole text.

# %%
predict(
    "overflow",
    "The largest float32 is about exp(88.7). After how many tokens will exp(-cumsum) pass it, in the head that "
    "forgets fastest?",
    unit="tokens",
)

# %%
fastest = -(dt * A).min().item()
broken = ~scaled_scan(*scan_inputs(longest, dt))[0].isfinite().all(dim=-1)  # (l,h)
first = int(broken.any(dim=-1).nonzero()[0])
print(f"fastest head: {fastest:.2f} per token; exp(-cumsum) should overflow after {88.7 / fastest:.0f} tokens")
print(f"first NaN or inf at token {first}; at the end in {broken[-1].sum()} of {h} heads")
outcome("overflow", first)

# %% [markdown] tags=["answer"]
# Terms of both signs grew past float32: infinity minus infinity is NaN, and NaN stays. The second shortcut has no NaN.

# %%
predict(
    "the beginning",
    "The second shortcut divides by the decays still to come. What does it give at the beginning of a long text, "
    "where they multiply to something far below 1e-12?",
    ["the right numbers", "nearly 0", "NaN"],
)

# %%
right, _ = scan.sequential(*(part.double() for part in scan_inputs(longest, dt)))
found = divided_scan(*scan_inputs(longest, dt))
for name, part in {"first half": slice(0, longest // 2), "last 8 tokens": slice(longest - 8, None)}.items():
    print(f"{name:>13}: relative error {relative_error(found[:, part], right[:, part]):.0e}")
off = relative_error(found[:, : longest // 2], right[:, : longest // 2])
outcome("the beginning", "NaN" if math.isnan(off) else "the right numbers" if off < 0.1 else "nearly 0")

# %% [markdown] tags=["answer"]
# The beginning comes out as nearly 0: all of it is lost, and nothing complains. Only the last tokens are right.

# %% [markdown]
# Training changes dt. Let us see where the heads of the model of notebook 00 ended up; what they read moves dt further.

# %%
from mamba2_lab import Mamba2LM

layers = Mamba2LM.from_pretrained("small").layers
resting = torch.cat([torch.nn.functional.softplus(layer.mixer.dt_bias) for layer in layers]).detach()
print(f"new: {dt.min():.4f} to {dt.max():.4f}; in `small`: {resting.min():.4f} to {resting.max():.4f}")


# %% [markdown]
# So we measure twice: with dt as drawn, and with ten times that. Five ways, every length, against the loop in float64.

# %%
def quadratic_by_difference(x, log_decay, B, C):
    x, log_decay, B, C = (part.transpose(1, 2) for part in (x, log_decay, B, C))
    return (segsum_by_difference(log_decay).exp() * (C @ B.mT) @ x).transpose(1, 2)


# %%
ways = {
    "up and down by exp(cumsum)": scaled_scan,
    "division by decays to come": divided_scan,
    "quadratic, segsum by difference": quadratic_by_difference,
    "quadratic, segsum": lambda *inputs: quadratic(*inputs, torch.zeros(1, h, 8, 16))[0],
    "chunked (notebook 05)": lambda *inputs: scan.chunked(*inputs)[0],
}


# %%
def errors(dt, lengths):
    by_way = {way: [] for way in ways}
    for l in lengths:
        right, _ = scan.sequential(*(part.double() for part in scan_inputs(l, dt)))
        for way, function in ways.items():
            by_way[way].append(relative_error(function(*scan_inputs(l, dt)), right))
    return by_way


# %%
lengths = [2**power for power in range(4, 12) if 2**power <= longest]
measured = {"dt as drawn for a new layer": errors(dt, lengths), "dt ten times that": errors(10 * dt, lengths)}

# %%
plots.show(plots.error_by_length(lengths, measured))

# %%
for title, by_way in measured.items():
    print(f"{title}: relative error at 16, 128 and {longest} tokens")
    for way, values in by_way.items():
        print(f"  {way:<32}{values[0]:8.0e}{values[3]:8.0e}{values[-1]:8.0e}")

# %% [markdown]
# The rule that saves us is short. **Add up log decays over a segment, and only then take the exponential: it is never
# above 1.** Then nothing is scaled up, and nothing is divided by a decay.

# %% [markdown]
# ## Recap
#
# - The recurrence is a matrix, M = L ∘ (C Bᵀ): attention without a softmax, under a mask that fades.
# - A block of M below the diagonal has a rank of at most n. It is made of what the tokens after a cut read, and of what
#   those before it left behind.
# - Segment sums have to be summed segment by segment. Shortcuts that are equal on paper lose digits, the past, or
#   everything, and a test of 16 tokens does not see it.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("decay mask", "segsum", "attention", "duality", "rank", "semiseparable")

# %% [markdown]
# ## On your own
#
# Write a story of your own, of ten words or so, with three columns: things, events and places. Choose B, C and the
# decays by hand so that each word reads what you would want it to, and look at M. Which word cannot be served by
# three columns, and what would a fourth be for? What is the rank below the diagonal at each cut, and why is it often less
# than three?
#
# ## To read on
#
# - T. Dao and A. Gu, [the theory](https://tridao.me/blog/2024/mamba2-part2-theory/), the second part of their
#   introduction to Mamba-2: duality in a few pages.
# - A. Katharopoulos and others, [Transformers are RNNs](https://arxiv.org/abs/2006.16236): linear attention, and the
#   brackets moved.
#
# **Before**: [03, Choosing what to remember](03_choosing_what_to_remember.ipynb). **Next**:
# [05, Chunks](05_chunks.ipynb) makes this fast: attention inside chunks, a recurrence between them.
