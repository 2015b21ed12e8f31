# %% [markdown]
# # A stopwatch lies until you know what it measures
#
# *MPS* is how PyTorch computes on the GPU of a Mac. **There is no number of MPS in the stored outputs:** the paths that
# MPS takes are checked by emulation on Linux, and were not run on Apple hardware. In its place stand the CPU that ran
# the notebook, recorded times of a server's CPU against its GPU, and an empty row that waits for your record. This
# notebook runs on any machine. It times what is there, and says what is not.
#
# After this notebook you can
#
# 1. time a computation honestly, and catch a time that cannot be true;
# 2. say what bounds an operation on your machine: the asking, the arithmetic, or the memory;
# 3. find the size from which on another device, or another way to compute, pays, and say what it costs in exactness.
#
# **You need** chunks (notebook 05), the whole block (06), and what a text leaves behind (09).
# **Time**: two hours for you, 55 minutes of them for the exercises; about two minutes for the machine.

# %%
import os

import torch

from mamba2_lab import keep_freed_memory
from mamba2_lab.health import choose
from mamba2_lab.machine import devices

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: fewer sizes, less time for each
torch.set_num_threads(1)  # one, except where threads are the question
keep_freed_memory()  # on Linux: each layer's temporaries lie where those of the layer before lay
place = choose().device
print({name: "here" if devices.is_available(name) else "absent" for name in ("cpu", "cuda", "mps")})
print(f"the device of this notebook is {choose()}")

# %% [markdown]
# No number in the text below is a time: all times are in the outputs, and yours will differ from those that are stored.
#
# One piece of the model comes with us all the way, the widest matrix of a layer, `in_proj`, in the shape of the preset
# `large`. Its weights are random; only sizes matter here.

# %%
from mamba2_lab import Mamba2Config, Mamba2LM

large = Mamba2LM(Mamba2Config.preset("large"), seed=0).requires_grad_(False)
config, in_proj = large.config, large.blocks[0].mixer.in_proj
u = torch.randn(512, config.d_model, generator=torch.Generator().manual_seed(12))
print(f"a prompt {tuple(u.shape)} through a matrix {tuple(in_proj.weight.shape)} gives {tuple(in_proj(u).shape)}")

# %% [markdown]
# ## Two of three stopwatches lie
#
# A GPU works beside the CPU. The CPU writes what is to be done into a queue and goes on at once; the GPU does it when
# its turn comes. This machine may have no GPU. So here is a stand-in, and it is honest about being one: a thread with a
# queue. It computes on the CPU and makes nothing faster. But it is like a GPU in the one thing that matters to a
# stopwatch: whoever asks does not wait.

# %%
import time
from concurrent.futures import ThreadPoolExecutor


# %%
class Queue:
    """A stand-in for a GPU: a thread that does what it is asked, one thing after another."""

    now = staticmethod(time.perf_counter)
    thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))

    def ask(self, work):
        self.last = self.thread.submit(work)

    def wait(self):
        self.last.result()


# %% [markdown]
# Three stopwatches for it. Two hold a mistake that is published again and again. Read them before you go on.

# %%
def stopwatch_a(machine, work):
    began = time.process_time()
    machine.ask(work)
    machine.wait()
    return time.process_time() - began


# %%
def stopwatch_b(machine, work):
    began = machine.now()
    machine.ask(work)
    return machine.now() - began


# %%
def stopwatch_c(machine, work):
    began = machine.now()
    machine.ask(work)
    machine.wait()
    return machine.now() - began


# %% [markdown]
# Two pieces of work for them. One is our product. The other sleeps for 30 milliseconds: for the CPU that is what it
# looks like when somebody else computes.

# %%
from mamba2_lab.course import outcome, predict

predict(
    "say about sleeper",
    "Which of them is right about the sleeper? (And which would also be wrong about a product that two threads "
    "compute?)",
    ["stopwatch_a", "stopwatch_b", "stopwatch_c"],
)

# %%
queue = Queue()
works = {"the product": lambda: in_proj(u), "30 ms elsewhere": lambda: time.sleep(0.03)}
queue.ask(works["the product"])  # once before the clock runs: a first call pays for what is set up once
queue.wait()
for name, work in works.items():
    times = {}
    for stopwatch in (stopwatch_a, stopwatch_b, stopwatch_c):
        times[stopwatch.__name__] = 1e3 * stopwatch(queue, work)
        queue.wait()
        print(f"{name:>15}, {stopwatch.__name__}: {times[stopwatch.__name__]:8.3f} ms")
outcome("say about sleeper", min(times, key=lambda name: abs(times[name] - 30)))

# %% [markdown] tags=["answer"]
# A reads `process_time`, the time that processors spent on this process. A process that sleeps, or waits for a GPU,
# spends none; two threads at work spend two seconds in one. *Wall time* is what a reader waits: `perf_counter`.

# %% [markdown]
# B does not wait. It times how long it takes to ask. To wait for a device is to *synchronise*:
# `torch.cuda.synchronize()`, `torch.mps.synchronize()`, and in this package `devices.synchronise(place)`. On a CPU
# there is nothing to wait for, and so the mistake sleeps until the code meets a GPU.

# %%
spans, looks = [], [time.perf_counter()]


