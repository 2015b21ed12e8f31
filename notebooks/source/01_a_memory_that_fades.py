# %% [markdown]
# # A number that leaks is a memory that fades
#
# After this notebook you can
#
# 1. write the recurrence at the heart of Mamba-2, and say after how many steps half of a memory is left;
# 2. turn a leak in continuous time into steps of any length, exactly and as Mamba-2 does it;
# 3. build a memory that lasts for a given number of steps, and tell from several memories when something happened.
#
# **You need** PyTorch tensors, and the exponential and its logarithm. A language model was at work in notebook 00; here
# we start again from a single number.
# **Time**: 80 minutes for you, 55 of them for the exercises; under a minute for the machine.

# %% [markdown]
# ## A barrel knows what the weather was
#
# Rain falls into a barrel that leaks. Every hour a fifth of the water is lost, and then the rain of that hour comes in.
# Whoever finds water in the barrel knows that it has rained, and can guess from the level how long ago.
#
# The level is all that the barrel keeps of the past: it is the *state*, written $h$. The rain is the *input*, $x$. The
# share that is kept from one hour to the next is the *decay*, here $a = 0.8$:
#
# $$h_t = a\, h_{t-1} + x_t$$
#
# A rule that makes each state from the one before it and the newest input is called a *recurrence*.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "level",
    "It rains 10 mm in the first hour and 5 mm in the fourth. How high does the water stand then?",
    unit="mm",
)

# %%
h = 0.0
for x_t in [10.0, 0.0, 0.0, 5.0]:
    h = 0.8 * h + x_t
    print(f"rain {x_t:4.1f} mm, level {h:5.2f} mm")
outcome("level", h)

# %% [markdown]
# ### Exercise: all the levels ★
#
# ★ a loop that you have just seen · importance 3 of 3 · 5 minutes · needed for every figure of this notebook
#
# An exercise is a function whose body you write in place of the three dots. Run the cell: it is checked at once. As
# long as your answer is missing or not right yet, a reference takes its place, so the notebook always runs to its end.

# %%
import torch

from mamba2_lab.course import exercise


@exercise("levels")
def levels(x, decay):
    """x (l,), decay a number -> (l,): the level after each hour, of a barrel that was empty before the first."""
    ...


# %% [markdown]
# Now two days of weather, drawn at random from a fixed seed: it rains in about one hour of five.

# %%
generator = torch.Generator().manual_seed(1)
it_rains = torch.rand(48, generator=generator) < 0.2
rain = it_rains * 10 * torch.rand(48, generator=generator)

# %%
from mamba2_lab import plots

plots.show(plots.rain_and_level(rain, levels(rain, decay=0.8)))

# %% [markdown]
# ## What one shower leaves behind
#
# Let 1 mm fall in the first hour and nothing after it. What a system does after such an input, a single 1 followed by
# zeros, is called its *impulse response*.

# %%
impulse = torch.zeros(48)
impulse[0] = 1.0
response = levels(impulse, decay=0.8)
print(response[:6])

# %% [markdown]
# Each step multiplies by the decay, so after $t$ steps $a^t$ should be left. We verify it.

# %%
t = torch.arange(48)
torch.testing.assert_close(response, 0.8**t)

# %% [markdown]
# Powers are easier to handle as exponentials. With the *log decay* $\ln a$, a negative number, $a^t = e^{t \ln a}$:
# the log decays of many steps simply add up. A log decay of 0 keeps everything; the more negative it is, the more is
# lost.
#
# ### Exercise: the half-life ★
#
# ★ one equation to solve · importance 3 of 3 · 5 minutes · needed for `dt_to_remember`, and the half-lives of notebooks
# 07 and 10
#
# The *half-life* is the number of steps after which half is left. It need not be a whole number.

# %%
import math


@exercise("half_life")
def half_life(log_decay):
    """log_decay (...), negative -> (...): the number of steps, not rounded, after which half is left."""
    ...


# %%
predict(
    "half-lives",
    "A decay of 0.9 halves the level in between 6 and 7 steps. How long does 0.999 take?",
    unit="steps",
)

# %%
for decay in (0.9, 0.99, 0.999):
    steps = half_life(torch.tensor(decay).log())
    print(f"decay {decay}: half is left after {steps:.1f} steps")
outcome("half-lives", steps.item())

# %% [markdown] tags=["answer"]
# Ten times as close to 1, ten times as long. A long memory lives in the third digit of its decay. This is why the
# Mamba-2 of this course keeps log decays and states in float32, whatever the rest of the model computes in.

