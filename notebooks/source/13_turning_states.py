# %% [markdown]
# # A state that turns can count
#
# After this notebook you can
#
# 1. prove that a memory which only fades cannot tell odd from even, and see a trained one fail at it;
# 2. let a state turn, in three ways that give the same numbers, and move the turning from the state onto B and C;
# 3. build the mixer of Mamba-3 from pieces of your own, and say what each of them is for.
#
# **You need** steps in time (notebook 01), the recurrence in chunks (05), the steps of a mixer (06), traces and probes
# (10), and the roofline (12).
# **Time**: two and a half hours for you, 120 minutes of them for the exercises; a few minutes for the machine.
# Everything runs on the CPU.

# %% [markdown]
# ## A lamp and its switch
#
# A lamp is off. Each press of its switch turns it on, or off again. A text of bits tells what happened: 1 is a press, 0
# is none. Is the lamp on?
#
# It is on if the presses so far are odd in number. That is their *parity*, and it takes one bit to remember: no memory
# could be smaller.

# %%
import math
import os

import torch

from mamba2_lab import plots

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: shorter training
torch.set_num_threads(1)
bits = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1])
print("presses ", bits.tolist())
print("the lamp", (bits.cumsum(dim=0) % 2).tolist())

# %% [markdown]
# Now a memory of one number, as in notebook 01: at each press it fades by its decay, and something is written. It says
# that the lamp is on where the number is above a threshold. We hold on to the easiest of all texts, one press after
# another.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "right in a row",
    "We draw 100,000 such memories: any decay between 0 and 1, anything written, any threshold. Each is asked after "
    "every press. For how many presses in a row is the best of them right?",
    unit="presses",
)

# %%
generator = torch.Generator().manual_seed(13)
decay = torch.rand(100_000, 1, generator=generator)
write, threshold = torch.randn(2, 100_000, 1, generator=generator)
presses = torch.arange(1, 9)
levels = write * (1 - decay**presses) / (1 - decay)  # the sum of write, decay write, decay² write, ...

# %%
right = (levels > threshold) == (presses % 2 == 1)
in_a_row = right.long().cumprod(dim=1).sum(dim=1)
print("memories by presses in a row:", torch.bincount(in_a_row).tolist())
outcome("right in a row", int(in_a_row.max()))

# %% [markdown] tags=["answer"]
# Two, and never a third. The figure shows one memory of each kind, that with the widest margin.

# %%
margin = (levels - threshold).abs()[:, :3].amin(dim=1)
shown = [int(margin.where(in_a_row == count, -1.0).argmax()) for count in range(3)]
plots.show(plots.one_way(levels[shown], threshold[shown, 0]))

# %% [markdown]
# A hundred thousand failures are no proof. Write one: a function that finds, for *any* such memory, a number of presses
# after which it is wrong.
#
# ### Exercise: refute every fading memory ★★
#
# ★★ an idea, and then a short loop · importance 3 of 3 · 15 minutes · needed for the proof

# %%
from mamba2_lab.course import exercise


@exercise("refute")
def refute(decay, write, threshold):
    """A number of presses after which a memory is wrong: h, at first 0, becomes decay h + write at each press.

    It says odd where h > threshold. 0 < decay < 1, write not 0 -> a whole number
    """
    ...


# %%
found = [refute(*map(float, memory)) for memory in zip(decay, write, threshold, strict=True)]
print({count: found.count(count) for count in sorted(set(found))}, "of", len(found), "refuted")

# %% [markdown] tags=["answer"]
# Why it cannot fail: with the decay a, press k + 1 moves the memory by $a^k$ times what is written, and $a^k$ is above
# 0. So it moves one way only. Odd, even, odd would take it over the threshold and back.
#
# With more numbers the argument stays. Whatever a head reads of its state, with one decay for all of it, moves one way
# under a held switch. Many heads with several decays can be right for longer, and layers upon layers for longer still,
# but for no length whatever: that is proved for any number of them in finite precision (Grazzi and others 2024,
# [arXiv:2411.12537](https://arxiv.org/abs/2411.12537)).

# %% [markdown]
# ## Does training find a way?
#
# A proof about any length says little about 32 bits. So we train a tiny Mamba-2, one layer with two heads, and ask it
# after each bit. `count` asks for the presses modulo m: parity is m = 2.

# %%
import torch.nn.functional as F

from mamba2_lab import MambaLM

LENGTH, STEPS = 32, 40 if FAST else 600
sizes = {"d_state": 16, "headdim": 32, "dt_min": 0.3, "dt_max": 1.5}


def count(rows, length, m, generator):
    """Random bits (rows,length), and after each the number of presses so far modulo m."""
    bits = torch.randint(2, (rows, length), generator=generator)
    return bits, bits.cumsum(dim=1) % m


# %% [markdown]
# The training of notebook 08, with AdamW and a cosine. Each step has fresh questions: short ones first, of up to 32
# bits from the middle on, for nobody learns to count on long texts.

# %%
def learn(model, m, keep_still=False):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        longest = 4 + round((LENGTH - 4) * min(1.0, 2 * step / STEPS))
        length = int(torch.randint(3, longest + 1, (), generator=generator))
        questions, answers = count(32, length, m, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(questions).flatten(0, 1), answers.flatten()).backward()
        if keep_still:  # the rows that make angles stay as they are
            model.blocks[0].mixer.in_proj.weight.grad[-model.blocks[0].mixer.config.angles :] = 0
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


