# %% [markdown]
# # A loop, a convolution and a matrix compute the same memory
#
# After this notebook you can
#
# 1. compute one fixed memory in three ways, and say why they agree;
# 2. build its kernel and its matrix from decays, and count what each way costs;
# 3. say what only the loop gives, and why the convolution ends where the memory begins to choose.
#
# **You need** notebook 01, and the product of a matrix and a vector.
# **Time**: 80 minutes for you, 60 of them for the exercises; under a minute for the machine.

# %% [markdown]
# ## Three barrels and a gauge
#
# The rain of notebook 01 falls into three barrels with different leaks. Barrel $i$ catches $B_i$ of it, and a gauge
# shows one number, the sum of the levels with weights $C_i$: that is the *output*, $y$.
#
# $$h_t = e^{\text{log decay}} \odot h_{t-1} + B\,x_t \qquad\qquad y_t = C \cdot h_t$$
#
# The state $h$ is now a vector with an entry for each barrel, and $\odot$ multiplies entry by entry. We take twelve
# hours of rain, in centimetres. The slowest barrel gets a negative weight and the next one a positive weight, so the
# gauge compares the rain of the last hours with that of the hours before.

# %%
import torch

x = torch.tensor([0.0, 0.3, 0.3, 0, 0, 0.1, 0.6, 0.2, 0, 0, 0, 0])
log_decay = torch.tensor([-0.1, -0.35, -1.5])
B = torch.tensor([0.5, 1.0, 1.0])
C = torch.tensor([-1.2, 1.3, -0.2])
l, n = len(x), len(B)

# %% [markdown]
# ## The loop
#
# One hour is one *step*: the old water fades, the rain comes in, the gauge is read.
#
# ### Exercise: one step ★
#
# ★ three operations, in the right order · importance 3 of 3 · 5 minutes · needed for `sequential`, the next exercise
#
# $(\ldots, n)$ stands for any axes before the last: a single row of barrels, or many rows at once. Mamba-2 has many
# rows, and this same function will serve them all.

# %%
from mamba2_lab.course import exercise


@exercise("step")
def step(x_t, log_decay_t, B_t, C_t, state):
    """x_t (...), the others (..., n) -> (y_t (...), the new state (..., n)). The given state is left as it was."""
    ...


# %%
from mamba2_lab.course import outcome, predict

predict(
    "gauge",
    "The barrels are empty, and 1 cm of rain falls. What do they hold, and what does the gauge show?",
    unit="cm on the gauge",
)

# %%
y_0, state = step(torch.tensor(1.0), log_decay, B, C, torch.zeros(n))
print("levels:", state)
print(f"gauge:  {y_0:.2f}")
outcome("gauge", y_0.item())


# %% [markdown] tags=["answer"]
# What has just been caught has not faded: the levels are $B$, and the gauge shows $C \cdot B$.

# %% [markdown]
# ### Exercise: the whole sequence ★
#
# ★ a loop over `step` · importance 3 of 3 · 5 minutes · needed for all comparisons of this notebook
#
# Every argument has a row for each hour, so the rule may change with time. For now it does not.

# %%
@exercise("sequential")
def sequential(x, log_decay, B, C, initial_state):
    """x (l,); log_decay, B, C (l, n); initial_state (n,) -> (y (l,), the final state (n,))."""
    ...


# %%
def every_hour(row):
    return row.expand(l, n)  # the same row for each hour


rule = every_hour(log_decay), every_hour(B), every_hour(C)
y, final_state = sequential(x, *rule, torch.zeros(n))
print(y)


# %% [markdown]
# ## The convolution
#
# The rule is the same at every hour, and the output is linear in the rain: twice the rain shows twice as much, and two
# showers show the sum of what each would show alone. Such a system is called *linear time-invariant*, or *LTI*. To know
# such a system wholly, it is enough to know what it does after a rain of 1: its impulse response. Every shower $x_s$
# makes an echo of its own, $x_s$ times the impulse response, which begins at hour $s$; and the output is the sum of all
# echoes:
#
# $$y_t = K_0\,x_t + K_1\,x_{t-1} + \dots + K_t\,x_0 \qquad\qquad K_t = \sum_i C_i\, e^{t\,\text{log decay}_i}\, B_i$$
#
# A sum of this form is a *convolution* of $x$ with the *kernel* $K$. It is *causal*: $y_t$ depends on the rain up to
# hour $t$ only.
#
# ### Exercise: the kernel ★★
#
# ★★ a table of powers, then a sum · importance 2 of 3 · 10 minutes · needed for the convolution, the matrix and the FFT
# below