# %% [markdown]
# ## Time does not come in steps
#
# A real barrel does not wait for the full hour. Its level changes all the time: it loses water in proportion to the
# level, and gains what the rain brings.
#
# $$h'(t) = A\,h(t) + B\,x(t)$$
#
# $A$ is the rate of the leak, a negative number: $A = -0.5$ loses half of the present level per hour, as long as the
# level stays what it is. $B$ says how much of the rain the barrel catches; ours catches 1. Without rain the solution is
# $h(t) = e^{At} h(0)$, because the derivative of $e^{At}$ is $A e^{At}$. After a time $dt$ the level has been
# multiplied by $e^{dt\,A}$, whatever it was: that is the decay of a step of length $dt$, and its log decay is $dt\,A$.

# %%
predict(
    "an hour",
    "With `A = -0.5`, how much is left after one hour? We take ten thousand tiny steps along the slope.",
    ["less than half", "half", "more than half"],
)

# %%
h, tiny = 1.0, 1e-4
for _ in range(10_000):
    h += tiny * -0.5 * h
print(f"tiny steps: {h:.4f}; exp(dt A): {math.exp(1.0 * -0.5):.4f}")
outcome("an hour", "more than half" if h > 0.5 else "less than half")


# %% [markdown] tags=["answer"]
# More than half: the leak slows down as the level falls.

# %% [markdown]
# What if it rains meanwhile? Say the rain $x$ is held constant during the step. Then
#
# $$h(t + dt) = e^{dt\,A}\, h(t) + \frac{e^{dt\,A} - 1}{A}\, B\,x.$$
#
# <details><summary>Why so? (a proof of four lines)</summary>
#
# There is one level at which leak and rain cancel, $A h^* + B x = 0$, so $h^* = -Bx/A$. The distance $h - h^*$ changes
# at the rate $h' = A h + B x = A\,(h - h^*)$: it fades as the level of a barrel without rain does. Over a step,
#
# $$h(t + dt) - h^* = e^{dt\,A}\,(h(t) - h^*),$$
#
# and with $h^*$ written out this is the formula above.
#
# </details>
#
# To turn a rate in continuous time into what happens in a step is to *discretise* it. This way, exact for an input that
# is held constant during each step, is called *zero-order hold*. (The gain is what multiplies $B\,x$.)
#
# ### Exercise: the exact step ★★
#
# ★★ two factors to read off, and digits to save · importance 2 of 3 · 10 minutes · needed for the comparison with
# Mamba-2's step

# %%
@exercise("zero_order_hold")
def zero_order_hold(dt, A):
    """dt, A tensors of one shape, A < 0 -> (decay, gain): h becomes decay * h + gain * (B x) in a step of length dt."""
    ...


# %% [markdown]
# An exact step does not care how often we look: one step of an hour must lead to the same level as four steps of a
# quarter of an hour. The rain is given hour by hour.

# %%
shower = torch.tensor([0.0, 3, 3, 0, 0, 1, 6, 2, 0, 0, 0, 0])  # mm per hour


def look(times_an_hour):
    dt = torch.tensor(1 / times_an_hour)
    decay, gain = zero_order_hold(dt, torch.tensor(-0.5))
    return levels(gain * shower.repeat_interleave(times_an_hour), decay)


torch.testing.assert_close(look(1), look(4)[3::4])

# %%
names = {100: "at every moment", 1: "looked at once an hour", 4: "four times an hour"}
plots.show(plots.looks(shower, {name: (1 / times, look(times)) for times, name in names.items()}))

# %% [markdown]
# ## Mamba-2 takes a simpler gain
#
# For a short step $e^{dt\,A} \approx 1 + dt\,A$, and the gain $(e^{dt\,A} - 1)/A$ is nearly $dt$. Mamba-2 keeps the
# exact decay and writes with $dt$ alone:
#
# $$h_t = e^{dt\,A}\, h_{t-1} + dt\,B\,x_t$$
#
# Mamba's paper gives the exact form (section 2 of arXiv:2312.00752), its code the simple one; asked about that, an
# author answered that it is simpler and performs as well (github.com/state-spaces/mamba, issue 114). How far
# apart are they? That depends on the product $dt\,A$ alone. The band marks where the heads of a new Mamba-2 begin: all
# states of a *head* share one $A$ and one $dt$, and the official code draws $-A$ from 1 to 16 and $dt$ from 0.001 to
# 0.1.

# %%
from mamba2_lab import Mamba2Config

config = Mamba2Config()
least = config.dt_min * config.A_init_range[0]
most = config.dt_max * config.A_init_range[1]
decay, gain = zero_order_hold(torch.tensor(config.dt_max), torch.tensor(-config.A_init_range[1]))
print(f"-dt A is drawn between {least} and {most}")
print(f"at {most:.1f} the exact gain is {gain / config.dt_max:.2f} dt, and {decay:.2f} of the old is kept")

