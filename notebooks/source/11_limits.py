# %% [markdown]
# # A state of fixed size holds only so many things, and then they run into each other
#
# After this notebook you can
#
# 1. predict how many pairs a state of n columns can hold, and show it on trained models;
# 2. measure how well a model copies, finds a needle in a long text, and reads beyond the length of its training;
# 3. say what attention gives in addition, what it costs, and how little of it is enough.
#
# **You need** writing and reading of notebook 03, rank and attention of notebook 04, the training loop of notebook
# 08, and the caches of notebook 09.
# **Time**: 100 minutes for you, 65 of them for the exercises; four for the machine. Everything runs on the CPU.
#
# One picture comes with us all the way: a cloakroom. A guest hands in a coat and gets a ticket; later the tickets
# come back, in any order. Most cloakrooms have a hook for each coat. This one has an attendant with a good memory,
# and no hooks.

# %%
import math
import os

import torch

from mamba2_lab import plots
from mamba2_lab.course import exercise, glossary, outcome, predict

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: fewer steps and seeds, and shorter texts
threads = torch.get_num_threads()
torch.set_num_threads(1)  # models as small as those that we train gain next to nothing from a second one
glossary("state", "head", "B", "C", "rank", "attention", "KV cache")


# %% [markdown]
# ## All coats in one table
#
# In notebook 03 a token wrote x times B into the state, and a later one read along its C. Give B another name, *key*
# (the ticket), and x the name *value* (the coat). A pair is the outer product of the two, a table (p,n), and a state
# is the sum of all pairs. For now nothing fades: dt is 1 and the decay is 1, as kind to memory as can be.
#
# ### Exercise: read it back ★
#
# ★ two products · importance 3 of 3 · 5 minutes · needed for every prediction of this notebook
#
# All pairs are written first. Then each key reads, as C would.

# %%
@exercise("read_back")
def read_back(keys, values):
    """keys (m,n), values (m,p), all written into one state that never fades -> (m,p): what each key then reads."""
    ...


# %% [markdown]
# Two keys of two numbers each: once at right angles, once leaning on each other.

# %%
coats = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
print("right angles:", read_back(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), coats).tolist())
print("leaning:     ", read_back(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), coats).tolist())


# %% [markdown]
# At right angles each ticket brings its own coat. Leaning tickets bring some of the other one as well. That is called
# *interference*.
#
# ### Exercise: how much it disturbs ★★
#
# ★★ squares that add up · importance 3 of 3 · 10 minutes · needed for the first figure
#
# Nobody chooses the tickets: let keys and values be random directions of length 1. How wrong is what one key reads?
# Take the square of the length of the error, on average. An error of 1 is as large as a coat.

# %%
@exercise("expected_error")
def expected_error(m, n):
    """m pairs; keys (n numbers), values: random directions of length 1 -> mean of |what is read - value| squared."""
    ...


# %%
predict(
    "as large as a coat",
    "A state has 64 columns. At how many pairs is the error, squared, as large as the value itself?",
    unit="pairs",
)

# %%
full = next(m for m in range(1, 1000) if expected_error(m, 64) >= 1)
print(f"{full} pairs: {expected_error(full, 64):.2f}; half as many: {expected_error(full // 2, 64):.2f}")
outcome("as large as a coat", full)


# %% [markdown] tags=["answer"]
# One pair for each column, and one more. Pairs and columns count only by their ratio, and there is no edge: the error
# is there from the second pair on, and grows evenly.

# %% [markdown]
# ### Exercise: queries that read exactly ★★★
#
# ★★★ m equations for each query · importance 2 of 3 · 25 minutes · needed for the limit that no training can pass
#
# So far a key was read with itself. A model has two vectors: B writes, and C reads, and C may be another. Given keys
# that lean on each other, are there *queries* that read each value exactly, and nothing of the others?

# %%
@exercise("exact_queries")
def exact_queries(keys):
    """keys (m,n), m <= n, none of them a sum of others -> queries (m,n): query i reads value i, exactly and alone."""
    ...


# %%
predict(
    "keys chosen freely",
    "Random keys of 16 numbers, and the best queries for them. How many pairs can be read without any error?",
    unit="pairs",
)


