# %% [markdown]
# # Eight small functions make a Mamba-2 block
#
# After this notebook you can
#
# 1. write every piece of the block, and say which shapes go in and come out;
# 2. put the pieces together, and get the numbers of this package, of transformers, and of a trained model;
# 3. tell from the shape of an error which piece is broken.
#
# **You need** notebook 01 (step sizes and rates), notebook 03 (a memory that looks at its input) and notebook 05 (the
# scan in chunks).
# **Time**: 110 minutes for you, 75 of them for the exercises; under a minute for the machine.

# %% [markdown]
# ## Twelve words, one block
#
# In notebook 05, x, B, C and the decays were given. A model makes them itself: each token comes as a vector u of
# d_model numbers, and everything else is made from it. The part that makes all this, scans, and gives back a vector of the
# same size is called the *mixer*, because in it tokens exchange information. (Dao & Gu 2024,
# [arXiv:2405.21060](https://arxiv.org/abs/2405.21060), section 7.1, call it the Mamba-2 block, and so do we in this
# notebook. The next one puts a norm before it and a sum after it.)
#
# The text is once more the story of notebook 05. Each of its words gets a vector, drawn at random; a model learns its own.

# %%
import torch

torch.set_grad_enabled(False)  # nothing is trained here
words = "snow fell . then it melted . the grass grew green again".split()
generator = torch.Generator().manual_seed(21)
vectors = {word: 2 * torch.randn(16, generator=generator) for word in dict.fromkeys(words)}
u = torch.stack([vectors[word] for word in words])[None]  # (b,l,d_model)
print(tuple(u.shape))

# %% [markdown]
# And here is a block of the package, in its official form but small: h = 8 heads of p = 4 channels, d_inner = 32
# channels in all, and B and C of n = 8 numbers.

# %%
from mamba2_lab import Mamba2

torch.manual_seed(21)
sizes = {"d_model": 16, "expand": 2, "headdim": 4, "d_state": 8, "ngroups": 2, "chunk_size": 4}
block = Mamba2(**sizes, dt_min=0.02, dt_max=0.5, dt_limit=(0.0, 0.3))
config = block.config
print(f"d_inner {config.d_inner}, nheads {config.nheads}, ngroups {config.ngroups}, d_state {config.d_state}")

# %% [markdown]
# Some weights of a fresh block are all 1, and whoever forgets to multiply by 1 is never found out. So we move every
# weight a little: good practice before any comparison.

# %%
for weight in block.parameters():
    weight += 0.3 * torch.randn(weight.shape, generator=generator)
weights = block.state_dict()
print(list(weights))

# %% [markdown]
# This is the way through it. Each box is a function. Two you have written already, `discretise` in notebook 01 and the
# scan in notebook 05; `in_proj` and `out_proj` are matrices. The others you write here.

# %%
from mamba2_lab import plots

plots.show(plots.block_diagram(config, b=1, l=12))

# %% [markdown]
# ## One matrix makes everything a token needs
#
# The first matrix, `in_proj`, makes for each token: z, the *gate*, as wide as d_inner; xBC, as wide as x, B and C
# together; and a number for each head, raw_dt, from which its time dt will be made.

# %%
from mamba2_lab.course import outcome, predict

predict("rows of in_proj", "How many rows does `in_proj` have?", unit="rows")

# %%
print("x, B and C together:", config.conv_dim, "channels")
print("rows of in_proj:", len(weights["in_proj.weight"]))
outcome("rows of in_proj", len(weights["in_proj.weight"]))

# %% [markdown] tags=["answer"]
# x takes d_inner = 32. B and C take n = 8 each, and there are two of each, because heads come in *groups* that share
# one B and one C: 32 + 2 · 8 + 2 · 8 = 64. With z and raw_dt, 32 + 64 + 8 = 104.
#
# ### Exercise: cut the projection in three ★
#
# ★ one call · importance 3 of 3 · 5 minutes · needed for `mamba2_block`

# %%
from mamba2_lab.course import exercise


@exercise("split_projection")
def split_projection(projected, d_inner, nheads):
    """(..., d_inner + conv_dim + nheads) -> z (..., d_inner), xBC (..., conv_dim), raw_dt (..., nheads)."""
    ...