# %%
@exercise("kernel")
def kernel(log_decay, B, C, l):
    """log_decay, B, C (n,) -> (l,): what the gauge shows t = 0 ... l-1 hours after a rain of 1."""
    ...


# %% [markdown]
# It must be what the loop gives for a rain of 1 in the first hour:

# %%
K = kernel(log_decay, B, C, l)
impulse = torch.eye(l)[0]  # 1, 0, 0, ...
torch.testing.assert_close(K, sequential(impulse, *rule, torch.zeros(n))[0])
print(K)

# %% [markdown]
# The kernel is above 0 up to three hours after the rain, and below 0 from then on: at first rain makes the gauge rise,
# later it makes it fall.

# %%
from mamba2_lab import plots

plots.show(plots.echoes(x, K))


# %% [markdown]
# ### Exercise: the convolution ★★
#
# ★★ a sum whose indices run against each other · importance 2 of 3 · 10 minutes · needed for the comparison of costs

# %%
@exercise("convolution")
def convolution(x, weights):
    """x (l,), weights (l,) -> (l,): y_t = weights[0] x[t] + weights[1] x[t-1] + ... + weights[t] x[0]."""
    ...


# %%
print("largest difference from the loop:", (convolution(x, K) - y).abs().max().item())


# %% [markdown]
# ## The matrix
#
# Each $y_t$ is a weighted sum of the inputs, so all of them together are a matrix times $x$. Row $t$ holds the weights
# of $y_t$: $K_0$ on the diagonal, $K_1, K_2, \dots$ to its left, and zeros to its right, because the system is causal. The entry depends on the lag $t - s$ only, so it is constant along every diagonal: a *Toeplitz* matrix.
#
# ### Exercise: the matrix ★★
#
# ★★ a table of lags · importance 3 of 3 · 10 minutes · needed for the matrix that notebooks 04 and 05 cut into blocks

# %%
@exercise("toeplitz")
def toeplitz(weights):
    """weights (l,) -> (l, l): the matrix M with M @ x equal to the convolution of x with the weights."""
    ...


# %%
predict(
    "differences",
    "Three computations, one system: how large may their differences be in float32, where a number has about seven "
    "digits?",
    ["exactly 0", "less than a millionth", "about a thousandth"],
)

# %%
M = toeplitz(K)
for name, other in {"convolution": convolution(x, K), "matrix": M @ x}.items():
    difference = (other - y).abs().max().item()
    print(f"{name} and loop differ by at most {difference:.1e}")
    assert difference < 1e-6
outcome("differences", f"{difference:.0e}")

# %% [markdown]
# ## Hour by hour
#
# Below is hour 7 of each. The loop has three levels in hand and nothing else. The convolution lays the kernel backwards
# over all the rain so far. The matrix has a row for the hour.

# %%
states = torch.stack([sequential(x[: t + 1], *[part[: t + 1] for part in rule], torch.zeros(n))[1] for t in range(l)])
plots.show(plots.three_computations(7, x, states, C, K, M))

# %% [markdown]
# Now move through the hours, with the mouse or with the arrow keys. (If the slider is gone after you reloaded the page,
# run its cell again.) When does a shower begin to push the gauge down, and where do you see that in each panel?

# %%
from mamba2_lab import widgets

widgets.StepScrubber(x, states, C, K, M)


# %% [markdown]
# ## The convolution has a short cut
#
# Written as a sum, a convolution of length $l$ takes about $l^2/2$ products. The *Fourier transform* writes a sequence
# as a sum of waves, and for waves a convolution is a product, frequency by frequency. The *fast Fourier transform*,
# *FFT*, gets there and back with about $l \log l$ operations. There is a catch, and the exercise is to find it.
#
# ### Exercise: the FFT convolution ★★★
#
# ★★★ short, but with a trap · importance 1 of 3 · 20 minutes · needed for the comparison of costs; Mamba-2 has no use
# for it

# %%
@exercise("fft_convolution")
def fft_convolution(x, weights):
    """x (l,), weights (l,) -> (l,): as `convolution`, with about l log l operations."""
    ...