# %%
plots.show(plots.exact_and_simple((least, most)))


# %% [markdown]
# What is written too strongly can be weakened by a smaller $B$, and $B$ is learned. An error in what is kept, however,
# would be multiplied again at every step.
#
# ### Exercise: discretise ★
#
# ★ two products · importance 3 of 3 · 5 minutes · needed for every step of the model: notebook 06 uses yours
#
# These are the two numbers that every step of this course's model is made of, and `mamba2_lab.scan` takes them as they
# are: what is written, and the log decay.

# %%
@exercise("discretise")
def discretise(x, dt, A):
    """x, dt, A of one shape, A < 0 -> (x_dt, log_decay): what a step writes, and the logarithm of what it keeps."""
    ...


# %%
predict(
    "three barrels",
    "Three barrels get the same rain. The second leaks at half the rate of the first, and its step is twice as "
    "long. What do the two have in common? And what does the third do, with `dt = 0`?",
)

# %%
dt, A = torch.tensor([0.1, 0.2, 0.0]), torch.tensor([-1.0, -0.5, -1.0])
written, log_decay = discretise(torch.ones(3), dt, A)
print("written:  ", written)
print("log decay:", log_decay)
outcome("three barrels")

# %% [markdown] tags=["answer"]
# They fade alike, because only the product $dt\,A$ counts for that, but the second writes twice as much. So $A$ sets how
# fast time works on a memory, and $dt$ how much time passes. Time does two things: it makes the memory forget, and it
# lets it take in. With $dt = 0$ no time passes: nothing is lost, nothing is written, and the state goes through
# untouched.

# %% [markdown]
# ## Two sliders
#
# The figure shows what is left of one shower after each step. Steps 20 and 21 are dark.

# %%
plots.show(plots.fading(dt=0.1, A=-1.0))

# %% [markdown]
# Move the sliders, with the mouse or with the arrow keys. (Save before you reload the page. If the sliders are gone all
# the same, run their cell again.) Can you find a `dt` for which the bar at step 20 ends above the line, and the bar at
# 21 below it? And another one for $A = -16$?

# %%
from mamba2_lab import widgets

widgets.FadingExplorer()


# %% [markdown]
# ### Exercise: remember for exactly so many steps ★★
#
# ★★ a bound on each side · importance 1 of 3 · 10 minutes · needed for a feeling for dt; nothing is built on it
#
# Let us say that a memory lasts for 20 steps if more than half is left after 20 of them, and less than half after 21.
# In Mamba-2 the $A$ of a head is fixed once it is trained, while $dt$ is set anew at every step. So choose $dt$.

# %%
@exercise("dt_to_remember")
def dt_to_remember(steps, A):
    """steps a whole number, A < 0 a number -> dt > 0: over half is left after `steps` steps, less after one more."""
    ...


# %%
for A in (-1.0, -16.0):
    dt = dt_to_remember(20, A)
    left = [math.exp(steps * dt * A) for steps in (20, 21)]
    print(f"A = {A:5.1f}: dt = {dt:.5f}, left after 20 steps {left[0]:.3f}, after 21 steps {left[1]:.3f}")

# %% [markdown]
# ## Several barrels know when
#
# One level cannot tell a small shower just now from a big one long ago. Two barrels with different leaks can: both
# caught the same shower, and the faster leak has lost more of it since.

# %%
predict(
    "which barrel",
    "A shower of 2 mm fell 4 steps ago, or one of 6 mm some time earlier. Which of two barrels tells them apart?",
    ["the slow one", "the fast one"],
)

# %%
slow_and_fast, found = torch.tensor([-0.01, -0.2]), []
for size, steps in ((2.0, 4), (6.0, 9.5)):
    found.append(size * torch.exp(steps * slow_and_fast))
    print(f"{size:.0f} mm, {steps} steps ago:", found[-1])
slow, fast = (found[0] - found[1]).abs()
outcome("which barrel", "the slow one" if slow > fast else "the fast one")


# %% [markdown] tags=["answer"]
# The fast barrel holds almost the same both times; the slow one does not. Either of them alone could be fooled by a
# shower of the right size: only the two together tell size and time apart.

# %% [markdown]
# ### Exercise: steps since the shower ★★★
#
# ★★★ a slope through several points · importance 1 of 3 · 20 minutes · needed for seeing why a model has many decays;
# nothing is built on it

# %%
@exercise("steps_since")
def steps_since(levels, log_decay):
    """levels, log_decay (n,), n >= 2 -> scalar tensor: steps since one shower, of unknown size, filled n barrels."""
    ...