def watched():
    start = time.perf_counter()
    in_proj(u)
    spans.append((start - looks[0], time.perf_counter() - looks[0]))


for act in (lambda: queue.ask(watched), queue.wait):
    act()
    looks.append(time.perf_counter())

# %%
from mamba2_lab import plots

asked, done = (look - looks[0] for look in looks[1:])
plots.show(
    plots.timeline({"we": [(0, asked)], "the queue": spans}, {"B, does not wait": (0, asked), "C, waits": (0, done)})
)

# %% [markdown]
# Now the device of this notebook. If it is the CPU, the two differ by chance only: there is nobody to wait for.

# %%
there, v = in_proj.weight.to(place), u.to(place)
waits = {"does not wait": lambda: None, "waits": lambda: devices.synchronise(place)}
for name, wait in waits.items():
    devices.synchronise(place)
    began = time.perf_counter()
    v @ there.T
    wait()
    print(f"{place.type}, {name}: {1e3 * (time.perf_counter() - began):.3f} ms")

# %% [markdown]
# ### Exercise: an honest timer ★★
#
# ★★ little code, and three things to forget · importance 3 of 3 · 10 minutes · needed for every time of this notebook
#
# One reading is not enough. The first call pays for what is set up once, and any other may be disturbed by something
# that has nothing to do with it. So: one call that does not count, and the median of the rest.

# %%
import statistics

from mamba2_lab.course import exercise


@exercise("median_seconds")
def median_seconds(machine, work, rounds):
    """Median seconds of one call. machine.ask(work) hands it over, machine.wait() waits, machine.now() is the clock."""
    ...


# %%
for name, work in works.items():
    print(f"{name:>15}: {1e3 * median_seconds(queue, work, rounds=7):.3f} ms")

# %% [markdown]
# ## The same work never takes the same time

# %%
predict(
    "time model layer",
    "We time a model of one layer again and again, 32 tokens each time. Which will be larger? (And the first call?)",
    ["the mean", "the median"],
)

# %%
fresh = Mamba2LM(d_model=512, n_layer=1, vocab_size=16, d_state=128, headdim=64, seed=1).requires_grad_(False)
seconds = []
for _ in range(40 if FAST else 120):
    began = time.perf_counter()
    fresh(torch.zeros(1, 32, dtype=torch.long))
    seconds.append(time.perf_counter() - began)

# %%
mean = statistics.mean(seconds[1:])
plots.show(plots.repeats(seconds, mean))
outcome("time model layer", "the mean" if mean > statistics.median(seconds[1:]) else "the median")

# %% [markdown] tags=["answer"]
# Something else can go wrong. Whoever times first one way and then another sees two different machines: in between it
# has become warm, or busy. So the ways must take turns. `benchmark.measure` does all of this: a call of each that does
# not count, turns, synchronised readings, and the median with both quartiles.

# %%
from mamba2_lab import benchmark

pair = {"in_proj": lambda: in_proj(u), "again": lambda: in_proj(u)}
for name, timing in benchmark.measure(pair, "cpu", seconds=0.3).items():
    low, median, high = (1e3 * value for value in (timing.low, timing.median, timing.high))
    print(f"{name:>8}: {median:.3f} ms, half of {timing.rounds} calls between {low:.3f} and {high:.3f}")

# %% [markdown]
# The same work under two names: the difference between the two lines is what no difference looks like. Believe none
# that is smaller.
#
# ## A tiny operation costs as much as a small one
#
# <details><summary>Why a call that nobody looks at comes first</summary>
#
# The sizes take turns. The one that comes after the largest finds everything pushed out of the processor's own small
# memory, its *cache*, and pays for that.
#
# </details>

# %%
predict(
    "add tensor itself",
    "We add a tensor to itself. How many times as long does it take for 1,024 numbers as for one?",
    unit="times",
)

# %%
sizes = [4**power for power in range(0, 10 if FAST else 12)]
numbers = {size: torch.ones(size, device=place) for size in sizes}
adding = {str(size): (lambda x=x: x + x) for size, x in [("after the largest", numbers[1]), *numbers.items()]}
found = benchmark.measure(adding, place, seconds=0.5)
add_seconds = [found[str(size)].median for size in sizes]
print(f"1,024 numbers take {add_seconds[5] / add_seconds[0]:.1f} times as long as one")

# %%
plots.show(plots.time_by_size(sizes, {f"x + x on {place.type}": add_seconds}, "numbers in x"), "adding")
outcome("add tensor itself", add_seconds[5] / add_seconds[0])

# %% [markdown] tags=["answer"]
# The level part is the *launch overhead*: Python, the choice of a kernel, memory for the result, and on a GPU the way
# into the queue and back. A GPU usually pays more for it than a CPU.

# %% [markdown]
# One token at a time is all tiny operations. How many does a step of `small` ask for, as it is defined? (`plainly`
# leaves all that the package knows to do faster aside.)

# %%
from torch.utils._python_dispatch import TorchDispatchMode

from mamba2_lab.operation import plainly