# %%
projected = u @ weights["in_proj.weight"].mT
z, xbc, raw_dt = split_projection(projected, config.d_inner, config.nheads)
print(tuple(z.shape), tuple(xbc.shape), tuple(raw_dt.shape))

# %% [markdown]
# ## Each channel looks back three tokens
#
# Up to here each word knows only itself. Now xBC goes through a *causal convolution*: each channel becomes a weighted
# sum of its own last four values, the token's own included. How many they are is a size of the block, `d_conv`. *Causal*
# means that none of them is later than the token; that each channel keeps to itself is called *depthwise*. Then comes an
# activation, *silu*, v times sigmoid(v): large numbers pass, very negative ones are silenced.

# %%
import torch.nn.functional as F

print(F.silu(torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0])))


# %% [markdown]
# What stands before the first token is handed in as the *window* of d_conv - 1 inputs: zeros at the beginning of a text,
# and where a text goes on, its last three inputs (notebook 05 showed what happens if they are forgotten).
#
# ### Exercise: a causal convolution ★★
#
# ★★ one call of PyTorch, with axes to exchange · importance 3 of 3 · 15 minutes · needed for `mamba2_block`, and every
# look at padding and cuts

# %%
@exercise("causal_conv")
def causal_conv(x, weight, bias, window):
    """Each channel's weighted sum of its last `width` values, then silu.

    x (b,l,channels), weight (channels,1,width), bias (channels,) or None, window (b,width-1,channels) the inputs
    before x -> (b,l,channels)
    """
    ...


# %%
no_window = torch.zeros(1, config.d_conv - 1, config.conv_dim)
convolved = causal_conv(xbc, weights["conv1d.weight"], weights["conv1d.bias"], no_window)
print(tuple(convolved.shape))

# %% [markdown]
# Let us exchange one word: *it*, number 4 when counted from 0, becomes *snow*.

# %%
predict("exchanged word", "At how many words does the convolution now give something else?", unit="words")

# %%
other = u.clone()
other[0, 4] = vectors["snow"]
_, other_xbc, _ = split_projection(other @ weights["in_proj.weight"].mT, config.d_inner, config.nheads)
other_convolved = causal_conv(other_xbc, weights["conv1d.weight"], weights["conv1d.bias"], no_window)
differs = (other_convolved - convolved).abs().amax(dim=(0, 2)) > 1e-6
print([f"{t} {word}" for t, word in enumerate(words) if differs[t]])
outcome("exchanged word", int(differs.sum()))


# %% [markdown] tags=["answer"]
# At the word itself and the three after it, never before. Keep this test in mind: exchange a word, and see what moves.

# %% [markdown]
# ## How long does a word last?
#
# The step size dt is the time that passes at a token (notebook 01). It must be positive, but a matrix gives numbers of
# either sign. So a bias is added to raw_dt, one for each head, and the sum goes through softplus (notebook 03). At the
# end it is held within `dt_limit`.
#
# ### Exercise: the step size ★
#
# ★ three operations, in the right order · importance 3 of 3 · 5 minutes · needed for `mamba2_block`

# %%
@exercise("step_size")
def step_size(raw_dt, dt_bias, dt_limit):
    """raw_dt (..., h), dt_bias (h,), dt_limit a pair (low, high) -> the step size dt (..., h), above 0."""
    ...


# %%
dt = step_size(raw_dt, weights["dt_bias"], config.dt_limit)  # (b,l,h)
print(f"from {dt.min():.1e} to {dt.max():.1e}")

# %%
predict(
    "at rest",
    "A word says nothing to a head, so that its raw_dt is 0. What sets its step size?",
    ["the limit", "dt_bias", "A", "nothing: it is 0"],
)

# %%
at_rest = step_size(torch.zeros(config.nheads), weights["dt_bias"], config.dt_limit)
plots.show(plots.step_sizes(words, dt[0], at_rest, limit=config.dt_limit[1]))
outcome("at rest")

# %% [markdown]
# ## What you have already: discretise, and scan
#
# What came out of the convolution is cut into x, B and C, and these into heads and groups.