# %%
log_decay = torch.tensor([-0.1, -0.06, -0.03, -0.01])
left = 6.0 * torch.exp(torch.arange(61)[:, None] * log_decay)  # (steps, barrels)
for step in (5, 20, 50):
    print(f"read after {step} steps: the shower was {steps_since(left[step], log_decay):.2f} steps ago")

# %%
plots.show(plots.barrels(log_decay, left, [5, 20, 50]))

# %% [markdown]
# Several memories with different decays keep the *when* as well as the *what*. The heads of a new Mamba-2 start with
# half-lives that are spread widely. How widely?

# %%
shortest, longest = half_life(torch.tensor([-most, -least]))
print(f"half-lives at the start: from {shortest:.2f} to {longest:.0f} steps")

# %% [markdown]
# ## Break it: time that runs backwards
#
# A memory fades only if its log decay $dt\,A$ is negative. In the official code $A$ is learned as `A_log` and used as
# `-exp(A_log)`, and $dt$ is made positive by a function called softplus, which notebook 03 explains. A user of a
# PyTorch port reported decays that were very large, and a loss that was not a number: in the code that the user had
# written around it the softplus was missing, so $dt$ could be negative (github.com/alxndrTL/mamba.py, issue 53). A lost
# minus sign of $A$ does the same. Time runs backwards, and what should fade grows.
#
# There is a second way to grow: to do without the exponential and step along the slope, $h + dt\,A\,h = (1 + dt\,A)\,h$.
# This is *Euler's method*, the dashed line on the left of the figure above (*kept*).

# %%
predict(
    "growing",
    "The next cell has four decays: exp(-0.2), exp(0.2), 1 - 1.6 and 1 - 2.5. How many of them let a state grow?",
    unit="",
)

# %%
decays = {
    "exp(dt A), dt A = −0.2": math.exp(-0.2),
    "its sign lost: exp(+0.2)": math.exp(0.2),
    "1 + dt A, dt A = −1.6": 1 - 1.6,
    "1 + dt A, dt A = −2.5": 1 - 2.5,
}
for name, decay in decays.items():
    print(f"{name:24}  decay {decay:5.2f}, after 10 steps {decay**10:10.4g}, after 11 steps {decay**11:10.4g}")
outcome("growing", sum(abs(decay) > 1 for decay in decays.values()))

# %%
silence = torch.cat([torch.ones(1), torch.zeros(479)])  # one shower, and then nothing
runs = {name: levels(silence, decay).abs() for name, decay in decays.items()}
for name, size in runs.items():
    print(f"{name:24}  finite for {int(size.isfinite().sum())} of {len(size)} steps")

# %%
plots.show(plots.explosions(runs, limit=torch.finfo(torch.float32).max))

# %% [markdown]
# With a decay below 0, such as 1 + dt A = −0.6, the state fades too, but jumps from one sign to the other: no barrel
# does that. Below −1 it grows, and this is where Euler's method fails: for $dt\,A < -2$. Where heads begin, $-dt\,A$ is
# at most the number that we printed above, so such a model starts quietly. It breaks later, when it has learned a longer
# $dt$. The exponential cannot break: $e^{dt\,A}$ lies between 0 and 1 for every $dt > 0$ and $A < 0$.

# %% [markdown]
# ## Recap
#
# - $h_t = a\,h_{t-1} + x_t$: a memory of one number.
# - A step of length $dt$ keeps $e^{dt\,A}$, exactly; half is left after $\ln 2 / (-dt\,A)$ steps. Mamba-2 writes
#   $dt\,B\,x$ where the exact gain would be $(e^{dt\,A} - 1)/A$; $B$ is learned and can make up for it.
# - $dt$ is time: a long step forgets and takes in, $dt = 0$ lets the state pass. Keep $dt > 0$ and $A < 0$.
# - Memories with different decays, taken together, tell when something happened.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("state", "decay", "log decay", "half-life", "impulse response", "A", "dt", "discretise", "zero-order hold")

# %% [markdown]
# ## On your own
#
# Two showers, of unknown sizes and at unknown times, and as many barrels as you like. How many barrels does it take to
# tell all four numbers? Try it: make up two showers, read the levels, and find the four numbers again (a search over the
# two times will do, for with the times known the sizes are a least-squares fit). What happens when the times are close?
#
# ## To read on
#
# - S. Rush and S. Karamcheti, [The Annotated S4](https://srush.github.io/annotated-s4/): rates, steps and kernels in
#   code, for the ancestor of Mamba.
# - The two papers of notebook 00: section 2 of [Mamba](https://arxiv.org/abs/2312.00752) has the steps of this notebook.
#
# **Before**: [00, Start here](00_start_here.ipynb). **Next**:
# [02, One system, three computations](02_one_system_three_computations.ipynb) runs this memory as a loop, as a
# convolution and as a matrix.