class Counting(TorchDispatchMode):
    """Counts operations that write a tensor. Views, which only look at one that is there, launch nothing."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for made in function._schema.returns:
            is_view = made.alias_info is not None and not made.alias_info.is_write
            launched.extend([function] if str(made.type) == "Tensor" and not is_view else [])
        return function(*args, **(kwargs or {}))


# %%
small = Mamba2LM.from_pretrained("small", device=place).requires_grad_(False)
_, cache = small.prefill(torch.zeros(1, 8, dtype=torch.long))
token, launched = torch.zeros(1, dtype=torch.long), []
with plainly(), Counting():
    small.step(token, cache)


# %%
def as_defined():
    with plainly():
        small.step(token, cache)


ways = {"as it is defined": as_defined, "as the package does it": lambda: small.step(token, cache)}
each, steps = min(add_seconds), benchmark.measure(ways, place, seconds=0.3)

# %%
print(f"{len(launched)} operations in {small.config.n_layer} layers, about {1e6 * each:.1f} µs to launch each")
print(f"so about {1e6 * len(launched) * each:.0f} µs of launching in a step")
for name, timing in steps.items():
    print(f"{name}: {1e6 * timing.median:.0f} µs a step")

# %% [markdown]
# No faster arithmetic helps against that. Two things do: fewer, larger operations, and more texts at once. The package
# does the first: on a CPU one call takes a token through all layers, in loops that are compiled for your processor.
#
# ## Two ceilings
#
# What bounds an operation that is large enough? It has to compute, and it has to fetch its numbers from memory. A
# machine has a ceiling for each, and both can be measured: with a large product of matrices, and by reading a long
# tensor once.

# %%
from mamba2_lab.benchmark import measures

side, length = (512, 2**24) if FAST else (1024, 2**26)
ceiling = benchmark.measure(measures.ceilings(place, n=side, numbers=length), place, seconds=0.5 if FAST else 2)
peak = 2 * side**3 / ceiling["matrix product"].low
bandwidth = 4 * length / ceiling["reading memory"].low
print(f"{peak / 1e9:,.1f} billion operations and {bandwidth / 1e9:,.1f} GB in a second")
print(f"{peak / bandwidth:.1f} operations in the time that one byte takes")


# %% [markdown]
# The faster quartile is taken here, not the median: a ceiling is what the machine can do when nothing disturbs it.
#
# ### Exercise: what a projection costs ★★
#
# ★★ two counts · importance 3 of 3 · 10 minutes · needed for the roofline
#
# An addition and a multiplication are one operation each. Bytes count when they pass through memory, once each.

# %%
@exercise("projection_cost")
def projection_cost(l, d_in, d_out, number_bytes):
    """l tokens (l, d_in) through a matrix (d_out, d_in) -> floating-point operations, and bytes read and written."""
    ...


# %%
predict(
    "prompt 512 tokens",
    "For a single token: how many operations does `in_proj` do for each byte that it moves? (And for 512 tokens? "
    "Which of the two waits for memory?)",
    unit="operations a byte",
)

# %%
d_out, d_in = in_proj.weight.shape
for l in (512, 1):
    operations, size = projection_cost(l, d_in, d_out, 4)
    print(f"{l:>3} tokens: {operations:>13,} operations, {size:>10,} bytes, {operations / size:6.1f} for each byte")
outcome("prompt 512 tokens", operations / size)

# %% [markdown] tags=["answer"]
# The matrix has to be read for one token as for 512. That is why a prompt is cheap and writing is slow, on every
# machine, and why one stores weights in fewer bits.

# %% [markdown]
# The other parts of a layer, counted the same way: what each must compute, and must at least read and write.

# %%
h, p, n, q, w = config.nheads, config.headdim, config.d_state, config.chunk_size, config.d_conv
d_inner, channels = config.d_inner, config.conv_dim


def scan_cost(l):
    """Chunks for a prompt (notebook 05), the recurrence for a single token."""
    if l == 1:
        return 6 * h * p * n, 4 * 2 * h * p * n
    return 2 * l * (q * n + q * h * p + 2 * h * p * n), 4 * l * (2 * h * p + 2 * n)


# %%
def costs(l):
    """Part of a layer -> (operations, bytes)."""
    return {
        "in_proj": projection_cost(l, d_in, d_out, 4),
        "convolution": (2 * w * l * channels, 4 * 2 * l * channels),
        "scan": scan_cost(l),
        "norm": (10 * l * d_inner, 4 * 3 * l * d_inner),  # about ten operations a number, gate and root included
    }


# %%
operations = {}
for group, l in {"a prompt of 512 tokens": 512, "one token": 1}.items():
    timed = benchmark.measure(measures.parts(place, preset="large", l=l), place, seconds=0.5 if FAST else 2)
    operations[group] = {part: (*cost, timed[part].median) for part, cost in costs(l).items()}

# %% [markdown]
# Each call takes the weights of the next layer, as a model does. One layer's weights would stay in the cache, and look
# faster than any model is.

# %%
predict(
    "draw before look",
    "Draw it before you look: along the bottom the operations for each byte, upwards the operations a second, and "
    "the two ceilings as a roof. Where does each part lie?",
)

# %%
plots.show(plots.roofline(peak, bandwidth, operations))
outcome("draw before look")


# %% [markdown] tags=["answer"]
# This picture is called a *roofline* (Williams, Waterman and Patterson, Communications of the ACM 52(4), 2009). It says
# where work is worthwhile: nothing can be gained above the roof.

# %% [markdown]
# It is a lie detector as well.
#
# ### Exercise: too fast to be true ★★
#
# ★★ two bounds, of which the larger counts · importance 2 of 3 · 10 minutes · needed for finding the clock that does
# not wait

# %%
@exercise("too_fast")
def too_fast(claims, peak, bandwidth):
    """claims: name -> (operations, bytes, seconds) -> names of those faster than peak and bandwidth allow, in order."""
    ...


# %%
cost, work = costs(512)["in_proj"], works["the product"]
queue.wait()
claims = {}
for stopwatch in (stopwatch_b, stopwatch_c):
    claims[stopwatch.__name__] = (*cost, stopwatch(queue, work))
    queue.wait()
print("cannot be true:", too_fast(claims, 2 * peak, 2 * bandwidth))


# %% [markdown]
# A ceiling may have been disturbed when it was measured, and be too low. So we leave a margin of two before we call
# anybody a liar.
#
# ## Where two curves meet
#
# Notebooks 04 and 05 had three ways to compute one scan. The quadratic one has least to ask for, and most to compute.
# From which length on do chunks pay, here?
#
# ### Exercise: the crossover ★★
#
# ★★ from the right end · importance 1 of 3 · 10 minutes · needed for the length from which on chunks are faster

# %%
@exercise("crossover")
def crossover(sizes, first, second):
    """Sizes, rising, and seconds of two ways at each -> the size from which on the second is faster, or None."""
    ...


# %%
lengths = [16, 32, 64, 128, 256] if FAST else [16, 32, 64, 128, 256, 512, 1024]
scans = {l: benchmark.measure(measures.scan_ways(place, l=l), place, seconds=0.3) for l in lengths}
curves = {way: [scans[l][way].median for l in lengths] for way in ("sequential", "quadratic", "chunked")}
meeting = crossover(lengths, curves["quadratic"], curves["chunked"])
print(f"chunks take less than the quadratic way from {meeting} tokens on")

# %%
plots.show(plots.time_by_size(lengths, curves, "tokens", meeting=meeting), "scans")

# %% [markdown]
# The same question for devices: from which size on does the GPU pay? There are two sizes to it, the width of a layer
# and the number of tokens. Where there is no GPU, we ask what can be asked: from which size on do more threads pay?
# Threads have a launch overhead, too: they must be woken, and waited for.

# %%
predict(
    "corner table first",
    "In which corner of the table will the second do best, the GPU or all threads?",
    ["narrow, one token", "narrow, many tokens", "wide, one token", "wide, many tokens", "it wins in none"],
)

# %%
threads = os.cpu_count() or 1
torch.set_num_threads(threads)
widths, tokens = ((64, 256), (1, 64)) if FAST else ((64, 128, 256, 512), (1, 8, 64, 512))
table = {}
for width in widths:
    for l in tokens:
        table[width, l] = benchmark.measure(measures.two_places(place, d_model=width, l=l), place, seconds=0.1)
torch.set_num_threads(1)
print("cuda and mps are absent: threads on the CPU" if place.type == "cpu" else f"the CPU and {place.type}")

# %%
first, second = next(iter(table.values()))
ratios = [[table[width, l][first].median / table[width, l][second].median for l in tokens] for width in widths]
plots.show(plots.ratio_map(widths, tokens, ratios, "d_model", "tokens", (first, second)), "here")
corners = {(0, 0): "narrow, one token", (0, -1): "narrow, many tokens"}
corners |= {(-1, 0): "wide, one token", (-1, -1): "wide, many tokens"}
best = max(corners, key=lambda at: ratios[at[0]][at[1]])
outcome("corner table first", corners[best] if ratios[best[0]][best[1]] > 1 else "it wins in none")

# %% [markdown] tags=["answer"]
# More threads pay where there is much to do, and where no other program wants the processor. A table in which they
# never pay tells of a busy machine. A table with a Mac's GPU against its CPU belongs here. It is missing until somebody
# has made one; how to make one is said below. But the package holds measurements from other machines, and among them is
# a server with one of NVIDIA's largest GPUs and sixteen CPU cores.

# %%
predict(
    "gpu times arithmetic",
    "That GPU has many times the arithmetic of all these cores. Is there a corner where they win?",
    ["yes", "no"],
)

# %%
server = {}
for record in benchmark.shipped():
    if record.measure == "crossover" and record.machine["device"] == "cuda":
        sizes = record.settings["d_model"], record.settings["l"]
        server.setdefault(sizes, {})[record.contestant] = record.timing.median
widths, tokens = (sorted({sizes[i] for sizes in server}) for i in (0, 1))
ratios = [[server[width, l]["cpu"] / server[width, l]["cuda"] for l in tokens] for width in widths]

# %%
plots.show(plots.ratio_map(widths, tokens, ratios, "d_model", "tokens", ("cpu", "cuda")), "server")

# %%
few = [ratio for row in ratios for l, ratio in zip(tokens, row, strict=True) if l <= 8]
print(f"up to 8 tokens the CPU wins in {sum(ratio < 1 for ratio in few)} of {len(few)} cells")
print(f"with {tokens[-1]} tokens through the widest it takes {ratios[-1][-1]:.1f} times as long as the GPU")
outcome("gpu times arithmetic", "yes" if min(map(min, ratios)) < 1 else "no")

# %% [markdown] tags=["answer"]
# For a few tokens the CPU often wins: a mixer is a few dozen operations, each has to be launched, and launching takes
# longer than the arithmetic. A GPU pays where there is much to do at once. (Does a cell stand out against its
# neighbours? Then something else was going on at that moment. Measure twice before you explain.)

# %% [markdown]
# ## Fast, and right?
#
# A time says nothing if the result is wrong. So a ledger, beside the times: how far off is each way, in each kind of
# number, on each device? We hold them against the recurrence in float64, with the very numbers that they were given.

# %%
from mamba2_lab import scan

x, dt, A, B, C = measures.scan_inputs("cpu", 1, 300, 8, 64, 1, 64)
ways = {"sequential": scan.sequential, "quadratic": scan.quadratic, "chunked": scan.chunked}


# %%
def stepped(x, log_decay, B, C):
    ys, state = [], torch.zeros(1, 8, 64, 64, device=x.device)
    for t in range(x.shape[1]):
        y, state = scan.step(x[:, t], log_decay[:, t], B[:, t], C[:, t], state)
        ys.append(y)
    return torch.stack(ys, dim=1), state


# %%
def error_of(way, kind, dtype):
    """Relative error of y against the recurrence in float64."""
    inputs = [part.to(dtype) for part in (x * dt[..., None], dt * A, B, C)]
    exact, _ = scan.sequential(*(part.double() for part in inputs))
    y, _ = way(*(part.to(kind) for part in inputs))
    return float((y.cpu().double() - exact).norm() / exact.norm())


# %%
predict(
    "decays sums states",
    "Decays, sums and states are float32 on every row; in the second and third column only what goes in and what "
    "comes out has 16 bits. Will the rows differ by more than a half there? (There is one exception: on cuda, "
    "`chunked` "
    "rounds the factors of its products to bfloat16 when B and C come so, and is further off. The reason comes below.)",
    ["yes", "no"],
)

# %%
kinds = [kind for kind in ("cpu", "cuda", "mps") if devices.is_available(kind)]
dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ledger = {
    name: {f"{kind} {kind_of}": error_of(way, kind, dtype) for kind in kinds for kind_of, dtype in dtypes.items()}
    for name, way in {**ways, "step by step": stepped}.items()
}

# %%
plots.show(plots.error_ledger(ledger, "relative error of y against float64"))
print("no column for:", ", ".join(kind for kind in ("cuda", "mps") if kind not in kinds) or "nothing, all are here")
half = [[error for of, error in errors.items() if of in ("cpu bfloat16", "cpu float16")] for errors in ledger.values()]
outcome("decays sums states", "yes" if any(max(of) > 1.5 * min(of) for of in zip(*half, strict=True)) else "no")

# %% [markdown] tags=["answer"]
# `mamba2-lab doctor` keeps such a ledger for every operation of the model, and for whole models. A device is chosen by
# itself only if it agrees with the CPU.

# %% [markdown]
# ## Fewer bits
#
# Reading weights bounds a step; in 16 bits they are half as many bytes. What does that cost? We ask in the currency of
# notebook 08, bits per byte, on texts that `small` was not trained on. *Mixed precision* is the fourth row: weights
# stay in float32, and `torch.autocast` rounds what goes into matrix products.

# %%
import math

from mamba2_lab import load_tokenizer
from mamba2_lab.data import standard_library

documents = [document.text for document in standard_library().held_out if len(document.text) > 2000]
count, l = (4, 97) if FAST else (16, 257)
ids = torch.tensor([load_tokenizer("small").encode(text)[:l] for text in documents[:count]])


# %%
def reads(model, autocast=False):
    with torch.autocast(place.type, torch.bfloat16, enabled=autocast):
        logits = model(ids[:, :-1]).float()
    return torch.nn.functional.cross_entropy(logits.mT, ids[:, 1:].to(logits.device)) / math.log(2)


# %%
ready = {name: Mamba2LM.from_pretrained("small", device=place, dtype=dtype) for name, dtype in dtypes.items()}
readers = {name: (lambda model=model: reads(model.requires_grad_(False))) for name, model in ready.items()}
readers["float32, autocast to bfloat16"] = lambda: reads(ready["float32"].requires_grad_(False), autocast=True)
readers["float32 again"] = readers["float32"]
times = benchmark.measure(readers, place, seconds=0.5)


# %%
def spread(timing):
    """The median and both quartiles, in words."""
    low, median, high = (1e3 * value for value in (timing.low, timing.median, timing.high))
    return f"{median:.2f} ms ({low:.2f} to {high:.2f})"


for name, reader in readers.items():
    print(f"{name:>30}: {float(reader()):.4f} bits per byte, {spread(times[name])}")

# %% [markdown]
# In brackets is where half of the calls lie, and *again* is the control: what no difference looks like. The bits hardly
# change. Whether the time falls is a question to the machine: a processor that has no instructions for 16 bits converts
# back and forth, and loses. Measure before you believe in fewer bits.
#
# Weights alone can do with fewer still. In *weight-only int8* each row of a matrix is kept as whole numbers from -127
# to 127 and one scale, and becomes floats again when it is used. In *int4*, 64 neighbours in a row share a scale and a
# zero, and each of them is one of 16 numbers between.

# %%
predict(
    "bytes little more",
    "Of the bytes little more than a quarter is left, and a sixth. By how much do the bits per byte rise with "
    "int4? (And what becomes of the time of a step?)",
    unit="%",
)

# %%
from mamba2_lab.weights import with_weights
from mamba2_lab.weights.stored import stored_bytes

in_float32 = Mamba2LM.from_pretrained("small").requires_grad_(False)
kept = {"float32": in_float32, **{name: with_weights(in_float32, name) for name in ("int8", "int4")}}

# %%
_, start = in_float32.prefill(ids[:1, :8])
steps = {name: (lambda model=model: model.step(ids[0, 8:9], start)) for name, model in kept.items()}
times = benchmark.measure({**steps, "float32 again": steps["float32"]}, "cpu", seconds=0.5)

# %%
bits = {name: float(reads(model)) for name, model in kept.items()}
for name, model in kept.items():
    size = stored_bytes(model) / 1e6
    print(f"{name:>8}: {size:.2f} MB, {bits[name]:.4f} bits per byte, {spread(times[name])} a step")
print(f"the control, float32 again: {spread(times['float32 again'])}")
outcome("bytes little more", 100 * (bits["int4"] / bits["float32"] - 1))

# %% [markdown] tags=["answer"]
# Eight bits cost next to nothing, four bits a little: the second column says how much. The time is another matter. All
# of a model as small as this lies in the processor's own memory, and what it weighs hardly counts. In a large one each
# step waits for its weights to come, and fewer bytes can be fewer milliseconds: `mamba2-lab bench precisions` measures
# it.

# %% [markdown]
# ## Fewer trips
#
# Gate and norm are a chain: two products and a sigmoid, a square and its mean, a root, one product more. Written in
# PyTorch each is an operation of its own, which reads its input from memory and writes its result there.
# `torch.compile` makes one loop of the whole chain. On a CPU it needs a C++ compiler.

# %%
y, z = torch.randn(2, 2048, d_inner, generator=torch.Generator().manual_seed(3)).unbind()


def gate_and_norm(y, z):
    gated = y * z * torch.sigmoid(z)
    return gated * (gated.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt()


# %%
chain = {"written": gate_and_norm}
if devices.can_compile("cpu"):
    chain["compiled"] = torch.compile(gate_and_norm)
    off = (chain["compiled"](y, z) - gate_and_norm(y, z)).abs().max()
    print(f"the two differ by {off:.0e}")
else:
    print("there is no C++ compiler here: torch.compile is absent")

# %%
predict(
    "count trips long",
    "Count the trips that long tensors make: as written, eight reads and five writes; in one loop two reads and "
    "one write. How many times as fast will the compiled chain be?",
    unit="times",
)

# %%
run = {name: (lambda function=function: function(y, z)) for name, function in chain.items()}
chained = benchmark.measure({**run, "written again": run["written"]}, "cpu", seconds=0.5)
for name, timing in chained.items():
    print(f"{name:>13}: {spread(timing)}")
if "compiled" in chained:
    faster = chained["written"].median / chained["compiled"].median
    print(f"{faster:.1f} times as fast; by trips alone {13 / 3:.1f}")
outcome("count trips long", faster if "compiled" in chained else None)

# %% [markdown] tags=["answer"]
# *Written again* is the control: what no difference looks like. The trips give a bound, not a promise. It would be
# reached where memory is all that counts. What keeps it from that here (arithmetic, the processor's cache) was not
# measured.

# %% [markdown]
# `model.compile()` does so for whole blocks; and a step, whose operations are small ones, it compiles as a whole. The
# first call takes long, as the loops have to be written and compiled, and pays only in a long run. That call is the one
# that an honest timer leaves out: say so when you report such a time.

# %% [markdown]
# The package holds times of a step, as written and compiled; of its matrix products alone, each of them a call of a
# library; and of what no formulation spares, reading every weight once. They are of two models, one of 4.5 million
# weights and one of 130 million.

# %%
predict(
    "gains more being",
    "Which of the two gains more from being compiled? (Can a compiled step be faster than the products that "
    "are in it?)",
    ["the smaller", "the larger"],
)

# %%
millions = {"decode-laptop-compiled": 4.5, "decode-compiled": 130}
of = {}
for record in benchmark.shipped():
    if record.measure in millions:
        of.setdefault((benchmark.where(record), record.measure), {})[record.contestant] = 1e3 * record.timing.median
for (machine, measure), times in sorted(of.items(), reverse=True):
    reading, products = times["weights read once"], times["matrix products"]
    print(f"{machine}, {millions[measure]} million weights, read in {reading:.1f} ms, multiplied in {products:.1f}")
    for name, label in (("ours, as written", "as written"), ("ours", "compiled")):
        print(f"  {label:>10}: {times[name]:5.1f} ms a step, {reading / times[name]:.0%} of it reading weights")
gains = {measure: times["ours, as written"] / times["ours"] for (_, measure), times in of.items()}
verdict = "the smaller" if gains["decode-laptop-compiled"] > gains["decode-compiled"] else "the larger"
outcome("gains more being", verdict)

# %% [markdown] tags=["answer"]
# On the CPU it can. A product with a single vector is hardly more work than reading the matrix, but to call a library
# for it takes longer than that. Compiled, it is a loop like the others, which all threads share. But so it is as
# written: the package's own loops are in place before a compiler comes, and leave it little to gain.

# %%
predict(
    "prompt 1 024",
    "A prompt of 1,024 tokens is mostly products of large matrices, which a compiler leaves to the library. "
    "How many times as fast is it compiled? (And a training step?)",
    unit="times",
)

# %%
long = {}
for record in benchmark.shipped():
    if record.measure in ("prefill-compiled", "training-compiled"):
        long.setdefault((benchmark.where(record), record.measure), {})[record.contestant] = record.timing.median
for (machine, measure), times in long.items():
    written = times["ours, as written"]
    print(f"{machine}, {measure}: {written / times['ours']:.2f} times as fast")
    if products := times.get("matrix products"):
        print(f"  {products / written:.0%} of it as written are products: {written / products:.2f} times is the bound")
gains = {measure: times["ours, as written"] / times["ours"] for (_, measure), times in long.items()}
outcome("prompt 1 024", gains["prefill-compiled"])

# %% [markdown] tags=["answer"]
# Were everything but the products to take no time at all, the gain would be that bound. It tells when to stop.
#
# Where it is below 1, compiling makes things slower: between its products a prompt goes through the package's own loops
# as it is written, and through the compiler's where it is compiled.

# %% [markdown]
# A GPU that multiplies fast is left with the trips. The server's GPU has done the chunked scan of whole layers in
# bfloat16: as it is written in `mamba2_lab.fast.chunks_bfloat16`, and compiled, so that decays, masks and scores are
# made inside the products that need them.

# %%
predict(
    "compiled scan",
    "The same scan, as written and compiled for the GPU. How many times as fast is the compiled one?",
    unit="times",
)

# %%
times = {}
for record in benchmark.shipped():
    if record.measure == "scan-bfloat16":
        times.setdefault(tuple(record.settings["shape"]), {})[record.contestant] = record.timing.median
for shape, of in times.items():
    sizes = ", ".join(f"{name} {size}" for name, size in zip("blhpgn", shape, strict=True))
    written, compiled = (1e3 * of[name] for name in ("ours, as written", "ours"))
    print(f"{sizes}: {written:.2f} ms, compiled {compiled:.2f}, {written / compiled:.0f} times as fast")
outcome("compiled scan", written / compiled)


# %% [markdown] tags=["answer"]
# It is the same arithmetic. What went away is writing decays, masks and products to memory and reading them back.

# %% [markdown]
# ## What a token costs after many
#
# A transformer keeps a key and a value of every token (notebook 09); Mamba-2 keeps a state. First the bytes.
#
# ### Exercise: what is kept ★★
#
# ★★ two kinds of numbers, of different widths · importance 2 of 3 · 15 minutes · needed for the bytes behind each new
# token

# %%
@exercise("bytes_kept")
def bytes_kept(l, config, number_bytes):
    """Bytes after l tokens, for weights of number_bytes each: a KV cache of (l, d_model) keys, and Mamba-2's cache."""
    ...