# %%
torch.testing.assert_close(fft_convolution(x, K), y, rtol=0, atol=1e-6)

# %% [markdown]
# ## What each one costs
#
# We count *multiply-adds*, a multiplication and an addition each. The loop needs $3n$ for each hour (fade, write, read),
# the convolution $l(l+1)/2$ in all, and the matrix $l^2$, because it multiplies its zeros too. An FFT of length $2l$
# takes about $2l \log_2 2l$, and there are three of them. Kernel and matrix are built beforehand; the rule never
# changes, so once is enough.

# %%
predict(
    "fewest of four",
    "Which of the four needs the fewest multiply-adds for 2,048 hours? And which for 8?",
    ["loop", "convolution", "matrix", "FFT"],
)

# %%
import math

lengths = [8, 32, 128, 512, 2048]
counted = {
    "loop": [3 * n * l for l in lengths],
    "convolution": [l * (l + 1) / 2 for l in lengths],
    "matrix": [l**2 for l in lengths],
    "FFT": [3 * 2 * l * math.log2(2 * l) for l in lengths],
}

# %%
plots.show(plots.multiply_adds_by_length(lengths, counted))
outcome("fewest of four", min(counted, key=lambda name: counted[name][-1]))


# %% [markdown] tags=["answer"]
# The loop, for a long sequence: it is the only one whose work grows as the length and no faster. Do all four still agree
# on long sequences?

# %%
def ways(l):
    rain = torch.rand(l, generator=torch.Generator().manual_seed(2))
    rows = [row.expand(l, n) for row in (log_decay, B, C)]
    weights = kernel(log_decay, B, C, l)
    matrix = toeplitz(weights)
    return {
        "loop": lambda: sequential(rain, *rows, torch.zeros(n))[0],
        "convolution": lambda: convolution(rain, weights),
        "matrix": lambda: matrix @ rain,
        "FFT": lambda: fft_convolution(rain, weights),
    }


# %%
for length in lengths:
    outputs = {name: compute() for name, compute in ways(length).items()}
    size = outputs["loop"].abs().max()
    worst = max((output - outputs["loop"]).abs().max() / size for output in outputs.values()).item()
    assert worst < 1e-5
    print(f"{length:>5} hours: they agree to {worst:.0e}")

# %% [markdown]
# The least work is not always the least time. The loop has to wait for each hour before it can begin the next, while
# the other three compute all hours at once: notebook 05 puts a clock beside the count. S4, the ancestor of Mamba, was
# trained with FFTs (section 2.4 of arXiv:2111.00396). The matrix does the most arithmetic of all, and yet we shall need
# it most: it is the form that can be cut into blocks (notebook 05 again).
#
# ## What only the loop gives
#
# The loop ends with a state, and a state is all that is needed to go on.

# %%
predict(
    "afternoon",
    "We stop after hour 6, throw the rain away and keep the levels. Can the loop finish the day? And can the "
    "convolution, with the rain of the afternoon only?",
    ["the loop alone", "the convolution alone", "both", "neither"],
)

# %%
_, levels = sequential(x[:7], *[part[:7] for part in rule], torch.zeros(n))
afternoon, _ = sequential(x[7:], *[part[7:] for part in rule], levels)
off = [(part - y[7:]).abs().max().item() for part in (afternoon, convolution(x[7:], K[:5]))]
print(f"loop:        off by up to {off[0]:.2f}, from", levels.numel(), "numbers")
print(f"convolution: off by up to {off[1]:.2f}")
right = [name for name, error in zip(("the loop", "the convolution"), off, strict=True) if error < 1e-4]
outcome("afternoon", {0: "neither", 2: "both"}.get(len(right)) or f"{right[0]} alone")

# %% [markdown] tags=["answer"]
# The convolution misses the echoes of the morning. To go on, it would have to keep all the rain there was: a memory that
# grows, as a transformer's does. When a model writes, token after token, the loop is the way to go: each token costs the
# same.

# %% [markdown]
# ## The day the rule changes
#
# At hour 6 somebody opens the leaks: every log decay becomes four times what it was.

# %%
changing = every_hour(log_decay).clone()
changing[6:] *= 4
y_changing, _ = sequential(x, changing, *rule[1:], torch.zeros(n))
print(f"the old kernel is off by up to {(convolution(x, K) - y_changing).abs().max():.2f}")