# %%
per_group = config.ngroups * config.d_state
x, B, C = convolved.split([config.d_inner, per_group, per_group], dim=-1)
x = x.unflatten(-1, (config.nheads, config.headdim))  # (b,l,h,p)
B, C = (part.unflatten(-1, (config.ngroups, config.d_state)) for part in (B, C))  # (b,l,g,n)

# %% [markdown]
# From notebook 01 comes `discretise`: `answer` gives the function that you wrote there, or the reference if you have
# not. The weights hold `A_log`, and A = -exp(A_log), so that A is negative whatever is learned. The axis that `None` adds
# is for the channels of a head: they share dt and A.

# %%
from mamba2_lab.course import answer

discretise = answer("discretise")

# %%
A = -torch.exp(weights["A_log"])  # (h,)
x_dt, log_decay = discretise(x, dt[..., None], A[:, None])
log_decay = log_decay[..., 0]  # (b,l,h)
print(f"decays from {log_decay.exp().min():.3f} to {log_decay.exp().max():.3f}")

# %% [markdown]
# From notebook 05 comes `chunked`, yours if you have written it. (A test in this repository joins the reference answers
# of notebooks 01 to 06 and nothing else, and gets the package's output.)

# %%
chunked = answer("chunked")
empty = torch.zeros(1, config.nheads, config.headdim, config.d_state)
y, state = chunked(x_dt, log_decay, B, C, empty, 4)
print("y:", tuple(y.shape), " state:", tuple(state.shape))


# %% [markdown]
# ## A way around the state
#
# What a head reads of its state is not all that it gives. Its own input also goes straight through, scaled by one
# learned number for each head, D: the *skip connection*. After it the heads are laid side by side again.
#
# ### Exercise: the skip connection ★
#
# ★ one line · importance 2 of 3 · 5 minutes · needed for `mamba2_block`

# %%
@exercise("skip")
def skip(y, x, D):
    """y, x (b,l,h,p), D (h,) -> (b,l,d_inner): y + D x, the heads side by side."""
    ...


# %%
skipped = skip(y, x, weights["D"])  # (b,l,d_inner)
from_state, around_it = y.norm(), (weights["D"][:, None] * x).norm()
print(f"size of what is read from the state: {from_state:.1f}, of what goes around it: {around_it:.1f}")


# %% [markdown]
# ## A gate, and a norm for each group
#
# Now z comes back, the gate. silu(z) multiplies each channel: the token says which of the things that were read may
# pass. The product goes through an *RMSNorm*, which divides it by the root of its mean square and scales each channel by a
# learned weight. The paper added it because large models became unstable without it (section 7.1).
#
# With ngroups groups, each run of d_inner / ngroups channels is normalised by itself. Then groups can live on different
# devices that need not ask each other ([part 4](https://tridao.me/blog/2024/mamba2-part4-systems/) of the authors' own
# introduction). And there are models that normalise before they gate: `norm_before_gate`.
#
# <details><summary>Another way to see the gate: a reader with a question</summary>
#
# Somebody looks something up for you and reads out everything on the page. You know what you came for, so you listen to
# some of it and let the rest go by. What is read out is y, which comes from the state. What you came for is z, which is
# made from the token at hand alone. The gate multiplies the two, channel by channel.
#
# Without the gate, the same thing read would count alike at every token. With it, it counts at one token and not at
# another, and the state is not touched: nothing is erased, and the next token may ask for what this one let go by.
#
# </details>
#
# ### Exercise: gate, and norm ★★
#
# ★★ groups, and an order that depends on a flag · importance 3 of 3 · 15 minutes · needed for `mamba2_block`, and for
# two animals of the zoo

# %%
@exercise("gated_rms_norm")
def gated_rms_norm(y, z, weight, ngroups, norm_before_gate, eps):
    """y, z (..., d_inner), weight (d_inner,) -> (..., d_inner).

    Each of ngroups runs of channels is divided by its own root mean square, sqrt(mean square + eps), and scaled by
    weight. The gate silu(z) comes before that, or after it if norm_before_gate.
    """
    ...


# %%
predict(
    "ten times as loud",
    "Suppose the scan spoke ten times as loud. What would the norm make of it?",
    ["nearly the same", "ten times as much", "a tenth"],
)