# %%
medium = Mamba2Config.preset("medium")
for l in (1, 100, 10_000, 1_000_000):
    kv_cache, kept = bytes_kept(l, medium, number_bytes=2)
    print(f"after {l:>9,} tokens: KV cache {kv_cache / 1e6:10.2f} MB, states and windows {kept / 1e6:.2f} MB")

# %% [markdown]
# Then the time. `suite.run_point` runs one measure of `mamba2-lab bench` and gives back *records*. The sweep `state`
# holds the step of `medium` against that of a transformer with as many weights, after texts of several lengths.

# %%
predict(
    "curves against length",
    "From the shortest of these texts to the longest: how many times as long does a step of the transformer take then?",
    unit="times",
)

# %%
from mamba2_lab.benchmark import suite

records = []
for l in (64, 1024) if FAST else (64, 256, 1024, 4096):
    records += suite.run_point("state", {"preset": "medium", "l": l}, place, seconds=0.3)

# %%
plots.show(plots.timings(records, "l"), "one token")

# %%
found = {(record.contestant, record.settings["l"]): record for record in records}
shortest, longest = min(l for _, l in found), max(l for _, l in found)
for (name, l), record in found.items():
    if l in (shortest, longest):
        print(f"{name:>8} after {l:>5,} tokens keeps {record.bytes:>10,} bytes, {spread(record.timing)} a step")