# %% [markdown]
# The loop did not even notice: it takes each hour's row as it comes. Is there a new kernel that would do? A kernel says
# that a shower makes the same echo whenever it falls. We let 1 cm fall at hour 0, and then at hour 6.

# %%
def echo_of(s, log_decay):
    return sequential(torch.eye(l)[s], log_decay, *rule[1:], torch.zeros(n))[0][s:]


print("after hour 0:", echo_of(0, changing)[:6])
print("after hour 6:", echo_of(6, changing))

# %% [markdown]
# Two different echoes: there is no kernel any more, and without it neither a convolution nor an FFT. The matrix stays.
# Its column $s$ is the echo of hour $s$, whatever that may be; only the diagonals are no longer constant.

# %%
impulses = torch.eye(l)
columns = [sequential(impulse, changing, *rule[1:], torch.zeros(n))[0] for impulse in impulses]
M_changing = torch.stack(columns, dim=1)
torch.testing.assert_close(M_changing @ x, y_changing)

# %%
plots.show(plots.matrices({"one rule for all hours": M, "leaks opened at hour 6": M_changing}))


# %% [markdown]
# Mamba changes the rule at every token, because what to keep depends on what comes in. So it gave up the convolution
# (section 3.2 of arXiv:2312.00752), and Mamba-2 found a quick way to compute with the matrix instead. Notebook 03 shows
# what the change is good for, notebooks 04 and 05 the quick way.
#
# ## Break it: the evening leaks into the morning
#
# Take the Fourier transforms at the length of the sequence, without zeros behind it. Nothing complains, and every shape
# is right. But for the transform a sequence is one turn of a circle: what runs out at the end comes in again at the
# beginning.

# %%
def circular(x, weights):
    product = torch.fft.rfft(x) * torch.fft.rfft(weights)
    return torch.fft.irfft(product, n=len(x))


plots.show(plots.two_outputs(x, y, circular(x, K), "without zeros"))

# %%
predict(
    "evening rain",
    "We add 1 cm of rain in the last hour. At how many of the twelve hours does the output change if no zeros were "
    "added?",
    unit="hours",
)

# %%
more_rain = x + torch.eye(l)[-1]
for name, compute in {"with zeros": fft_convolution, "without": circular}.items():
    changed = (compute(more_rain, K) - compute(x, K)).abs() > 1e-6
    print(f"{name:10}  changed at hours {changed.nonzero().flatten().tolist()}")
outcome("evening rain", len(changed.nonzero()))

# %% [markdown] tags=["answer"]
# The evening's rain shows in the morning. In a language model this is worse than a wrong number. In training it lets
# every position see a little of the tokens to come, and the loss may look better for it. When the model then writes,
# the tokens to come are not there. The test that finds it is the one we have just made: change an input, and see
# whether an earlier output moves. It costs two calls, and every model that calls itself causal should pass it.

# %% [markdown]
# ## Recap
#
# - A linear system whose rule never changes is a loop over states, a convolution with a kernel, and a Toeplitz matrix:
#   one map, three computations.
# - The kernel is the impulse response, $K_t = \sum_i C_i\,e^{t\,\text{log decay}_i}\,B_i$. The matrix holds it along
#   its diagonals.
# - The convolution needs the whole sequence at once. The loop alone has a state to continue from.
# - If the rule changes with time there is no kernel any more; the loop and the matrix remain.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("recurrence", "linear time-invariant", "kernel", "causal")

# %% [markdown]
# ## On your own
#
# Build a gauge of your own choice. Say it should show the mean rain of the last four hours: a kernel of four times 1/4,
# and then zeros. How near do you get with three barrels, and how near with ten? (Fix a few log decays; then the best
# products $C_i B_i$ are a least-squares fit.) What can no number of barrels do exactly?
#
# ## To read on
#
# - A. Gu and others, [Combining recurrent, convolutional, and continuous-time models](https://arxiv.org/abs/2110.13985):
#   one layer, seen in these three ways.
# - S. Rush and S. Karamcheti, [The Annotated S4](https://srush.github.io/annotated-s4/): the convolution by FFT, in code.
#
# **Before**: [01, A memory that fades](01_a_memory_that_fades.ipynb). **Next**:
# [03, Choosing what to remember](03_choosing_what_to_remember.ipynb) lets the rule depend on the input.