# %%
norm = weights["norm.weight"], config.ngroups, config.norm_before_gate, config.norm_eps
normed, louder = gated_rms_norm(skipped, z, *norm), gated_rms_norm(10 * skipped, z, *norm)
print(f"size {normed.norm():.1f}, and ten times as loud {louder.norm():.1f}")
print(f"largest difference {(louder - normed).abs().max():.0e}")
times = louder.norm() / normed.norm()
outcome("ten times as loud", "a tenth" if times < 0.5 else "nearly the same" if times < 2 else "ten times as much")


# %% [markdown] tags=["answer"]
# The same, but for the little that eps adds. How loud a group speaks is lost here; what it says stays. Remember that for
# the zoo below.

# %% [markdown]
# ## Put it together
#
# The last matrix, `out_proj`, brings the channels back to d_model. Now write the block as one function. `weights` holds
# tensors under the names printed above; some models also have biases for the two matrices, `in_proj.bias` and
# `out_proj.bias`.
#
# ### Exercise: the whole block ★★★
#
# ★★★ nothing new, but eight functions to join · importance 3 of 3 · 30 minutes · needed for the trained model at the
# end of this notebook

# %%
@exercise("mamba2_block")
def mamba2_block(u, weights, config, scan):
    """u (b,l,d_model) -> (b,l,d_model): the whole mixer, on a text from its beginning.

    weights holds tensors under their official names, config the sizes.
    scan(x, log_decay, B, C, initial_state, chunk_size) -> y, final_state.
    """
    ...


# %%
predict(
    "the same block",
    "Is it the block of the package? How large will the largest difference be?",
    ["exactly 0", "a few units in the seventh digit", "more"],
)

# %%
ours, theirs = mamba2_block(u, weights, config, chunked), block(u)
print(f"largest difference {(ours - theirs).abs().max():.0e}, at a size of {theirs.abs().max():.1f}")
torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
outcome("the same block", "exactly 0" if torch.equal(ours, theirs) else "a few units in the seventh digit")

# %% [markdown] tags=["answer"]
# Whether it is 0 or a few units in the seventh digit depends on the order in which your answer adds up. No test of
# floating-point code should ask for more than that.

# %% [markdown]
# The package could be wrong in the same way. So we ask someone else: transformers has a Mamba-2 as well. Its weights have
# the same names and shapes, so they can be handed over as they are.

# %%
import transformers
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

transformers.logging.set_verbosity_error()  # it would say that its CUDA kernels are not installed
shape = {"hidden_size": 16, "expand": 2, "num_heads": 8, "head_dim": 4, "state_size": 8, "n_groups": 2}
settings = {"time_step_limit": config.dt_limit, "layer_norm_epsilon": config.norm_eps, "chunk_size": 4}
mixer = Mamba2Mixer(transformers.Mamba2Config(**shape, **settings, num_hidden_layers=1), layer_idx=0).eval()

# %%
mixer.load_state_dict(weights)
print(f"from transformers it differs by {(ours - mixer(u)).abs().max():.0e}")
torch.testing.assert_close(ours, mixer(u), rtol=1e-5, atol=1e-5)

# %% [markdown]
# ## It runs in a trained model
#
# `small`, the model of notebook 00, has eight blocks, each with a norm before it and a sum after it, and a matrix at
# the end that scores every possible next byte. Let your function take the place of all eight.

# %%
from mamba2_lab import Mamba2LM, load_tokenizer

model, tokenizer = Mamba2LM.from_pretrained("small"), load_tokenizer("small")
ids = torch.tensor([tokenizer.encode("for i in ran")])
stream = model.embedding(ids)
for layer in model.layers:
    stream = stream + mamba2_block(layer.norm(stream), layer.mixer.state_dict(), layer.mixer.config, chunked)
logits = model.lm_head(model.norm_f(stream))[..., : model.config.vocab_size]

# %%
predict("next byte", "Which byte will it think likeliest after `for i in ran`?")