# %%
@torch.no_grad()
def surprise(model, m, length=LENGTH):
    """(length,): the mean surprise of the right answer after each bit, on 512 new questions, in bits."""
    questions, answers = count(512, length, m, torch.Generator().manual_seed(1))
    losses = F.cross_entropy(model(questions).mT, answers, reduction="none")
    return losses.mean(dim=0) / math.log(2)


# %%
predict(
    "Mamba-2 at parity",
    "A coin says odd or even with a surprise of one bit. What will that of Mamba-2 be, after the first bits, and after "
    "the last ones?",
    unit="bits, after the last ones",
)

# %%
mamba2 = MambaLM(d_model=32, n_layer=1, vocab_size=2, mixers="mamba2", mamba2=sizes, seed=0)
learn(mamba2, m=2)
faded = surprise(mamba2, m=2)
print("first bits:", [round(bits, 2) for bits in faded[:8].tolist()])
print(f"last sixteen: {faded[16:].mean():.2f}")
outcome("Mamba-2 at parity", faded[16:].mean().item())

# %% [markdown] tags=["answer"]
# It knows the first few, which its convolution sees all at once and its heads can tell apart, and then it throws a
# coin.
#
# ## A number that turns
#
# What would do? A decay of -1, which no exponential can make: the state changes its sign at each press. That is parity
# and nothing more. Let us count modulo 3 as well. We want a factor that leads back after three presses, and not before:
# $z^3 = 1$. No real number but 1 does that. A *complex* number does: a point of the plane, $a + bi$. To multiply by
# $e^{i\theta} = \cos\theta + i \sin\theta$ is to turn the point by the angle $\theta$ about 0. A third of a turn, and
# nothing is lost.

# %%
import itertools


def turned(bits, m):
    """Where a number that starts at 1 points after each bit, if a press turns it by an m-th of a turn."""
    factors = torch.exp(2j * math.pi * bits / m)
    return torch.stack(list(itertools.accumulate(factors, torch.mul)))


# %%
predict(
    "a thousand bits",
    "In float32, 1,000 bits, 200 texts. The count is read off as the nearest of m directions. How often is it right "
    "after the last bit, for m = 2 and for m = 3? And for a memory that fades by 0.9 at a press?",
    unit="percent, for m = 3",
)

# %%
texts, truth = count(200, 1000, 6, generator)  # modulo 6 tells the count modulo 2 and modulo 3
for m in (2, 3):
    points = torch.stack([turned(text, m)[-1] for text in texts])
    read = (points.angle() * m / (2 * math.pi)).round() % m
    share = (read == truth[:, -1] % m).float().mean()
    print(f"modulo {m}: {share:.2f} right, and the points are {points.abs().mean():.4f} from 0")

# %%
level = 0.9 ** texts.sum(dim=1)
print(f"a memory that fades is {level.max():.0e} from 0 at most: odd and even are both nothing")
outcome("a thousand bits", 100 * share.item())

# %%
plots.show(plots.hands({f"modulo {m}": turned(bits, m).angle() for m in (2, 3)}, bits.tolist()), "counting")


# %% [markdown]
# ## A whole state that turns, in three ways
#
# A state has p rows and n columns. We take its columns in pairs, each a complex number; B and C likewise. A pair turns
# by an angle of its own, at each token by another, and fades as before:
#
# $$h_t = e^{a_t + i\theta_t}\, h_{t-1} + x_t B_t^\top, \qquad y_t = \mathrm{Re}(h_t\, \bar C_t)$$
#
# The bar turns the sign of the imaginary part. With it the real part of a product is the dot product of the two pairs,
# as if nothing were complex. This is the first way, for a single head:

# %%
def in_complex_numbers(x, log_decay, B, C, angle):
    """x (l,p), log_decay (l,), B, C (l,n), angle (l,n/2) -> y (l,p)"""
    B, C = (torch.view_as_complex(part.unflatten(-1, (-1, 2))) for part in (B, C))
    factor = torch.exp(log_decay[:, None] + 1j * angle)
    state, ys = 0, []
    for t in range(len(x)):
        state = factor[t] * state + x[t, :, None] * B[t]
        ys.append((state * C[t].conj()).sum(dim=-1).real)
    return torch.stack(ys)


# %% [markdown]
# ### Exercise: turn pairs of channels ★★
#
# ★★ two lines of school geometry, and pairs to put together again · importance 3 of 3 · 15 minutes · needed for
# `turn_onto`
#
# The second way has no complex numbers. A pair of real ones, (a, b), turns by $\begin{pmatrix}\cos\theta &
# -\sin\theta\\ \sin\theta & \cos\theta\end{pmatrix}$. In Mamba-3 often only the first half of a state turns, so there
# may be fewer angles than pairs: the other channels stay as they are.

# %%
@exercise("rotate_pairs")
def rotate_pairs(x, angle):
    """x (..., n), angle (..., s) in radians -> (..., n): channels 2i and 2i+1 turned counter-clockwise, for i < s."""
    ...