growth = {name: found[name, longest].timing.median / found[name, shortest].timing.median for name, _ in found}
print({name: f"{times:.2f} times as long" for name, times in growth.items()})
outcome("curves against length", growth["KV cache"])


# %% [markdown] tags=["answer"]
# Here the transformer has fewer layers than `medium`, for as many weights: its KV cache is smaller than the one you
# counted, and grows all the same. Two things are in its time beside attention: transformers copies the whole cache at
# each step to make room for a token, and has more to ask for. A good implementation would be faster on the left. It
# would not be level.

# %% [markdown]
# ## Break it: a wait that waits for nothing
#
# nanochat, a small training suite, times its steps like this (pull request 792 of karpathy/nanochat, of 2026, mends
# it). On a Mac `kind` is "mps".

# %%
def synchronise_for(kind):
    return torch.cuda.synchronize if kind == "cuda" else lambda: None


# %% [markdown]
# It was written for two cases, cuda and CPU, and is right for both. For every other device it waits for nothing, in
# silence. Our queue is such a device.

# %%
predict(
    "ten products timed",
    "Ten products, timed with this wait and with a true one. How many times as fast will it claim to be?",
    unit="times",
)


# %%
def rate(wait, count=10):
    queue.wait()
    began = time.perf_counter()
    for _ in range(count):
        queue.ask(lambda: in_proj(u))
    wait()
    return count * cost[0] / (time.perf_counter() - began)