# %%
expected = model(ids)
print(f"largest difference {(logits - expected).abs().max():.0e}, at a size of {expected.abs().max():.0f}")
torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
print("likeliest next byte:", repr(tokenizer.decode([int(logits[0, -1].argmax())])))
outcome("next byte", tokenizer.decode([int(logits[0, -1].argmax())]))

# %% [markdown] tags=["answer"]
# *range* is on its way. What you have built since notebook 01 runs in a language model.

# %% [markdown]
# ## Padding: time stands still
#
# Texts of different lengths share a batch if the shorter ones are filled up, with *padding*. Take the first seven words
# of our text, alone, and padded to twelve with vectors of zeros.

# %%
short = u[:, :7]
padded = torch.cat([short, torch.zeros(1, 5, 16)], dim=1)
y_alone, alone = block.prefill(short)
y_padded, naive = block.prefill(padded)

# %% [markdown]
# `prefill` also gives what a text leaves behind: the state, and the window of the convolution.

# %%
predict(
    "after padding",
    "Which are wrong after padding: the outputs of the seven words, the state, the window?",
    ["the outputs", "the state", "the state and the window", "all three"],
)

# %%
off = {
    "the outputs": (y_padded[:, :7] - y_alone).abs().max(),
    "the state": (naive.ssm_state - alone.ssm_state).abs().max(),
    "the window": (naive.conv_window - alone.conv_window).abs().max(),
}
print({name: f"{error:.0e}" for name, error in off.items()})
wrong = [name for name, error in off.items() if error > 1e-4]
outcome("after padding", "all three" if len(wrong) == 3 else " and ".join(wrong))

# %% [markdown] tags=["answer"]
# The outputs are right, because no word sees what comes after it. But whoever goes on from that state, to write the
# next word, goes on from something else. Even zeros do harm: softplus(dt_bias) is above 0, so time passes and the state
# fades; and the convolution's bias writes something.

# %% [markdown]
# What should happen at padding is nothing at all. So let no time pass: with dt = 0 the decay is exp(0 A) = 1 and what is
# written is 0 x. That has to be set after the limit, which might raise it again.

# %%
is_word = torch.arange(12) < 7
_, xbc_padded, raw_dt_padded = block.project(padded)
terms = block.discretise(block.convolve(xbc_padded, no_window), raw_dt_padded)
stopped = torch.where(is_word[:, None], terms.dt, 0.0)
x_stopped, log_decay_stopped = discretise(terms.x, stopped[..., None], A[:, None])
_, state = chunked(x_stopped, log_decay_stopped[..., 0], terms.B, terms.C, empty, 4)
print(f"with time standing still states differ by {(state - alone.ssm_state).abs().max():.0e}")

# %% [markdown]
# And the window must hold the last three inputs that were words, not the last three that came. The package does both if
# it is told the `lengths`.

# %%
_, careful = block.prefill(padded, lengths=torch.tensor([7]))
print(f"states differ by {(careful.ssm_state - alone.ssm_state).abs().max():.0e}")
print(f"windows differ by {(careful.conv_window - alone.conv_window).abs().max():.0e}")


# %%
def drift(lengths, padding=12):
    """How far the state of each head is from that after the text, along the padding: (1+padding, h)."""
    texts = [torch.cat([short, torch.zeros(1, i, 16)], dim=1) for i in range(padding + 1)]
    states = torch.cat([block.prefill(text, lengths=lengths)[1].ssm_state for text in texts])
    return (states - alone.ssm_state).norm(dim=(2, 3)) / alone.ssm_state.norm(dim=(2, 3))


# %%
plots.show(plots.standing_still({"padding read like text": drift(None), "dt = 0 at padding": drift(torch.tensor([7]))}))

# %% [markdown]
# Padding in front of a text is worse: then it is the words that come after it.

# %%
in_front = torch.cat([torch.zeros(1, 5, 16), short], dim=1)
print(f"with padding in front outputs differ by {(block(in_front)[:, 5:] - y_alone).abs().max():.0e}")

# %% [markdown]
# Falcon Mamba in transformers went on from *Hello today* with *I'm* and *Hello today* over and over, until padding was
# silenced both before and after the convolution
# ([pull request 32677](https://github.com/huggingface/transformers/pull/32677)). This package takes padding on either
# side: it first moves each text to the front of its row, and then lets time stand still behind it.