# %%
def in_pairs(x, log_decay, B, C, angle):
    """As `in_complex_numbers`, with a matrix of 2 by 2 for each pair."""
    state, ys = torch.zeros(x.shape[1], B.shape[1]), []
    for t in range(len(x)):
        state = log_decay[t].exp() * rotate_pairs(state, angle[t]) + x[t, :, None] * B[t]
        ys.append(state @ C[t])
    return torch.stack(ys)


# %% [markdown]
# ### Exercise: let the state stand still ★★
#
# ★★ one running sum; the sign is the question · importance 3 of 3 · 20 minutes · needed for `mamba3_mixer`
#
# Both ways are loops: at each token the whole state is turned. For the third, think of a person on a merry-go-round who
# writes on a fixed wall and reads from it. What matters is how far the wall and the person have moved against each
# other. So let the state stand, and turn those who write and read: B and C, each by the angles *added up* since the
# start. Then what is left is the recurrence of notebook 05.

# %%
@exercise("turn_onto")
def turn_onto(B, C, angle):
    """B, C (..., l, n) of a state that turns, by angle (..., l, s) at each token -> B, C of one that stands still."""
    ...


# %%
from mamba2_lab.course import answer

chunked = answer("chunked")


def added_up(x, log_decay, B, C, angle):
    """As `in_complex_numbers`, by the chunks of notebook 05."""
    B, C = turn_onto(B, C, angle)
    given = (part[None, :, None] for part in (x, log_decay, B, C))  # a batch of one text, a single head
    y, _ = chunked(*given, torch.zeros(1, 1, x.shape[1], B.shape[1]), 64)
    return y[0, :, 0]


# %%
predict(
    "three ways agree",
    "200 tokens, p = 4, n = 8, angles at random up to half a turn. How far apart will the three be, in float32?",
    ["by nothing", "by rounding", "by about a hundredth"],
)