rates = {"published": rate(synchronise_for("queue")), "mended": rate(queue.wait)}

# %%
for name, found_rate in rates.items():
    verdict = too_fast({name: (*cost, cost[0] / found_rate)}, 2 * peak, 2 * bandwidth)
    print(f"{name:>10}: {found_rate / 1e9:12,.1f} billion a second{', which cannot be true' if verdict else ''}")
outcome("ten products timed", rates["published"] / rates["mended"])

# %% [markdown] tags=["answer"]
# The roof finds it at once. It is no rare mistake. A benchmark reported 17 petaflops of an M2 Ultra
# (mag-/gpu_benchmark, issue 3). PyTorch's own `torch.utils.benchmark.Timer` did not wait for MPS: pull request 152199
# of pytorch, of 2025, shows a linear layer at 23 µs before the change and at 245 µs after it.

# %% [markdown]
# Two habits protect you. Give the unknown device an error, not a `lambda: None`. And hold every time against a roof.
#
# ## Records
#
# A time without its machine is a rumour. A record holds what was timed, with which settings, on what, with which
# versions, and when. They are lines of JSON.

# %%
import tempfile

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "mine.jsonl")
    benchmark.write(records, path)
    again = benchmark.read(path)
print(again == records, list(vars(again[0])))

# %%
theirs = benchmark.shipped()
machines = sorted({f"{benchmark.where(record)} ({record.machine['device']})" for record in theirs})
print("records in the package, of:", ", ".join(machines) or "no machine yet")
print("of a Mac's GPU:", sum(record.machine["device"] == "mps" for record in theirs))