# %% [markdown]
# ## Break it: a zoo of six blocks
#
# Each of the blocks in the zoo has the weights of ours and one mistake. Five of the mistakes have been published, in
# code that ran and gave numbers of the right shape. These are the suspects:
#
# 1. it cuts its padded convolution at the wrong end, so that a token sees the three after it;
# 2. it gives the eight heads the B and C of groups 0, 1, 0, 1, 0, 1, 0, 1 instead of 0, 0, 0, 0, 1, 1, 1, 1;
# 3. it takes one root mean square over all channels, where each group should have its own;
# 4. it normalises first and gates afterwards;
# 5. it forgets `dt_limit` where it reads one token at a time;
# 6. it takes B for C and C for B.
#
# Chance puts them into cages.

# %%
from mamba2_lab.course import zoo

numbers = torch.randperm(6, generator=generator).tolist()
suspects = {name: zoo.breed(zoo.ANIMALS[i], block) for name, i in zip("ABCDEF", numbers, strict=True)}

# %% [markdown]
# Each reads our text, the first six words at once and the others one by one, as a model does that writes. We look at
# what comes out of the norm, where heads are still apart, and compare it with the right block. Then we put *snow* in the
# place of word 4, and see where the output changes.

# %%
cut, exchanged = 6, 4
right = zoo.read(block, u[0], cut)  # (l,h,p)
found = {name: zoo.read(suspect, u[0], cut) for name, suspect in suspects.items()}
moved = {name: zoo.read(suspect, other[0], cut) for name, suspect in suspects.items()}

# %%
errors = {name: (found[name] - right).norm(dim=-1) / right.norm(dim=-1) for name in suspects}  # (l,h)
changes = {name: (moved[name] - found[name]).norm(dim=(1, 2)) / found[name].norm(dim=(1, 2)) for name in suspects}
plots.show(plots.cages(errors, changes, cut, exchanged))

# %%
predict(
    "cages",
    "Who sits where? Ask of each cage: Does anything move before the exchanged word? Is the error the same on both "
    "sides of the dotted line? Is the first token right? Do heads of a group share an error? Write it as A1 B2 C3.",
)

# %% [markdown]
# Two cages look alike: all heads of a group have the same error. So a group is too loud or too soft as a whole, and that
# can only happen in the norm. Which of the two norms is it? A sound norm, its weights divided out, leaves each
# group with a mean square of 1. If one root mean square is taken for all channels, only the
# mean of both groups is 1. If the gate comes afterwards, nothing keeps them at 1.

# %%
for name in suspects:
    unscaled = found[name] / weights["norm.weight"].view(8, 4)
    by_group = unscaled.square().unflatten(1, (2, 4)).mean(dim=(2, 3))[0]  # at token 0
    print(f"cage {name}: group 0 {by_group[0]:.2f}, group 1 {by_group[1]:.2f}, both {by_group.mean():.2f}")

# %% [markdown]
# Now the cages are opened.

# %%
for (name, suspect), i in zip(suspects.items(), numbers, strict=True):
    print(f"cage {name} holds suspect {i + 1}, {type(suspect).__name__}")
outcome("cages", " ".join(f"{name}{i + 1}" for name, i in zip(suspects, numbers, strict=True)))

# %% [markdown]
# - **LooksAhead** (1) is the only one in which words before the exchanged one move, three of them. It is wrong where
#   many words are read at once; one by one there is nothing ahead to look at. (state-spaces/mamba, whose slow path was
#   cut in the wrong place, [#580](https://github.com/state-spaces/mamba/pull/580), or not at all,
#   [#437](https://github.com/state-spaces/mamba/issues/437).)
# - **DealsOutGroups** (2) is wrong from the first word on, head by head. Heads 0, 2, 5 and 7 get their own group by
#   luck: they err only through the norm, which they share, so 0 and 2 have one error, and 5 and 7 have one.
#   (transformers, [#37533](https://github.com/huggingface/transformers/pull/37533): `repeat` for `repeat_interleave`.)
# - **NormalisesAllTogether** (3) has bands, and both groups together have a mean square of 1. (state-spaces/mamba,
#   [#910](https://github.com/state-spaces/mamba/pull/910), and Zamba2 in transformers,
#   [#35943](https://github.com/huggingface/transformers/pull/35943).)
# - **GatesAfterTheNorm** (4) has bands, and no mean square is held at 1. (flash-linear-attention, which trained in one
#   order and generated in the other, [#63](https://github.com/fla-org/flash-linear-attention/issues/63).)
# - **StepsWithoutLimit** (5) is right until the dotted line. (transformers 5.23, whose mixer clamps where it reads a
#   prompt and not where it reads one token.)
# - **ExchangesReadingAndWriting** (6) is right at the first word: what it writes there it reads at once, and the
#   product of B and C does not care which is which. From then on it is wrong. (We know of no one who published this
#   one.)
#
# Do the numbers bear that out?