# %%
def directions(count, n, seed):
    """(count,n): random directions of length 1."""
    drawn = torch.randn(count, n, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


n = 16
for m in (8, 15, 16):
    keys, values = directions(m, n, seed=1), directions(m, 32, seed=2)
    error = exact_queries(keys) @ (values.mT @ keys).mT - values
    print(f"{m} pairs: squared error {error.square().sum(dim=1).mean():.0e}")

# %% [markdown]
# And 17? Write Q (m,n) for the queries and K (m,n) for the keys: query i finds key j with the weight (Q Kᵀ)[i, j].
# That must be the identity, of rank m. But a product through n columns has rank n at most. So it cannot be done,
# whatever the queries: m - n of the m directions are lost, a share (m - n) / m of the mean squared error. Queries
# that come so close are what `pinv`, the pseudoinverse, gives. We measure it, and your formula.

# %%
pairs = [2, 4, 8, 12, 16, 20, 24, 32, 48]


def squared_error(m, seed, best):
    keys, values = directions(m, n, seed), directions(m, 32, 100 + seed)
    read = torch.linalg.pinv(keys).mT @ (values.mT @ keys).mT if best else read_back(keys, values)
    return (read - values).square().sum(dim=1).mean()


# %%
names = {"read with its key": False, "best queries": True}
measured = {
    name: torch.tensor([[squared_error(m, seed, best) for m in pairs] for seed in range(8)])
    for name, best in names.items()
}
predicted = {
    "read with its key": [expected_error(m, n) for m in pairs],
    "best queries": [max(m - n, 0) / m for m in pairs],
}

# %%
for i, m in enumerate(pairs):
    if m in (8, 16, 20, 48):
        found = {name: f"{errors[:, i].mean():.2f} ({predicted[name][i]:.2f})" for name, errors in measured.items()}
        print(f"{m:2} pairs, measured (predicted): {found}")
outcome("keys chosen freely", n)

# %%
plots.show(plots.interference(pairs, measured, predicted, n))

# %% [markdown] tags=["answer"]
# As many pairs as columns, and not one more. Such queries have to know all keys, though, and a model that reads a
# ticket knows the ticket alone. So for a model the upper line is the rule, and the lower one the best that anyone
# could reach.

# %% [markdown]
# ## From an error to an answer
#
# To bring the right coat the attendant need not see it clearly, only tell it from the others. So let values be tokens,
# 32 of them, and let the answer be the token that is most like what is read. How often is it right?

# %%
KINDS = 32  # of values, and of keys


def share_right(m, n, seed):
    """Of m pairs with random keys in n columns, the share that is answered rightly."""
    chosen = torch.randint(KINDS, (m,), generator=torch.Generator().manual_seed(seed))
    read = read_back(directions(m, n, seed), torch.eye(KINDS)[chosen])
    return float((read.argmax(dim=1) == chosen).float().mean())


# %%
predict(
    "answers at n",
    "16 columns, 16 pairs: the squared error is nearly as large as a value. How many answers are right?",
    unit="%",
)

# %%
counts, columns = [2, 4, 8, 16, 32], [4, 8, 16]
expected = {
    f"n = {n}": torch.tensor([[share_right(m, n, seed) for m in counts] for seed in range(100)]) for n in columns
}
for name, shares in expected.items():
    print(name, {m: f"{share:.0%}" for m, share in zip(counts, shares.mean(dim=0).tolist(), strict=True)})
outcome("answers at n", 100 * float(expected["n = 16"][:, 3].mean()))

# %% [markdown] tags=["answer"]
# Far more than the error suggests: the right value needs to be the largest only, not alone. So there are two
# capacities, one for exact values, n, and one for answers, which falls slowly and depends on how often one may be
# wrong.

# %% [markdown]
# ## The capacity, measured
#
# That was a prediction. Now a model that learns by itself which keys to use. *Associative recall* is the task of
# answering a key with the value that came with it earlier; in its *multi-query* form all pairs are asked for, in any
# order (Arora et al. 2023, "Zoology", arXiv:2312.04927). Tokens 0 to 31 are keys, 32 to 63 are values.

# %%
from mamba2_lab.data.synthetic import accuracy, associative_recall


def questions(rows, m, generator):
    return associative_recall(rows, m, m, generator, keys=KINDS, values=KINDS)


example = questions(1, 3, torch.Generator().manual_seed(0))
print("tokens: ", example.input_ids[0].tolist())
print("answers:", example.targets[0, -3:].tolist())

# %% [markdown]
# The models are as small as they can be: one layer of Mamba-2 with states of n columns. Two settings help learning
# along. A convolution of width 2 shows each value its key, the token before it. And at first steps are long and decays
# slow, so that states are written to strongly and fade little: a model that cannot recall yet learns nothing from a
# memory that is already empty.

# %%
from mamba2_lab import MambaLM


def newborn(n, mixers, seed):
    """A model of these mixers, its states with n columns."""
    slow = {"A_init_range": (0.01, 0.1), "dt_min": 0.3, "dt_max": 1.0}
    memory = {"d_state": n, "headdim": 32, "d_conv": 2, "chunk_size": 32, **slow}
    fields = {"mamba2": memory, "attention": {"num_heads": 1}}
    used = {name: fields[name] for name in mixers}
    return MambaLM(d_model=64, n_layer=len(mixers), vocab_size=2 * KINDS, mixers=mixers, **used, seed=seed)


# %%
def one_step(model, optimizer, asked):
    loss = torch.nn.functional.cross_entropy(model(asked.input_ids).flatten(0, 1), asked.targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


# %%
STEPS, SEEDS = (4, 1) if FAST else (400, 3)


def pairs_at(step):
    """How many pairs are asked for. Two at first: a model that cannot recall two learns nothing from sixteen."""
    kinds = (2,) if step < 0.35 * STEPS else (2, 4) if step < STEPS / 2 else (4, 8, 16)
    return kinds[step % len(kinds)]


# %%
def learn(model, seed, peak=0.01):
    """Train on fresh questions, with a rate that rises and falls."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=STEPS, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        one_step(model, optimizer, questions(64, pairs_at(step), generator))
        rate.step()
    return model


# %% [markdown]
# The exam has other questions, and as many as 32 pairs, which none of them was trained on.

# %%
@torch.no_grad()
def exam(model, m):
    asked = questions(64, m, torch.Generator().manual_seed(10**6))
    return accuracy(model(asked.input_ids), asked)


def marked(models):
    """(seeds,counts): the marks of models."""
    return torch.tensor([[exam(model, m) for m in counts] for model in models])


# %% [markdown]
# A model as small as these keeps one core busy. We train as many at once as there are cores.

# %%
from concurrent.futures import ThreadPoolExecutor


def trained(kinds):
    """name -> (n, mixers)  to  name -> the trained models of all seeds."""
    models = {name: [newborn(*kind, seed) for seed in range(SEEDS)] for name, kind in kinds.items()}
    jobs = [(model, seed) for of_a_kind in models.values() for seed, model in enumerate(of_a_kind)]
    with ThreadPoolExecutor(threads) as cores:
        list(cores.map(learn, *zip(*jobs, strict=True)))
    return models


# %%
predict(
    "trained or predicted",
    "Will trained models recall more than was predicted for random keys, or less? What might they do better, or worse?",
)

# %%
models = trained({f"n = {n}": (n, ["mamba2"]) for n in columns})
marks = {name: marked(of_all_seeds) for name, of_all_seeds in models.items()}
for name, shares in marks.items():
    spread = [
        f"{m}: {low:.0%} to {high:.0%}" for m, low, high in zip(counts, shares.amin(0), shares.amax(0), strict=True)
    ]
    print(f"{name}, {SEEDS} seeds:", ", ".join(spread))

# %%
plots.show(plots.recall(counts, marks, 1 / KINDS, "pairs", expected), "trained")
outcome("trained or predicted")

# %% [markdown] tags=["answer"]
# More columns hold more pairs: the order is that of the prediction. But each line lies below its own dashed one, and
# that of the smallest state lies furthest below. Room is not the reason: two pairs fit into 4 columns, and some of the
# models miss them. What is missing there was not learned in so few steps, and seeds differ by a lot. So the prediction
# says what a state has room for; how much of it a model uses is a matter of training.

# %% [markdown]
# ## Copying
#
# To copy a text is to recall all of it. `medium`, from the box, was never trained to copy, but text is full of places
# where it goes on as it went the last time, as notebook 08 says. We let it read tokens of held-out files in random
# order, and then the same ones again: what it foresees of the first reading is luck; of the second, memory. A long text
# asks for more tokens than a short one, and asks for each of them later.

# %%
from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.data import standard_library
from mamba2_lab.pretrained.copying import shares_copied

torch.set_grad_enabled(False)  # for some time models only read,
torch.set_num_threads(threads)  # and larger ones, on all cores
medium, words = Mamba2LM.from_pretrained("medium"), load_tokenizer("medium")
held_out = standard_library().held_out
size = medium.new_cache().nbytes
print(f"{medium.config.d_state} columns in each of {medium.config.n_layer} layers, {size:,} bytes of cache")

# %%
predict(
    "copy 64",
    "64 tokens in random order, and the same again. How many does `medium` foresee the second time?",
    unit="%",
)

# %%
lengths, draws = [4, 16, 64] if FAST else [4, 16, 64, 256], 1 if FAST else 3
copied = [
    [shares_copied(medium, held_out, words, length, rows=4 if FAST else 8, seed=seed) for length in lengths]
    for seed in range(draws)
]
copies = {
    name: torch.tensor([[found[key] for found in row] for row in copied])
    for name, key in {"second reading": "again", "first reading (control)": "first"}.items()
}

# %%
for name, shares in copies.items():
    print(name, {length: f"{share:.0%}" for length, share in zip(lengths, shares.mean(dim=0).tolist(), strict=True)})
outcome("copy 64", 100 * float(copies["second reading"][:, lengths.index(64)].mean()))

# %%
plots.show(plots.recall(lengths, copies, 1 / words.vocab_size, "tokens of the text, read twice"), "copying")

# %% [markdown] tags=["answer"]
# Of very short texts it foresees little: it has to notice first that the text comes again. Of long ones it foresees
# less again, although they are well within the windows of its training. Are the tokens too many, or do they fade? This
# measurement does not tell.

# %% [markdown]
# Is it the state that is at fault, or the training? Notebook 08 has a table of architectures of one size, trained on
# the same text. Its record holds copying too, over 16, 64 and 256 tokens. Those that attend, *Llama* and the
# *hybrid*, have everything before them when they answer.

# %%
from mamba2_lab.pretrained import architectures
from mamba2_lab.pretrained.architecture_table import NAMES

for name in architectures.ARCHITECTURES:
    runs = architectures.read(what="training", architecture=name, ended=None)
    for length in ("16", "64", "256") if runs else ():
        shares = [run["copied"][length]["again"] for run in runs]
        trainings = f"{min(shares):4.0%} to {max(shares):4.0%} over {len(shares)} trainings"
        print(f"{NAMES[name]:>12}, {length:>3} tokens: {trainings}")


# %% [markdown]
# At 256 tokens those that attend recall many times as much as those that only keep states, at one size and from one
# text. More training helps a state as well: `medium` has read twelve times as much as these. But between 64 and 256
# tokens it loses more than half, and the hybrid next to nothing.

# %% [markdown]
# ## A needle in 20,000 tokens
#
# A long text, and in its first line a *needle*: a code that stands nowhere else in the text. At the end the line begins
# again. What does the code cost now, in bits? The control is the code of another text, in the same place: it looks the
# same, and was never read.

# %%
def line(code):
    return words.encode(f'ACCESS_CODE = "{code}"\n')


generator = torch.Generator().manual_seed(0)
codes = [f"{int(torch.randint(10**6, (), generator=generator)):06d}" for _ in range(40)]
length = max(set(map(len, map(line, codes))), key=[len(line(code)) for code in codes].count)
needles = torch.tensor([line(code) for code in codes if len(line(code)) == length][:3])
begun = len(words.encode('ACCESS_CODE = "'))
print([words.decode(row) for row in needles.tolist()])
assert words.decode(needles[0, :begun].tolist()) == 'ACCESS_CODE = "'

# %% [markdown]
# The text between is made of the longest held-out files, one after another. All needles are read in one batch, each at
# the beginning of its own row; wherever we want to ask we go on from the cache, which stays as it is.

# %%
by_size = sorted(held_out, key=lambda document: document.bytes, reverse=True)
hay = torch.tensor(words.encode("".join(document.text for document in by_size[:4])))[: 1000 if FAST else 20_000]
distances = [distance for distance in (1, 10, 100, 1000, 5000, 20_000) if distance <= len(hay)]
print(f"{len(hay):,} tokens, from {by_size[0].name} on")


# %%
def bits(cache, rows):
    """Bits for the code in each row, the tokens of a line, after what the cache has read."""
    logits, _ = medium.prefill(rows[:, :-1], cache, all_positions=True)
    nats = torch.nn.functional.cross_entropy(logits.mT, rows[:, 1:], reduction="none")
    return nats[:, begun - 1 : -1].sum(dim=1) / math.log(2)


# %%
predict(
    "needle far",
    "At the end of the text, how many bits does a code take that was read, and how many one that was not? Whoever only "
    f"knows that six digits come needs {6 * math.log2(10):.0f}.",
)

# %%
_, cache = medium.prefill(needles)
asked, start = {"the code that was read": [], "another code (control)": []}, 0
for distance in distances:
    _, cache = medium.prefill(hay[start:distance].expand(len(needles), -1), cache)
    for name, rows in zip(asked, (needles, needles.roll(1, dims=0)), strict=True):
        asked[name].append(bits(cache, rows))
    start = distance

# %%
found = {name: torch.stack(columns, dim=1) for name, columns in asked.items()}
gains = found["another code (control)"] - found["the code that was read"]
for i, distance in enumerate(distances):
    print(f"after {distance:>6,} tokens: {gains[:, i].mean():5.1f} bits saved ({gains[:, i].min():.1f} to ", end="")
    print(f"{gains[:, i].max():.1f}), of {found['another code (control)'][:, i].mean():.1f}")

# %%
plots.show(plots.needle_by_distance(distances, found))
outcome("needle far")

# %% [markdown]
# Could it be there, and simply not be asked for? The slowest head says how much of it can be left at all. That is
# notebook 10's half-life on a text, which we take on the first tokens of this one.

# %%
from mamba2_lab import inspect

seen = inspect.trace(medium, hay[:500])
lasting = torch.stack([layer.half_life for layer in seen.layers])
left = 0.5 ** (len(hay) / lasting)
print(f"slowest of {lasting.numel()} heads: half-life {lasting.max():,.0f} tokens, {left.max():.1%} left at the end")
print(f"heads that keep more than a hundredth: {(left > 0.01).sum()}; median half-life {lasting.median():.0f} tokens")

# %% [markdown] tags=["answer"]
# Over a hundred tokens the code costs next to nothing. Over a thousand most of it is lost, and at the end the code that
# was read costs what another one costs, give or take a few bits. The slowest head tells why: of what was written at the
# beginning, nothing is left that could be read. It might have been written anew on the way; the bits say that it was
# not. (Other texts have other half-lives.)

# %% [markdown]
# ## Beyond the length of training
#
# Both models in the box were trained on windows cut out of the text, and each began with an empty state. How long were
# they?

# %%
import json

from mamba2_lab.weights import BOX

for name in ("small", "medium"):
    record = json.loads((BOX / name / "record.json").read_text())
    print(f"{name}: windows of {record['training']['length']:,} tokens")
WINDOW = record["training"]["length"]


# %% [markdown]
# On a longer text states come about that training never saw. What happens then?
#
# ### Exercise: bits where they fall ★
#
# ★ sums over sums · importance 2 of 3 · 10 minutes · needed for the two figures of this section

# %%
@exercise("bits_by_position")
def bits_by_position(nats, sizes, edges):
    """nats (f,l), sizes (f,l): bytes of each token; edges, k+1 positions -> (k,): bits per byte of each stretch."""
    ...


# %% [markdown]
# Files are not equally hard everywhere: they begin with licences and imports. So a curve alone would prove nothing. The
# control reads the same tokens with no more before them than in training: windows of that length that overlap by half,
# of which only the second half counts.

# %%
def nats(reader, ids):
    """(l,) tokens -> (l-1,): nats for each but the first, read from the beginning."""
    logits, _ = reader.prefill(ids[None, :-1], all_positions=True)
    return torch.nn.functional.cross_entropy(logits[0], ids[1:], reduction="none")


def nats_in_windows(reader, ids):
    """The same, each token read from WINDOW / 2 to WINDOW tokens before it, or from all that there are."""
    half = WINDOW // 2
    starts = range(0, len(ids) - 1 - half, half)
    return torch.cat([nats(reader, ids[i : i + WINDOW + 1])[half if i else 0 :] for i in starts])


# %%
def along(name, files, length):
    """(3,f,l): nats read whole, nats read in windows, and bytes, for tokens of the longest held-out files."""
    reader, tokenizer = Mamba2LM.from_pretrained(name), load_tokenizer(name)
    texts = [tokenizer.encode(document.text) for document in held_out]
    rows = [torch.tensor(ids[: length + 1]) for ids in texts if len(ids) > length][:files]
    sizes = torch.tensor([[len(tokenizer.decode([i]).encode()) for i in ids[1:].tolist()] for ids in rows])
    read = [torch.stack([way(reader, ids) for ids in rows]) for way in (nats, nats_in_windows)]
    return torch.stack([*read, sizes])


# %%
predict(
    "beyond training",
    "Four and eight times the length of training. How do bits per byte compare with those of windows, to within 0.02?",
    ["they fall below windows", "no difference", "they rise above windows"],
)

# %%
edges = [0, 256, 512, 1024, 2048, 4096, 8192]
plan = {"small": (2048, 2), "medium": (2048, 1)} if FAST else {"small": (8192, 8), "medium": (4096, 4)}
read = {name: along(name, files, length) for name, (length, files) in plan.items()}

# %%
ways = {}
for name, (whole, windows, sizes) in read.items():
    own = [edge for edge in edges if edge <= whole.shape[1]]
    parts = {"from the beginning": whole, "in windows (control)": windows}
    ways[name] = own, {way: bits_by_position(each, sizes, own) for way, each in parts.items()}

# %%
late, changes = slice(WINDOW, None), {}
for name, (whole, windows, sizes) in read.items():
    change = (whole - windows)[:, late].sum(dim=1) / sizes[:, late].sum(dim=1) / math.log(2)
    changes[name] = change.mean().item()
    span = f"{changes[name]:+.3f} bits per byte to windows ({change.min():+.3f} to {change.max():+.3f})"
    print(f"{name}, beyond {WINDOW:,} tokens, {len(change)} files: {span}")

# %%
for name, (own, curves) in ways.items():
    plots.show(plots.bits_along(own, curves, WINDOW, name), name)
most = max(changes.values(), key=abs)
beyond = "no difference" if abs(most) < 0.02 else "they rise above windows" if most > 0 else "they fall below windows"
outcome("beyond training", beyond)


# %% [markdown] tags=["answer"]
# Neither model falls apart, at four and at eight times the length of its training: both need as much as they do with
# windows, to within a few hundredths of a bit in every file. But what stands further back than a window hardly helps
# them either. That the lines themselves rise and fall is the files' doing: without the control one would have taken it
# for an effect of length.

# %% [markdown]
# ## Where attention is exact, and what it pays
#
# Attention is the cloakroom with hooks. Nothing is added up before the question comes: keys and values are kept one by
# one, and the query looks at all of them. In notebook 04 a row of weights that goes through a softmax was what a
# transformer has and a state lacks. What does the softmax do for recall?
#
# ### Exercise: attend ★★
#
# ★★ a softmax along the right axis · importance 3 of 3 · 10 minutes · needed for the comparison with a state

# %%
@exercise("attend")
def attend(queries, keys, values, sharpness):
    """queries (r,n), keys (m,n), values (m,p) -> (r,p): means of values; weights: softmax of sharpness * overlap."""
    ...


# %%
predict(
    "thousand pairs",
    f"1,000 pairs with random keys of 16 numbers. A state's squared error is {expected_error(1000, n):.0f}. What is "
    "that of attention, if it is as sharp as it likes?",
)


# %%
def attention_error(m, sharpness, seed):
    keys, values = directions(m, n, seed), directions(m, 32, 100 + seed)
    return float((attend(keys, keys, values, sharpness) - values).square().sum(dim=1).mean())


for m in (16, 1000):
    print(f"{m} pairs: a state is expected to be off by {expected_error(m, n):.1f}")
    for sharpness in (1, 10, 100, 1000):
        errors = [attention_error(m, sharpness, seed) for seed in range(4)]
        print(f"    attention, sharpness {sharpness:>4}: {min(errors):.2g} to {max(errors):.2g}")
outcome("thousand pairs")

# %% [markdown] tags=["answer"]
# If it is sharp enough it is exact, for a thousand pairs as for sixteen, and with keys of the same 16 numbers: nearly
# all weight goes to the best match. Dull attention gives a mean over all values, which is off by a whole value. How
# sharp it has to be depends on how near the second best key is.

# %% [markdown]
# The price is notebook 09's: bytes for each token. How many, we ask the hybrid of notebook 08's table: nine layers,
# and the one in the middle attends. Its weights do not matter here.

# %%
hybrid = architectures.build("hybrid", 4096)


def layer_bytes(l):
    """Of each layer of the hybrid, after l tokens."""
    _, cache = hybrid.prefill(torch.zeros(1, l, dtype=torch.long))
    return [sum(tensor.nbytes for tensor in layer.tensors().values()) for layer in cache.layers]


# %%
once, twice = layer_bytes(1), layer_bytes(2)
state_bytes, token_bytes = once[0], twice[4] - once[4]
assert layer_bytes(50)[0] == state_bytes
print(f"a layer of Mamba-2 keeps {state_bytes:,} bytes")
print(f"one of attention {token_bytes:,} for each token: key and value, and a byte that tells text from padding")
print(f"so the attention layer keeps more after {state_bytes / token_bytes:.0f} tokens")

# %% [markdown]
# ## The cure: one layer that attends
#
# Exactness costs bytes for every token *in every layer that attends*. How many such layers does recall need? A
# *hybrid* has a few of them among layers that keep states. They also do something for each other: attention by itself
# does not know what stood beside what, and Mamba's convolution tells it.
#
# Two layers each, with states of 4 columns, too few for 16 pairs; three ways to fill them.

# %%
predict(
    "cure",
    "Two layers of Mamba-2, one of Mamba-2 under one of attention, or two of attention: which will recall 16 pairs?",
    ["Mamba-2 twice", "Mamba-2, then attention", "attention twice"],
)

# %%
torch.set_grad_enabled(True)  # we train again
torch.set_num_threads(1)
stacks = {
    "Mamba-2 twice": ["mamba2", "mamba2"],
    "Mamba-2, then attention": ["mamba2", "attention"],
    "attention twice": ["attention", "attention"],
}
cured = trained({name: (4, mixers) for name, mixers in stacks.items()})
marks = {name: marked(models) for name, models in cured.items()}

# %%
for name, models in cured.items():
    weights = models[0].num_parameters()
    at_16 = marks[name][:, counts.index(16)]
    print(f"{name:>24}: 16 pairs {at_16.min():.0%} to {at_16.max():.0%} over {SEEDS} seeds, {weights:,} weights")

# %%
plots.show(plots.recall(counts, marks, 1 / KINDS, "pairs"), "cure")
outcome("cure", max(marks, key=lambda name: marks[name][:, counts.index(16)].min()))


# %% [markdown] tags=["answer"]
# With one layer that attends, recall no longer depends on the number of pairs, up to twice as many as in training. Two
# layers with states of 4 columns fall, and not for want of weights: they have more. Attention twice does not learn it
# here, for it has neither a convolution nor positions, and cannot know which value stood beside which key. What it
# would do with either was not tried.

# %% [markdown]
# ### Exercise: what a stack keeps ★
#
# ★ one number that grows, one that does not · importance 2 of 3 · 5 minutes · needed for the price of the cure

# %%
@exercise("stack_bytes")
def stack_bytes(l, mixers, state_bytes, token_bytes):
    """mixers, a name per layer: "mamba2" keeps state_bytes, "attention" token_bytes for each of l tokens -> bytes."""
    ...


# %%
predict(
    "fraction",
    "Nine layers, 20,000 tokens. Which fraction of the bytes of nine layers of attention does the hybrid keep?",
    unit="%",
)

# %%
nine = {
    "attention": ["attention"] * 9,
    "hybrid": ["mamba2"] * 4 + ["attention"] + ["mamba2"] * 4,
    "Mamba-2": ["mamba2"] * 9,
}
kept = {name: stack_bytes(20_000, mixers, state_bytes, token_bytes) for name, mixers in nine.items()}
for name, size in kept.items():
    print(f"{name:>9} after 20,000 tokens: {size / 1e6:6.1f} MB, {size / kept['attention']:.1%}")
outcome("fraction", 100 * kept["hybrid"] / kept["attention"])

# %%
assert stack_bytes(50, nine["hybrid"], state_bytes, token_bytes) == sum(layer_bytes(50)) - (once[4] - token_bytes)
tokens = [round(10 ** (power / 8)) for power in range(8, 49)]
sizes = {name: [stack_bytes(l, mixers, state_bytes, token_bytes) for l in tokens] for name, mixers in nine.items()}
plots.show(plots.memory_by_length(tokens, sizes, [state_bytes / token_bytes]), "stacks")

# %% [markdown]
# ## Break it: taking words back
#
# Programs that write fast let a small model guess some words ahead, and a large one check them. Wrong guesses are
# taken back. For attention that is easy: cut the last keys and values off. From a state nothing can be taken out
# again: it is a sum. In mlx-lm the cut did nothing to recurrent layers, and rejected words stayed in the state
# (ml-explore/mlx-lm, issue 846, as pull request 1111 of 2026 describes it).
#
# We do it to our own. The models read pairs, then a draft: the same keys, each with another value. The draft is taken
# back by cutting off what grows. The keys are asked for: do they bring the first values?

# %%
from dataclasses import replace


def cut(cache, l):
    """The cache with what stands after l tokens cut off, wherever a layer keeps tokens; states stay as they are."""
    layers = [
        replace(layer, **{name: getattr(layer, name)[:, :l] for name in layer.grows}) if layer.grows else layer
        for layer in cache.layers
    ]
    return replace(cache, layers=tuple(layers))


# %%
m = 4
first, second = (questions(256, m, torch.Generator().manual_seed(seed)) for seed in (1, 2))
read, draft = first.input_ids[:, : 2 * m], second.input_ids[:, : 2 * m].clone()
draft[:, ::2] = read[:, ::2]  # the same keys


@torch.no_grad()
def after_taking_back(model, how):
    """The share of right answers, with the draft taken back in one of three ways."""
    _, before = model.prefill(read)
    _, cache = model.prefill(draft, before)
    cache = {"left in": cache, "cut off": cut(cache, 2 * m), "put back": before}[how]
    logits, _ = model.prefill(first.input_ids[:, 2 * m :], cache, all_positions=True)
    return float((logits.argmax(dim=-1) == first.targets[:, 2 * m :]).float().mean())


# %%
predict(
    "taken back",
    "After the cut, how many of the first values will two layers of Mamba-2 bring? And the hybrid, whose attention was "
    "cut as it should be?",
)

# %%
for name, models in cured.items():
    for how in ("put back", "cut off", "left in"):
        shares = [after_taking_back(model, how) for model in models]
        print(f"{name:>24}, {how:>8}: {min(shares):.0%} to {max(shares):.0%} right")
outcome("taken back")

# %% [markdown] tags=["answer"]
# For two layers of Mamba-2 the cut does nothing: the draft is in the sum, and `cut off` is `left in`. For attention
# the cut is exact: `cut off` is `put back`. The hybrid brings the first values after the cut as well, for it recalls
# them by attention. But its state still holds the draft, and a task that needs the state would tell. What helps is a
# copy of the cache from before the draft; of a state it is as small as the state.

# %% [markdown]
# ## What all this does not prove
#
# - The models of recall are tiny: a layer or two, 32 keys, some hundred steps, three seeds. Longer training, another
#   rate or more heads move every line. What they show is the order.
# - That random keys interfere like (m - 1) / n was measured for states that never fade and are read linearly. A
#   trained head fades, chooses when to write, and has a gate and other layers behind it.
# - `medium` is small, has read Python in short windows, and was never trained on needles. A larger model that was may
#   find needles that it does not. The limit itself stays: n columns, a sum.
# - The six architectures are of one size, with one to three seeds, and trained on 1,024 tokens. Attention that was
#   read beyond its training failed in notebook 08, for another reason: positions that it never saw.
# - Attention is exact only where keys can be told apart and queries are sharp enough.
#
# ## Recap
#
# - A state is a sum of pairs. Random keys disturb each other by (m - 1) / n; with the best queries n pairs are exact,
#   and not one more.
# - Answers are more robust than values: the right one only has to be the largest.
# - Trained models follow the prediction in order, more columns, more pairs, and stay below it.
# - `medium` copies 256 tokens less well than 64 and loses a needle within a thousand tokens, while it reads on
#   at the same price, and as well as before, far beyond the length of its training.
# - Attention keeps every pair, and pays for every token. One layer of it among others restores recall.
# - From a sum nothing can be taken back. Keep a copy of what you may want to return to.

# %%
glossary("associative recall", "interference", "needle", "hybrid")

# %% [markdown]
# ## On your own
#
# In our hybrid attention comes last. Put it first, or in the middle of three layers, and give the
# states 2 columns or 32. Where does one attending layer do most, and what must the layers below it do for it? Three
# seeds, a control, and the number of weights beside each line.
#
# ## To read on
#
# - S. Arora and others, [Zoology](https://arxiv.org/abs/2312.04927), on recall as what separates the two kinds of model.
# - S. Jelassi and others, [Repeat after me](https://arxiv.org/abs/2402.01032), on copying.
# - R. Waleffe and others, [An empirical study of Mamba-based language models](https://arxiv.org/abs/2406.07887), on
#   hybrids of billions of weights.
#
# **Before**: [10, Watching memory](10_watching_memory.ipynb). **Next**: [12, MPS vs CPU](12_mps_vs_cpu.ipynb) asks
# how fast all this is on your machine.