# %%
beside = [record for record in theirs if record.measure == "state"]
if beside:
    figure = plots.timings([*records, *beside], "l")
    plots.show(figure, "machines")
else:
    print("there is no other machine to stand beside yet")

# %% [markdown]
# Other programs run the same weights: llama.cpp is written in C++ and at home on a CPU, mlx-lm on a Mac's GPU.
# `mamba2-lab bench peers-decode` writes a model out for those that are installed, and all take turns. F32, F16, Q8_0 and
# Q4_0 are llama.cpp's names for 32, 16, 8 and 4 bits.

# %%
for record in theirs:
    if record.measure == "peers-decode" and record.timing:
        print(f"{record.contestant:16} {1000 * record.timing.median:6.1f} ms a token, {record.date}")

# %% [markdown]
# To add your machine: let it rest, close what is open, and run
#
#     mamba2-lab bench --out my_machine.jsonl
#
# On a Mac it times the GPU, if the GPU agrees with the CPU, and the table of crossovers is in it. Put the file into
# `mamba2_lab/benchmark/records/` and open a pull request with it; the output of `mamba2-lab doctor` in the
# description says how right that machine is. No record of MPS comes with the package until a Mac has made one.
#
# ## A sweep of your own
#
# Choose what to time, and press Run. (If the buttons are gone after you reloaded the page, run their cell again.)
# `length` and `batch` time a pass over a text, the time to its first new token, and one step after it; `scan-ways` and
# `state` you know, and `scan-length` is the chunked scan alone, up to 65,536 tokens. The sweep has a process of its
# own. Its points appear as they are measured; Stop ends it at once, and keeps those that are there. While it runs,
# leave the other cells alone: they would take the processor away from it.