# %%
by_number = {i + 1: name for name, i in zip(suspects, numbers, strict=True)}
at_once, one_by_one = errors[by_number[5]].split([cut, 12 - cut])
first, later = errors[by_number[6]].split([1, 11])
print("1: change at tokens 0 to 3:", [round(change, 2) for change in changes[by_number[1]][:4].tolist()])
print("2: error by head at token 0:", [round(error, 3) for error in errors[by_number[2]][0].tolist()])
print(f"5: largest error before token {cut}: {at_once.max():.0e}, from there on: {one_by_one.max():.1f}")
print(f"6: largest error at token 0: {first.max():.0e}, after it: {later.max():.1f}")


# %% [markdown]
# A figure raises a suspicion. Certainty comes from going through the steps beside a block that one trusts: the first
# step that differs is the culprit.

# %%
def steps(block):
    """What three of its steps give for our text, by name."""
    z, xBC, raw_dt = block.project(u)
    convolved = block.convolve(xBC, no_window)
    terms = block.discretise(convolved, raw_dt)
    y, _ = chunked(terms.x_dt, terms.log_decay, terms.B, terms.C, empty, 4)
    return {"convolve": convolved, "scan": y, "gate": block.gate(block.skip(y, terms.x), z)}


# %%
trusted = steps(block)
for name, suspect in suspects.items():
    differing = [step for step, value in steps(suspect).items() if (value - trusted[step]).abs().max() > 1e-4]
    print(f"cage {name}: {type(suspect).__name__} first differs at {differing[0] if differing else 'no step'}")

# %% [markdown]
# One passes every step, because its mistake is on another path: the one that reads token by token. A path that is not
# tested is a cage that nobody has looked into. And with ngroups = 1, as the models of the paper have it, two of the
# six are no mistakes at all; with the default limit of (0, inf) a third is none. Choose the sizes of a test so that
# every piece matters.
#
# ## Recap
#
# - One matrix makes gate, x, B, C and step sizes; a convolution lets each channel look back three tokens; softplus
#   makes step sizes positive; discretise and scan are the memory; skip, gate and norm, and a second matrix lead out
#   again.
# - Your block gives the numbers of this package, of transformers, and of a trained model.
# - Padding must not let time pass, nor enter the window.
# - The course of an error tells where it comes from, and comparing step by step proves it.

# %%
from mamba2_lab.course import glossary

glossary("mixer", "causal convolution", "gate", "RMSNorm", "skip connection", "padding")

# %% [markdown]
# ## On your own
#
# Breed a seventh animal: change one thing in your `mamba2_block` so that it still runs, gives the right shapes and is
# wrong. Which of the tests of this notebook would find it, and which would let it pass? Then choose sizes (ngroups,
# dt_limit, the length of the text) with which none of them finds it: those are the sizes that a test must not have.
#
# ## To read on
#
# - T. Dao and A. Gu, [the systems](https://tridao.me/blog/2024/mamba2-part4-systems/), the fourth part of their
#   introduction to Mamba-2: why the block is made so that it can be cut in pieces.
# - N. Shazeer, [GLU variants improve transformer](https://arxiv.org/abs/2002.05202): gates of this kind, elsewhere.
#
# **Before**: [05, Chunks](05_chunks.ipynb). **Next**: [07, The language model](07_the_language_model.ipynb) stacks blocks
# on a stream.