# %%
l, p, n = 200, 4, 8
x, B, C = (torch.randn(l, size, generator=generator) for size in (p, n, n))
log_decay, angle = -0.1 * torch.rand(l, generator=generator), math.pi * (2 * torch.rand(l, n // 2) - 1)
ways = {way.__name__: way(x, log_decay, B, C, angle) for way in (in_complex_numbers, in_pairs, added_up)}

# %%
exact = in_complex_numbers(*(part.double() for part in (x, log_decay, B, C, angle)))
for name, y in ways.items():
    print(f"{name:>18}: {(y - exact).norm() / exact.norm():.0e} off")
off = max((y - exact).norm() / exact.norm() for y in ways.values())
still = in_complex_numbers(x, log_decay, B, C, 0 * angle)
print(f"control, no angle:  {(still - exact).norm() / exact.norm():.1f} off")
outcome("three ways agree", "by nothing" if off == 0 else "by rounding" if off < 1e-4 else "by about a hundredth")

# %% [markdown] tags=["answer"]
# So turning costs a model nothing new: no complex number, no other scan, only two vectors to turn for each token, and
# a running sum to carry along where a text goes on.

# %% [markdown]
# ## The rotary embedding, from the other side
#
# Transformers do the same, for another reason. To let attention know of distance, they turn each query and key by an
# angle that grows with its position: the *rotary embedding* (Su and others 2021,
# [arXiv:2104.09864](https://arxiv.org/abs/2104.09864)). There angles are fixed, so many for each token. Here they come
# from the tokens: a 0 need not turn, and a press may turn by a half.

# %%
predict(
    "moved by five",
    "B and C are the same at every token. Does what token t reads of token s depend on t - s alone, if all tokens turn "
    "alike? And if angles come from the tokens?",
)

# %%
same = torch.ones(40, n)
for name, each in {"all alike": angle[:1].expand(40, -1), "from the tokens": angle[:40]}.items():
    keys, queries = turn_onto(same, same, each)
    matches = queries @ keys.mT
    change = (matches[5:, 5:] - matches[:-5, :-5]).abs().max()
    print(f"{name:>15}: moved on by five tokens a match changes by up to {change:.0e}")
outcome("moved by five")


# %% [markdown]
# ## A step has two ends
#
# Turning is one of three things that are new in Mamba-3 (Lahoti and others 2026,
# [arXiv:2603.15569](https://arxiv.org/abs/2603.15569)). The second is older than computers. In continuous time, $h' = A
# h + u(t)$, where u is what is written. Over a step of length Δ the state fades by $e^{\Delta A}$, and what is written
# meanwhile is added, each moment's share faded by the time that is left. That is an integral, and Mamba-2 takes for it
# the value at the step's end times its length, $\Delta\, u_t$. It is known as *Euler's rule*.
#
# A better one takes both ends. What stood at the step's beginning has faded over it:
#
# $$h_t = e^{\Delta A}\bigl(h_{t-1} + (1-\lambda)\,\Delta\, u_{t-1}\bigr) + \lambda\,\Delta\, u_t$$
#
# With λ = 1/2 this is the *trapezoidal rule*, with λ = 1 Euler's. For a text: a token writes when it comes, and once
# more when the next one does.
#
# ### Exercise: write at both ends ★★
#
# ★★ the scan that you have, called twice · importance 3 of 3 · 20 minutes · needed for `mamba3_mixer`

# %%
@exercise("trapezoid")
def trapezoid(x, B, C, log_decay, dt, lam, scan):
    """The recurrence in which a token writes lam dt x B^T when it comes, and the one before it the rest of dt, faded.

    x (b,l,h,p), B, C (b,l,h,n), log_decay, dt, lam (b,l,h) -> y (b,l,h,p)
    scan(x, log_decay, B, C, initial_state, chunk_size) -> y, final_state
    """
    ...


# %% [markdown]
# How good is each? We write a sine, with A = -1, for which the integral is known, and look at the state after 4 units
# of time.

# %%
def state_at_end(steps, lam, A=-1.0, T=4.0):
    """(exact, by steps): the state at time T of h' = A h + sin(3 t), h(0) = 0."""
    t = torch.linspace(0, T, steps + 1, dtype=torch.float64)
    given, one = t.sin().new_full((1, steps + 1, 1), T / steps), torch.ones(1, steps + 1, 1, 1, dtype=torch.float64)
    y = trapezoid((3 * t).sin()[None, :, None, None], one, one, A * given, given, 0 * given + lam, chunked)
    exact = ((torch.exp(3j * t[-1]) - torch.exp(A * t[-1])) / (3j - A)).imag
    return exact.item(), y[0, -1, 0, 0].item()


# %%
predict(
    "halve the step",
    "Halve the step. By what is the error divided: with λ = 1, with λ = 1/2, and with λ = 0.6?",
    unit="for λ = 1/2",
)

# %%
steps, errors = [2**power for power in range(3, 12)], {}
for name, lam in {"Euler, λ = 1": 1.0, "λ = 0.6": 0.6, "trapezoid, λ = 1/2": 0.5}.items():
    pairs = [state_at_end(count, lam) for count in steps]
    errors[name] = [abs(exact - found) for exact, found in pairs]
    divided = [a / b for a, b in itertools.pairwise(errors[name])]
    print(f"{name:>18}: halving divides by", *(f"{ratio:.2f}" for ratio in divided[4:]))

# %%
plots.show(plots.errors_by_step([4 / count for count in steps], errors))
outcome("halve the step", errors[name][-2] / errors[name][-1])


# %% [markdown] tags=["answer"]
# The power of the step with which an error falls is called the *order* of a rule. Euler's is 1, and so is that of any
# λ but 1/2, which has order 2. Mamba-3 does not fix λ. It lets each token choose, λ = sigmoid of a number of its own,
# which is 1/2 where that number is 0.

# %% [markdown]
# ## What a token says about its step
#
# So a token has four things to say, beside z, x, B and C: how long its step is, how fast all fades, how its weight is
# shared between the ends, and how fast each pair turns. All come out of `in_proj` as raw numbers of any sign.
#
# - Δ = softplus(raw + bias), as in Mamba-2.
# - A is the token's own here: minus the *heavy tail* of its raw number, and at least `A_floor`, so that everything
#   fades a little.
# - λ = sigmoid(raw).
# - A pair turns by Δ π tanh(raw): at most half a turn, either way, in a unit of time. The raw speeds are shared by all
#   heads; each has its own Δ.

# %%
def heavy_tail(a):
    """1 + a above 0, 1 / (1 - a) below: positive, and never nearly flat."""
    return a.clamp(min=0) + 1 / (1 - a.clamp(max=0))


for raw in (0.0, -20.0):
    rates = {name: f(torch.tensor(raw)).item() for name, f in (("heavy tail", heavy_tail), ("softplus", F.softplus))}
    print(f"raw {raw:>5}: half-life", {name: f"{math.log(2) / rate:.3g}" for name, rate in rates.items()})


# %% [markdown]
# With a softplus a raw -20 is for ever; a heavy tail still lets go of things, and its slope there still teaches.
#
# ### Exercise: from raw numbers to a step ★★
#
# ★★ four formulas; published code has got two of them wrong · importance 3 of 3 · 15 minutes · needed for
# `mamba3_mixer`

# %%
@exercise("discretise_turning")
def discretise_turning(dt, A, trap, angle, dt_bias, A_floor):
    """Raw dt, A, trap (..., h), angle (..., s), dt_bias (h,) -> dt, log decay, lam (..., h), angle (..., h, s)."""
    ...


# %% [markdown]
# ## Biases in place of a convolution
#
# Mamba-3 has no convolution. A token that writes twice is mixed with the one before it already. And B and C, after a
# norm, get a *bias*: a constant vector for each head, of ones in a new model. What does it do? Take a new layer, and
# see how C meets B before anything turns.

# %%
predict(
    "positive matches",
    "B and C of two tokens, after their norms, with n = 128. In how many of a hundred pairs is C · B above 0? And with "
    "ones added to both?",
    unit="percent, with ones",
)

# %%
B, C = (F.rms_norm(torch.randn(500, 128, generator=generator), (128,)) for _ in range(2))
for bias in (0.0, 1.0):
    positive = 100 * ((C + bias) @ (B + bias).mT > 0).float().mean().item()
    print(f"bias {bias}: {positive:.1f} % of the matches are above 0")
outcome("positive matches", positive)


# %% [markdown] tags=["answer"]
# Without it a new head adds and subtracts its past by chance. With it a head reads all of its past with one sign, as a
# convolution with positive weights would, and learns from there whom to prefer.

# %% [markdown]
# ## Your Mamba-3
#
# All pieces are there.
#
#     project -> discretise_turning -> norms and biases -> turn_onto -> trapezoid -> D x -> gate -> out_proj
#
# ### Exercise: the mixer ★★★
#
# ★★★ nothing new, but eight parts to keep in order · importance 3 of 3 · 35 minutes · needed for the comparison
# with the package
#
# The parts come out of `in_proj` in this order: z, x, B, C, dt, A, trap, angle. One thing is a convention: Mamba-3
# turns B and C forward, so it is as if its state turned back.

# %%
@exercise("mamba3_mixer")
def mamba3_mixer(u, weights, config, scan):
    """u (b,l,d_model) -> (b,l,d_model): Mamba-3 with one rank, and one B and C for all heads, on a text from its start.

    weights holds tensors under their official names, config the sizes.
    scan(x, log_decay, B, C, initial_state, chunk_size) -> y, final_state
    """
    ...


# %% [markdown]
# Against the package, which takes the published weights as they are. Its layer gets weights at random, for biases of
# one and a D of one would hide mistakes.

# %%
from mamba2_lab.layers import Mamba3

torch.manual_seed(13)
package = Mamba3(d_model=64, d_state=32, headdim=16).requires_grad_(False)
for weight in package.parameters():
    weight.add_(0.2 * torch.randn(weight.shape))
u = torch.randn(2, 150, 64)

# %%
theirs, weights = package(u), dict(package.named_parameters())
yours = mamba3_mixer(u, weights, package.config, chunked)
print(f"yours differs by {(yours - theirs).norm() / theirs.norm():.0e}, relatively")
without = weights | {"B_bias": 0 * weights["B_bias"]}
other = mamba3_mixer(u, without, package.config, chunked)
print(f"control, without B's bias: {(other - theirs).norm() / theirs.norm():.1f}")

# %% [markdown]
# The package calls the scan once, not twice: it writes at once what a token will ever write, and takes away what the
# token itself must not read of that yet. `scan/trapezoid.py` tells how.
#
# ## It counts
#
# Now the tiny model once more, with Mamba-3 in the place of Mamba-2. All else stays: widths, steps, learning rate,
# questions, seed. The control is a Mamba-3 whose angles are 0 and stay so. Then the same modulo 3.

# %%
predict(
    "Mamba-3 at parity",
    "The surprise after the last bits: of Mamba-3, and of Mamba-3 without angles?",
    unit="bits, for Mamba-3",
)

# %%
import time


def tiny(mixers, m, keep_still=False):
    fields = {"mamba2": sizes, "mamba3": sizes | {"rope_fraction": 1.0}}
    model = MambaLM(d_model=32, n_layer=1, vocab_size=m, mixers=mixers, **{mixers: fields[mixers]}, seed=0)
    if keep_still:
        torch.nn.init.zeros_(model.blocks[0].mixer.in_proj.weight[-model.blocks[0].mixer.config.angles :])
    began = time.perf_counter()
    learn(model, m, keep_still)
    weights = sum(weight.numel() for weight in model.parameters())
    name = f"{mixers}, modulo {m}{', angles 0' if keep_still else ''}"
    print(f"{name}: {weights:,} weights, {time.perf_counter() - began:.0f} seconds")
    return model


# %%
models = {
    2: {"Mamba-2": mamba2, "Mamba-3, angles 0": tiny("mamba3", 2, keep_still=True), "Mamba-3": tiny("mamba3", 2)},
    3: {"Mamba-2": tiny("mamba2", 3), "Mamba-3": tiny("mamba3", 3)},
}

# %%
curves = {f"modulo {m}": {name: surprise(each, m) for name, each in by.items()} for m, by in models.items()}
for task, by_model in curves.items():
    print(task, {name: f"{curve[16:].mean():.2f} bits" for name, curve in by_model.items()})
outcome("Mamba-3 at parity", curves["modulo 2"]["Mamba-3"][16:].mean().item())

# %%
plots.show(plots.surprise_by_position(curves, {"modulo 2": 1.0, "modulo 3": math.log2(3)}))

# %% [markdown]
# What has it learned? A trace says how far each token turns each pair. Here is the pair of each model whose turn at a
# press is nearest to what we would have given it.

# %%
from mamba2_lab import inspect

pointing = {}
for m in (2, 3):
    layer = inspect.trace(models[m]["Mamba-3"], bits).layers[0]
    off = (layer.own_turns[5].abs() - 1 / m).abs()  # at the press with number 5
    head, pair = divmod(int(off.argmin()), off.shape[1])
    press, none = (layer.own_turns[t, head, pair].item() for t in (5, 4))
    print(f"modulo {m}: head {head}, pair {pair} turns by {press:+.3f} at a press, by {none:+.3f} at none")
    pointing[f"modulo {m}"] = 2 * math.pi * layer.turns[:, head, pair]

# %%
plots.show(plots.hands(pointing, bits.tolist()), "learned")

# %% [markdown]
# By hand we gave it an m-th of a turn, exactly. A trained model comes near.

# %%
predict(
    "four times as long",
    "It was trained on up to 32 bits. How often will the answer after 128 be right, modulo 2?",
    unit="percent",
)


# %%
@torch.no_grad()
def share_right(model, m, length):
    """How often the answer after the last bit is right, on 512 new questions."""
    questions, answers = count(512, length, m, torch.Generator().manual_seed(2))
    return (model(questions)[:, -1].argmax(dim=-1) == answers[:, -1]).float().mean().item()


for m in (2, 3):
    found = {length: share_right(models[m]["Mamba-3"], m, length) for length in (16, 32, 48, 64, 128)}
    print(f"modulo {m}, right after so many bits:", {length: f"{share:.2f}" for length, share in found.items()})

# %%
outcome("four times as long", 100 * share_right(models[2]["Mamba-3"], 2, 128))

# %% [markdown] tags=["answer"]
# No more often than by a guess. The first suspect: a turn that is a little off is off by more with each press. That can
# be tested. Round the turn of each token to the nearest m-th of a turn, and ask again.

# %%
import copy


def with_exact_turns(model, m):
    """A copy of the model whose pairs turn by whole m-ths of a turn."""
    model = copy.deepcopy(model)
    mixer, turn = model.blocks[0].mixer, model.blocks[0].mixer.turn

    def exactly(projected, turns):
        own = torch.diff(turns, dim=1, prepend=torch.zeros_like(turns[:, :1]))
        return turn(projected, (own * m).round().div(m).cumsum(dim=1))

    mixer.turn = exactly
    return model


# %%
for m in (2, 3):
    rounded = with_exact_turns(models[m]["Mamba-3"], m)
    found = {length: share_right(rounded, m, length) for length in (16, 32, 48, 64, 128)}
    print(f"modulo {m}, with exact turns:", {length: f"{share:.2f}" for length, share in found.items()})

# %% [markdown] tags=["answer"]
# After 128 bits it is a guess all the same. So the suspect is not the whole answer: decays, and all that the model
# reads with, were fitted to texts of up to 32 bits, and to turns as they were. A state that turns *can* count without
# end, as our thousand bits showed. Training on short texts has no reason to teach it.

# %% [markdown]
# ## Where does the count stand?
#
# Not where one looks first. In the third way the state stands still, and the turning is in the sum of the angles. So
# take a memory that is written once, and pressed on and on. Probe it as in notebook 10: once as it stands, once as its
# own token sees it, turned back by the angle of its C.

# %%
predict(
    "probe of a standing state",
    "Can a probe read the count modulo 3 off the state as it stands? And off the state as its token sees it?",
)

# %%
questions, answers = count(60, 40, 3, generator)
angles = (2 * math.pi / 3 * questions.cumsum(dim=1))[..., None].expand(-1, -1, 4)
first = torch.randn(8, generator=generator)  # written at the start, into four pairs
standing = first + 0.1 * torch.randn(60, 40, 8, generator=generator).cumsum(dim=1) / 4  # and a little at each token
seen = rotate_pairs(standing, angles)

# %%
texts_of = torch.arange(60).repeat_interleave(40)
for name, states in {"as it stands": standing, "as its token sees it": seen}.items():
    probe = inspect.fit_probe(states.flatten(0, 1), answers.flatten(), texts_of)
    print(f"{name:>20}: {probe.accuracy:.2f} right, on shuffled labels {probe.control:.2f}")
outcome("probe of a standing state")

# %% [markdown] tags=["answer"]
# A trace has both, `states` and `seen_states`. Look at the second when you compare states of several tokens. In our
# trained model the first would do as well, for it writes strongly at each token, and what was written last stands where
# the angles had come to.

# %%
model, found = models[3]["Mamba-3"], {"states": [], "seen_states": []}
for question in questions:
    layer = inspect.trace(model, question).layers[0]
    for name, states in found.items():
        states.append(torch.cat([getattr(layer, name)(head).flatten(1) for head in range(2)], dim=1))
for name, states in found.items():
    probe = inspect.fit_probe(torch.cat(states), answers.flatten(), texts_of, ridge=1.0)
    print(f"{name:>12} of the trained model: {probe.accuracy:.2f}, on shuffled labels {probe.control:.2f}")

# %% [markdown]
# ## Several ranks: more arithmetic for the same bytes
#
# The third new thing is for speed. A token that is written alone has to fetch all states and put them back, and makes
# few operations of each byte (notebook 12). So why not make more? In a head of *SISO*, single input and single output,
# a token writes one pair x Bᵀ and reads with one C. In *MIMO*, multiple input and multiple output, it has R of each:
# it writes R pairs into the same state, and reads it R times.
#
# Count as in notebook 12, for each number of the state: it fades, 1; a token and the one before it write R pairs each,
# a multiplication and an addition for each, 4 R; and it is read R times, 2 R. It comes from memory and goes back, 8
# bytes, whatever R.

# %%
h, p, n, copies = 32, 64, 128, 4 if FAST else 24


def state_cost(R):
    """(operations, bytes) of one token in one layer, the states alone."""
    return (1 + 4 * R + 2 * R) * h * p * n, 8 * h * p * n


for R in (1, 4, 8):
    operations, size = state_cost(R)
    print(f"R = {R}: {operations:>12,} operations, {size:,} bytes, {operations / size:.1f} for each byte")

# %%
from mamba2_lab import benchmark
from mamba2_lab.benchmark import measures
from mamba2_lab.scan.trapezoid import turn_in_ranks


def turn_of(R):
    """A token's turn on the states of one layer after another, so that none is still in the cache."""
    states = itertools.cycle([torch.randn(1, h, p, n) for _ in range(copies)])
    x, B, C = torch.randn(1, 2 * R, h, p), torch.randn(1, 2 * R, h, n), torch.randn(1, R, h, n)
    fade = -torch.rand(1, h)
    return lambda: turn_in_ranks(x, fade, B, C, next(states))


# %%
predict(
    "eight ranks",
    "R = 8 makes seven times the operations of R = 1. How many times as long will it take?",
    unit="times",
)

# %%
timed = benchmark.measure({f"R = {R}": turn_of(R) for R in (1, 2, 4, 8)}, "cpu", seconds=0.3 if FAST else 1)
one = timed["R = 1"].median
for R in (1, 2, 4, 8):
    more = state_cost(R)[0] / state_cost(1)[0]
    print(f"R = {R}: {more:.1f} times the operations, {timed[f'R = {R}'].median / one:.1f} times as long")
outcome("eight ranks", timed["R = 8"].median / one)

# %%
side, length = (512, 2**24) if FAST else (1024, 2**26)
ceiling = benchmark.measure(measures.ceilings("cpu", n=side, numbers=length), "cpu", seconds=0.5)
peak, bandwidth = 2 * side**3 / ceiling["matrix product"].low, 4 * length / ceiling["reading memory"].low
points = {f"R = {R}": (*state_cost(R), timed[f"R = {R}"].median) for R in (1, 2, 8)}
plots.show(plots.roofline(peak, bandwidth, {"one token": points}), "ranks")

# %% [markdown]
# From point to point it goes to the right, and up: more work done in nearly the time that the bytes take.
# What is bought with it is a question to training; notebook 08 has MIMO in its table of six architectures. A state of
# MIMO is as large as one of SISO:

# %%
for name, fields in {"SISO": {}, "MIMO": {"is_mimo": True, "mimo_rank": 4}}.items():
    layer = Mamba3(256, d_state=64, **fields)
    weights_of = sum(weight.numel() for weight in layer.parameters())
    print(f"{name}: {weights_of:>7,} weights, state {tuple(layer.initial_state(1).ssm_state.shape)}")


# %% [markdown]
# ## Break it: four mistakes that agree with themselves
#
# There are ports of Mamba-3 to plain PyTorch, and some of them compute something else. These four mistakes can be, and
# three have been, published:
#
# - *precedence*: `A = -F.softplus(a).clamp(max=-floor)`. It was meant to keep A below -floor.
# - *no pi tanh*: the raw number turns as it is.
# - *halves*: channel i is paired with i + n/2, not with its neighbour. The kernels of Mamba-3 with several ranks pair
#   halves, those with one rank neighbours, and official code has mixed them up.
# - *look back*: two documents share a row (notebook 04). The scan wipes the state where the second begins, but the
#   token before it writes once more all the same.
#
# The first two stand in mamba3-ssm 0.2.1 on PyPI. Its tests compare its step with its own forward pass: they agree.

# %%
def by_halves(x, angle):
    s, half = angle.shape[-1], x.shape[-1] // 2
    a, b, cos, sin = x[..., :s], x[..., half : half + s], torch.cos(angle), torch.sin(angle)
    return torch.cat([a * cos - b * sin, x[..., s:half], a * sin + b * cos, x[..., half + s :]], dim=-1)


def step_of(raw, mistake):
    """dt, log decay, lam and angle, with a mistake or without."""
    dt, log_decay, lam, angle = discretise_turning(*raw, package.dt_bias, package.config.A_floor)
    if mistake == "precedence":
        log_decay = dt * -F.softplus(raw[1]).clamp(max=-package.config.A_floor)
    if mistake == "no pi tanh":
        angle = dt[..., None] * raw[3][..., None, :]
    return dt, log_decay, lam, angle


# %%
def read_of_states(u, starts, mistake="", chunk_size=64):
    """What the layer of above reads from its states, in rows of documents: (b,l,d_model) -> (b,l,h,p)."""
    parts = package.project(u)
    dt, log_decay, lam, angle = step_of(parts[4:], mistake)
    turn = by_halves if mistake == "halves" else rotate_pairs
    B = turn(package.B_norm(parts.B)[:, :, 0] + package.B_bias[:, 0], angle.cumsum(dim=1))
    C = turn(package.C_norm(parts.C)[:, :, 0] + package.C_bias[:, 0], angle.cumsum(dim=1))

    def scan(x, log_decay, B, C, state, _):
        return chunked(x, log_decay.masked_fill(starts, -1e4), B, C, state, chunk_size)

    known = log_decay if mistake == "look back" else log_decay.masked_fill(starts, -1e4)
    return trapezoid(parts.x, B, C, known, dt, lam, scan)


# %% [markdown]
# The right one first. With D x and the gate it has to be the layer of the package. Then the test that such ports pass:
# compare each with itself, in chunks of another size.

# %%
l, second = 128, 64  # the second document begins there
u = torch.randn(8, l, 64)
ids = (torch.arange(l) >= second).long().expand(8, l)
starts = (torch.arange(l) == second)[:, None]
right = read_of_states(u, starts)

# %%
z, x = package.project(u)[:2]
y = package.out(package.gate(package.skip(right.unsqueeze(2), x.unsqueeze(2)), z))
theirs, _ = package.prefill(u, document_ids=ids)
print(f"without a mistake, from the package: {(y - theirs).norm() / theirs.norm():.0e}")

# %%
mistakes = ["precedence", "no pi tanh", "halves", "look back"]
wrong = {mistake: read_of_states(u, starts, mistake) for mistake in mistakes}
for mistake, y in wrong.items():
    again = read_of_states(u, starts, mistake, chunk_size=7)
    own, true = ((y - other).norm() / other.norm() for other in (again, right))
    print(f"{mistake:>10}: from itself {own:.0e}, from the right one {true:.1e}")

# %% [markdown]
# Four suspects, in an order that chance decides. For each the relative error at each token, over heads and texts.

# %%
order = torch.randperm(4, generator=torch.Generator().manual_seed(13)).tolist()
suspects = {name: mistakes[i] for name, i in zip("ABCD", order, strict=True)}
errors = {
    f"suspect {name}": (wrong[mistake] - right).square().mean(dim=(0, 2, 3)).sqrt() / right.square().mean().sqrt()
    for name, mistake in suspects.items()
}
plots.show(plots.errors_by_token(errors, second, "the second document begins"))

# %%
predict(
    "four suspects",
    "Who made which mistake? Two of them the picture does not tell apart: which, and where would you look for them?",
)

# %%
print(", ".join(f"{name}: {mistake}" for name, mistake in suspects.items()))
for name, error in errors.items():
    first, last, new = (error[t] for t in (0, second - 1, second))
    print(f"{name}: {first:.0e} at the first token, {last:.0e} before the second start, {new:.0e} at it")

# %%
raw = package.project(u)[4:]
for name, mistake in suspects.items():
    pairs = zip(("dt", "log decay", "lam", "angle"), step_of(raw, mistake), step_of(raw, ""), strict=True)
    print(f"{name} has another", [what for what, one, other in pairs if (one - other).abs().max() > 1e-4] or "nothing")
outcome("four suspects")

# %% [markdown] tags=["answer"]
# A token reads itself as it is, whatever turns and fades: so all are right at the first token of a text. With
# *precedence* nothing fades, and the error grows as long as a document lasts. *Look back* is right in all of the first
# document, jumps where the second begins, and fades: a test with one document in a row would never see it. *No pi tanh*
# and *halves* are wrong from the second token on and stay so. To tell these two apart one has to compare step by step,
# as in notebook 06, with something that does not share the code.

# %% [markdown]
# ## Complex numbers on a Mac: why none are needed
#
# MPS knows complex numbers only in part. Does Mamba-3 need any? We count the operations that touch one.

# %%
from torch.utils._python_dispatch import TorchDispatchMode

from mamba2_lab.layers import turning


class Complex(TorchDispatchMode):
    """Counts operations, and those that take or give a complex number."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        seen.append(any(torch.is_tensor(part) and part.is_complex() for part in (*args, result)))
        return result


# %%
predict("operations on complex numbers", "How many will the layer of above make, of all its operations?", unit="")

# %%
seen = []
with Complex():
    package(u)
print(f"the layer: {sum(seen)} of {len(seen)} operations")
outcome("operations on complex numbers", sum(seen))

# %%
seen = []
text = [torch.randn(1, 4, 1, size) for size in (4, 8, 8)]
with Complex():
    turning(text[0], torch.zeros(1, 4, 1), torch.rand(1, 4, 1, 4), *text[1:])
print(f"control, the first way, four tokens: {sum(seen)} of {len(seen)} operations")

# %% [markdown]
# The third way took them all out. So the layer needs nothing of a device but what Mamba-2 needs, and a sine and a
# cosine. (MPS: checked by emulation on Linux; not run on Apple hardware.)
#
# ## Recap
#
# - A decay between 0 and 1 never turns anything round. Under a held switch what a head reads goes one way, so no
#   threshold tells odd from even for long.
# - A state that turns can count. Complex numbers, pairs of real ones and turned B and C are three ways to the same
#   numbers; the last costs a scan nothing.
# - The trapezoidal rule writes at both ends of a step. At λ = 1/2 its error falls with the square of the step.
# - Ranks make more of each byte that a token has to fetch.
# - A program that agrees with itself may still be wrong. Compare it with another that shares none of its code.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("parity", "complex number", "rotary embedding", "Euler's rule", "trapezoidal rule", "order", "heavy tail")
glossary("SISO", "MIMO")

# %% [markdown]
# ## On your own
#
# Training found the turns, this time. Train the tiny Mamba-3 modulo 3 from other seeds, and modulo 5: how many of ten
# learn it? Then ask for more than counting. Let a text add and multiply digits modulo 5, from left to right, and ask
# for the result after each. The turns of one head all commute: to turn by this and then by that is to turn by that and
# then by this. To add and to multiply do not. How far does one layer come, and how far two?
#
# ## To read on
#
# - A. Lahoti and others, [Mamba-3](https://arxiv.org/abs/2603.15569).
# - R. Grazzi and others, [Unlocking state-tracking in linear RNNs through negative
#   eigenvalues](https://arxiv.org/abs/2411.12537).
# - W. Merrill, J. Petty and A. Sabharwal, [The illusion of state in state-space
#   models](https://arxiv.org/abs/2404.08819).
#
# **Before**: [12, MPS vs CPU](12_mps_vs_cpu.ipynb). **Next**: [14, Real checkpoints](14_real_checkpoints.ipynb) loads
# published models.