# %%
from mamba2_lab.widgets import SweepRunner

SweepRunner("length", seconds=0.3)

# %% [markdown]
# ## Recap
#
# - Time by the wall clock, after a warm-up, waiting for the device before each reading, in turns; report median and
#   quartiles, with machine, versions and settings.
# - Small work is bound by asking for it. Large work is bound by memory or by arithmetic, and the operations done
#   for each byte say by which.
# - A time above the roof is a bug in the stopwatch. And a fast result counts for nothing until it is right.
#
# The words of this notebook:

# %%
from mamba2_lab.course import glossary

glossary("wall time", "synchronise", "launch overhead", "crossover", "roofline", "mixed precision", "KV cache")

# %% [markdown]
# ## On your own
#
# Take a number that tells how fast something is, from a page that you trust: of a library, a paper, a phone. Does it
# say what was timed, on which machine, with which versions, after which warm-up, how often, and whether the result was
# right? Time the same thing here, as this notebook would, and hold both against your roof. Which part of the difference
# can you explain by a measurement?
#
# ## To read on
#
# - S. Williams, A. Waterman and D. Patterson, [Roofline](https://doi.org/10.1145/1498765.1498785).
# - H. He, [Making deep learning go brrrr from first principles](https://horace.io/brrr_intro.html).
# - PyTorch's notes on [MPS](https://docs.pytorch.org/docs/stable/notes/mps.html).
#
# **Before**: [11, Limits](11_limits.ipynb). **Next**: [13, Turning states](13_turning_states.ipynb) builds Mamba-3.
