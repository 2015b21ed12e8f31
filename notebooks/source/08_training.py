# %% [markdown]
# # A model learns by being surprised, a little less each time
#
# After this notebook you can
#
# 1. write every part of the step that trains a language model, from its loss to its last update;
# 2. train one on your machine, choose its learning rate, and say in bits per byte how good it is;
# 3. find what goes wrong in a training while nothing complains: wrong gradients, lost digits, a memory that is dead.
#
# **You need** the language model of notebook 07, and PyTorch's `backward`, which computes gradients.
# **Time**: 95 minutes for you, 65 of them for the exercises; about five for the machine, two of them for one
# training. All on the CPU.
#
# One small model comes with us all the way. It has read nothing yet.

# %%
import os

from mamba2_lab.course import glossary

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: less text, and a few steps instead of many
glossary("logits", "surprise", "bits per byte", "held out")

# %%
import torch

from mamba2_lab import Mamba2LM

torch.set_num_threads(1)  # models as small as ours gain next to nothing from a second one
shape = {"d_model": 128, "n_layer": 2, "d_state": 16, "headdim": 32, "chunk_size": 32}
newborn = Mamba2LM(**shape, vocab_size=257, seed=0)
print(f"{newborn.num_parameters():,} weights in {newborn.config.n_layer} layers")

# %% [markdown]
# ## Text asks the questions by itself
#
# We learn from the standard library of your Python. One file in twenty is held out, chosen by a hash of its
# name. But a copy of what it holds may stand in another file, and then a good memory would look like skill.

# %%
from mamba2_lab.course import outcome, predict

predict("copies", "Are there copies of held-out files among those for training?", unit="files")

# %%
from mamba2_lab.data import decontaminate, standard_library

corpus = standard_library()
files, copies = decontaminate(corpus.train, corpus.held_out)
print(f"of {len(corpus.train)} files, {len(copies)} share eight lines in a row with a held-out file:")
for copy in copies[:2]:
    print(f"    {copy.dropped} with {copy.held_out}")
outcome("copies", len(copies))

# %% [markdown] tags=["answer"]
# Most are tables of character sets, which differ in a few lines. We leave all of them out. The other files are laid end
# to end, and a *window* of tokens is cut out anywhere. Its *targets* are the same text, one token later.

# %%
from mamba2_lab.data import pack
from mamba2_lab.text import ByteTokenizer

tokenizer, files = ByteTokenizer(), files[:: 5 if FAST else 1]
tokens = pack(files, tokenizer)
print(f"{len(files)} files to learn from, {len(tokens):,} tokens; {len(corpus.held_out)} files held out")

# %%
batch = tokens.random_batch(2, 40, torch.Generator().manual_seed(3))
for inputs, targets in zip(batch.input_ids, batch.targets, strict=True):
    print("window ", repr(tokenizer.decode(inputs)))
    print("targets", repr(tokenizer.decode(targets)))

# %% [markdown]
# Every position is a question: what comes next? The window itself holds the answers, so nobody has to write any. And
# one pass of the model answers all positions at once, because no position sees what comes after it.
#
# ### Exercise: the loss ★★
#
# ★★ a shift by one, the classic mistake · importance 3 of 3 · 10 minutes · needed for all training
#
# The *loss* is the number that training makes smaller: here the mean surprise in *nats*, that is with the natural
# logarithm. It is called *cross-entropy*.

# %%
from mamba2_lab.course import exercise


@exercise("next_token_loss")
def next_token_loss(logits, ids):
    """logits (b,l,v), made by reading ids (b,l) -> mean surprise in nats over the b (l-1) tokens that were guessed."""
    ...


# %%
predict(
    "knows nothing",
    "A model that has read nothing should find all 257 tokens equally likely. What is its loss?",
    unit="nats",
)

# %%
import math

ids = torch.cat([batch.input_ids[:, :1], batch.targets], dim=1)  # each window whole: the first token, and all targets
loss = next_token_loss(newborn(ids), ids)
print(f"loss {loss.item():.2f} nats; ln 257 = {math.log(257):.2f}")
outcome("knows nothing", loss.item())


# %% [markdown] tags=["answer"]
# Divided by ln 2, nats become bits. A token is a byte here, so the loss in bits is bits per byte at once.

# %% [markdown]
# ## One step downhill
#
# `backward` tells, for every weight, how the loss changes with it: the *gradient*. A step moves each weight a little
# against its gradient. Four decisions are hidden in "a little": how far, how far at most, which weights also shrink,
# and in what proportion to each other they move.
#
# ### Exercise: how far ★★
#
# ★★ two formulas that meet · importance 2 of 3 · 10 minutes · needed for the small training below
#
# The *learning rate* scales every step. It rises during a *warm-up*, while nothing is known yet about the size of
# gradients, and falls towards the end, when large steps would only jump about around the bottom.

# %%
@exercise("learning_rate")
def learning_rate(step, steps, peak, warmup):
    """step counts from 0 -> a line up to the peak in its first `warmup` steps, then half a cosine down to peak / 10."""
    ...


# %%
for step in (0, 9, 19, 20, 210, 399):
    print(f"step {step:>3} of 400: {learning_rate(step, 400, 0.01, 20):.4f}")


# %% [markdown]
# ### Exercise: how far at most ★★
#
# ★★ one length for all, not one for each · importance 2 of 3 · 10 minutes · needed for the small training below
#
# Now and then a batch has an enormous gradient. All gradients together are one long vector; if it is longer than an
# agreed length it is *clipped*: made shorter, without a change of its direction.

# %%
@exercise("clip_gradients")
def clip_gradients(gradients, max_norm):
    """A list of tensors -> a new list, scaled by one factor: together, as one vector, at most max_norm long."""
    ...


# %%
predict(
    "clipped",
    "Two weights have the gradients 3 and 4. What is left of them when their length is clipped to 1?",
    ["1 and 1", "0.43 and 0.57", "0.6 and 0.8"],
)

# %%
clipped = clip_gradients([torch.tensor([3.0]), torch.tensor([4.0])], 1.0)
print(clipped)
outcome("clipped", " and ".join(f"{gradient.item():.1g}" for gradient in clipped))

# %% [markdown]
# ### Exercise: which weights shrink ★
#
# ★ a name to look at · importance 1 of 3 · 5 minutes · needed for the small training below
#
# *Weight decay* pulls every weight a little towards 0 in each step, so that none grows without need. Is 0 a good place
# to be pulled to? For a matrix, yes. Mamba-2 has three kinds of weights for which it means something else.

# %%
predict(
    "pulled to 0",
    "Suppose `dt_bias` and `A_log` of a head were pulled all the way to 0. What would be its half-life, ln 2 / (dt "
    "|A|) with dt = softplus(dt_bias) and |A| = exp(A_log)?",
    unit="tokens",
)

# %%
dt, A = torch.nn.functional.softplus(torch.tensor(0.0)).item(), math.exp(0)
print(f"half-life {math.log(2) / (dt * A):.2f} tokens")
outcome("pulled to 0", math.log(2) / (dt * A))


# %% [markdown] tags=["answer"]
# One token: it would be pulled towards forgetting. So `dt_bias`, `A_log`, and `D`, which lets inputs pass, are exempt.

# %%
@exercise("parameter_groups")
def parameter_groups(named, weight_decay):
    """{name: weight} -> two groups {"params": list, "weight_decay": number}; the second: dt_bias, A_log, D, with 0."""
    ...


# %% [markdown]
# ### Exercise: in what proportion ★★★
#
# ★★★ two running means, each to be corrected · importance 2 of 3 · 25 minutes · needed for the small training below
#
# Gradients of different weights differ by orders of magnitude. *AdamW* (Loshchilov & Hutter, arXiv:1711.05101) measures
# each weight's steps by what its gradients usually are. It keeps two running means for each weight: m of the gradient,
# m <- 0.9 m + 0.1 g, and v of its square, v <- 0.95 v + 0.05 g². Both begin at 0 and are too small at first; divided by
# 1 - 0.9^step and 1 - 0.95^step they are not. The weight then moves by
#
# rate · ( m / (√v + ε) + decay · weight ), with the corrected m and v.

# %%
@exercise("adamw")
def adamw(weight, gradient, m, v, step, rate, decay):
    """All tensors of one shape; step counts from 1, betas (0.9, 0.95), epsilon 1e-8 -> new (weight, m, v)."""
    ...


# %%
predict(
    "first step",
    "Two weights have the gradients 5 and 0.0005, always. How far does the second move in its first step, with a rate "
    "of 0.01 and no decay?",
    unit="",
)

# %%
zero = torch.zeros(2)
moved, _, _ = adamw(zero, torch.tensor([5.0, 0.0005]), zero, zero, 1, 0.01, 0.0)
print(moved)
outcome("first step", -moved[1].item())

# %% [markdown] tags=["answer"]
# Both equally far: what counts is not the size of a gradient, but whether it keeps its sign.

# %% [markdown]
# ## The four together are a training
#
# `fit` is the training loop of the package. Let it make eight steps on one file, and put your four functions together
# to do the same by hand.

# %%
from mamba2_lab.training import TrainingConfig, fit

config = TrainingConfig(steps=8, batch_size=4, length=64, learning_rate=0.01, warmup_steps=2)
one_file = pack([max(files, key=lambda document: document.bytes)], tokenizer)
records = fit(Mamba2LM(**shape, vocab_size=257, seed=0), one_file, config, progress=False)


# %%
def loss_and_gradients(model, step):
    """On the very windows that `fit` draws in this step."""
    generator = torch.Generator().manual_seed(step)
    batch = one_file.random_batch(config.batch_size, config.length, generator)
    ids = torch.cat([batch.input_ids[:, :1], batch.targets], dim=1)
    loss = next_token_loss(model(ids), ids)
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


# %% [markdown]
# Each weight needs its two means, and its group's decay.

# %%
model = Mamba2LM(**shape, vocab_size=257, seed=0)
groups = parameter_groups(dict(model.named_parameters()), config.weight_decay)
decays = {weight: group["weight_decay"] for group in groups for weight in group["params"]}
means = {weight: (torch.zeros_like(weight), torch.zeros_like(weight)) for weight in model.parameters()}

# %%
by_hand, rates = [], []
for step in range(config.steps):
    loss, gradients = loss_and_gradients(model, step)
    rate = learning_rate(step, config.steps, config.learning_rate, config.warmup_steps)
    rates.append(rate)
    for weight, gradient in zip(means, clip_gradients(list(gradients), config.clip_norm), strict=True):
        weight.data, *means[weight] = adamw(weight.data, gradient, *means[weight], step + 1, rate, decays[weight])
    by_hand.append(loss)

# %%
print("by hand:", [f"{loss:.4f}" for loss in by_hand])
print("by fit: ", [f"{record.loss:.4f}" for record in records])
same = [abs(rate - record.learning_rate) < 1e-6 for rate, record in zip(rates, records, strict=True)]
until = [*same, False].index(False) + 1  # a rate is felt in the loss of the step after it
assert all(abs(loss - record.loss) < 1e-3 for loss, record in list(zip(by_hand, records, strict=True))[:until])


# %% [markdown]
# These are the same losses: there is no more to it. (If your cosine ends a step earlier or begins a step sooner, which
# is just as fair, the losses part where the rates do.) What `fit` has besides keeps a long training alive: checkpoints
# from which it goes on to the very same losses, several devices, half precision, an end on Ctrl-C that loses nothing.
#
# ### Exercise: a batch in parts ★
#
# ★ one weighted mean · importance 2 of 3 · 5 minutes · needed for batches that do not fit into memory
#
# A batch that is too large for memory can be read in parts, whose gradients are added up (*accumulation*). What is the
# loss of the whole, if the parts have different numbers of tokens?

# %%
@exercise("joined_loss")
def joined_loss(means, counts):
    """means (k,), the mean loss of each part; counts (k,), its tokens -> the mean over all tokens, a tensor ()."""
    ...


# %% [markdown]
# We take a longer and a short held-out file as two parts of a batch.

# %%
by_size = sorted(corpus.held_out, key=lambda document: document.bytes)
parts = [torch.tensor([tokenizer.encode(document.text)]) for document in (by_size[-10], by_size[2])]
with torch.no_grad():
    part_means = torch.stack([next_token_loss(model(part), part) for part in parts])
counts = torch.tensor([part.shape[1] - 1 for part in parts])
print(f"{part_means[0]:.3f} nats over {counts[0]:,} tokens, {part_means[1]:.3f} over {counts[1]:,}")

# %%
print(f"mean of the means {part_means.mean():.3f}; mean over all tokens {joined_loss(part_means, counts):.3f}")

# %% [markdown]
# Until 2024 the `Trainer` of transformers took the mean of the means (its pull request 34191 is the repair). `fit` may
# take it, because all its windows are of the same length.
#
# ## What would be good?
#
# A number says nothing without a rival. The simplest rivals count. One that only knows how often each byte occurs needs
# the entropy of these frequencies. An *n-gram* model counts which byte follows each n - 1 bytes: here, four. It has no
# other idea of text.

# %%
from mamba2_lab.yardsticks.ngram import NGram

held_out = corpus.held_out[:6] if FAST else corpus.held_out
held_out_bytes = sum(document.bytes for document in held_out)


def counted(documents, order):
    """Bits per byte of the held-out files for an n-gram that has counted these documents."""
    ngram = NGram((document.text for document in documents), order)
    return sum(ngram.bits(document.text) for document in held_out) / held_out_bytes


# %% [markdown]
# Our model will make 800 steps, each on 8 windows of 128 bytes. For a fair match the 5-gram counts about as much.

# %%
predict("gain nine times", "How much better would it be with nine times as much?", unit="bits per byte")

# %%
some = files[::9]
with_some, with_all = counted(some, 5), counted(files, 5)
print(f"our model reads {800 * 8 * 128:,} bytes")
print(f"the 5-gram counts {sum(document.bytes for document in some):,} bytes: {with_some:.2f} bits per byte")
print(f"or everything: {with_all:.2f}")

# %%
levels = {"all alike": math.log2(257), "frequencies": counted(files, 1), "5-gram, as much text": with_some}
print({name: round(level, 2) for name, level in levels.items()})
outcome("gain nine times", with_some - with_all)

# %% [markdown]
# ## How fast?
#
# Nobody can compute the best learning rate. You have to try. The command `python -m mamba2_lab.pretrained.sweep` has
# trained our model at seven rates and recorded what came of it.

# %%
import json

from mamba2_lab.weights import BOX

sweep = json.loads((BOX / "sweep.json").read_text())
print({name: sweep["training"][name] for name in ("steps", "batch_size", "length", "warmup_steps")})
print("rates:", [run["learning_rate"] for run in sweep["runs"]])

# %%
predict(
    "rates span factor",
    "The rates span a factor of a thousand. Which is best? (And what becomes of the fastest?)",
    [f"{run['learning_rate']:g}" for run in sweep["runs"]],
)

# %%
from mamba2_lab import plots

plots.show(plots.learning_rates(sweep["runs"]))
best = min(sweep["runs"], key=lambda run: run["bits_per_byte"])
outcome("rates span factor", f"{best['learning_rate']:g}")

# %% [markdown] tags=["answer"]
# Even the fastest did not end in `nan`: clipping and norms catch a lot. But look at its training loss, which climbs
# above that of a model that knows nothing.

# %%
worst = sweep["runs"][-1]
print(f"best rate {best['learning_rate']}: {best['bits_per_byte']:.2f} bits per byte")
print(f"rate {worst['learning_rate']}: {worst['bits_per_byte']:.2f}; at worst {max(worst['curve']['loss']):.1f} nats")

# %% [markdown]
# The rates of the models in the box were found in the same way, by short runs. A file keeps them, a line each.

# %%
predict(
    "medium eight times",
    "`medium` has eight times the weights of `small`. Is its best rate a higher or a lower one?",
    ["higher", "the same", "lower"],
)

# %%
runs = [json.loads(line) for line in (BOX / "tuning.jsonl").read_text().splitlines()]
short = [run for run in runs if run["settings"]["steps"] == 300 and "learning_rate" in run["changes"]]
tried = [(run["parameters"], run["settings"]["learning_rate"], run) for run in short]
for parameters, rate, run in sorted(tried, key=lambda found: found[:2]):
    print(f"{run['recipe']:>6}, {parameters:>9,} weights, rate {rate}: {run['bits_per_byte']:.3f} bits per byte")
by_score = sorted(tried, key=lambda found: -found[2]["bits_per_byte"])
rates = {run["recipe"]: rate for _, rate, run in by_score}  # the best of each, which comes last
larger, smaller = rates["medium"], rates["small"]
outcome("medium eight times", "higher" if larger > smaller else "lower" if larger < smaller else "the same")

# %% [markdown] tags=["answer"]
# A little lower, as is usual for larger models. But the valleys are flat, and only a few rates were tried in each.

# %% [markdown]
# ## A longer training
#
# Now for longer, at the best rate of our own sweep. Before, during and after, the model is to complete the same method
# of a class.

# %%
config = TrainingConfig(
    steps=12 if FAST else 800, batch_size=8, length=128, learning_rate=best["learning_rate"], evaluate_every=100
)
model = Mamba2LM(**shape, vocab_size=257, seed=0)
prompt = torch.tensor([tokenizer.encode("    def area(self, radius):\n        return ")])


# %%
def write(model):
    """What the model adds to the prompt."""
    written = model.generate(prompt, max_new_tokens=90, temperature=0.7, seed=1)
    return tokenizer.decode(written[0, prompt.shape[1] :])


samples = {0: write(model)}
print(repr(samples[0]))

# %% [markdown]
# `fit` hands over a record after each step: with it we draw the curve again every two seconds, and let the model
# write now and then. Every hundred steps it is measured on two of the held-out files.

# %%
predict(
    "order learn words",
    "In what order will it learn: words, the frequencies of letters, indentation, brackets that close?",
)

# %%
records = []


def watch(record):
    records.append(record)
    live.refresh()
    if record.step + 1 in (10, 30, 100, 300):
        samples[record.step + 1] = write(model)


# %%
live = plots.Live(lambda: plots.learning_curve(records, config.steps, levels))
few = [document for document in corpus.held_out if document.name in ("operator.py", "runpy.py")]
fit(model, tokens, config, held_out=few, tokenizer=tokenizer, on_step=watch, progress=False)
live.refresh(now=True)

# %%
samples[config.steps] = write(model)
for step, text in samples.items():
    print(f"after {step:>4} steps: {text!r}")
outcome("order learn words")

# %% [markdown] tags=["answer"]
# First come the frequencies of letters, then syllables and short words, `self` among them; names, brackets and lines
# take longest. It does not understand anything: what it writes has become less surprising to somebody who reads Python.

# %% [markdown]
# ## What came of it

# %%
predict(
    "model read about",
    "The model has read about as much as the 5-gram has counted. Which of the two is better on all the held-out files?",
    ["the model", "the 5-gram"],
)

# %%
from mamba2_lab.training import bits_per_byte

measured = bits_per_byte(model, held_out, tokenizer)
print(f"our model, after {config.steps * config.batch_size * config.length:,} bytes: {measured:.2f} bits per byte")
print({name: round(level, 2) for name, level in levels.items()})
outcome("model read about", "the model" if measured < with_some else "the 5-gram")

# %% [markdown] tags=["answer"]
# A 5-gram can use four bytes of context, and forgets everything else. The records also tell how the training went.

# %%
predict("gradient ever clipped", f"In how many of the {config.steps} steps was the gradient clipped?", unit="steps")

# %%
clipped = sum(record.gradient_norm > config.clip_norm for record in records)
print(f"clipped in {clipped} of {config.steps} steps")
plots.show(plots.rate_and_norm(records, config.clip_norm))
outcome("gradient ever clipped", clipped)

# %% [markdown] tags=["answer"]
# What do more weights, more text and more time bring? In the box is a table of rivals, all measured on the same files.

# %%
from mamba2_lab.pretrained.comparison import read_table
from mamba2_lab.pretrained.recipes import held_out_facts

table = read_table()
same = held_out_facts(corpus.held_out) == table["held_out"]
print(f"the table is of {'the same' if same else 'other'} files: {table['held_out']['source']}")
print(f"on the files of this Python: ours {measured:.2f}, a 5-gram that has counted everything {with_all:.2f}")

# %%
ours = {"name": "ours", "bits_per_byte": measured, "parameters": model.num_parameters()}
plots.show(
    plots.comparison([*table["rows"], *([ours] if same else [])])  # never beside rows of other files
)

# %% [markdown]
# `transformer` has as many weights as `medium`, and was trained by the same script: the same text, tokens and settings.

# %%
predict(
    "needs fewer bits",
    "Which one needs fewer bits per byte?",
    ["`medium`, by more than 2 %", "the transformer, by more than 2 %", "neither, by so much"],
)

# %%
needs = {row["name"]: row["bits_per_byte"] for row in table["rows"]}
print(f"medium {needs['medium']:.3f}, transformer {needs['transformer']:.3f} bits per byte")
ratio = needs["medium"] / needs["transformer"]
print(f"a difference of {abs(ratio - 1):.1%}")
one = "`medium`" if ratio < 1 else "the transformer"
outcome("needs fewer bits", f"{one}, by more than 2 %" if abs(ratio - 1) > 0.02 else "neither, by so much")

# %% [markdown] tags=["answer"]
# Nearly the same. Do not read the order out of it: the settings were tuned for `medium`, the transformer took them as
# they are, and each was trained once. What it does say is that a state of fixed size costs nothing that this measure
# could see, on files of this length. Notebook 11 looks for texts where it does.

# %% [markdown]
# ## Six architectures, one text
#
# Six kinds of layers, each in a model of `medium`'s size, were given the same text, tokens and optimiser, and a
# learning rate that was looked for in the same way. *Mamba-1* came before Mamba-2. *Mamba-3* came after it: its state
# also turns, and *MIMO* is its form that reads and writes through four pairs of B and C at once. *Llama* is a
# transformer. The *hybrid* is Mamba-2 with attention in one layer of nine.
#
# Two more questions are put to them. *Recall*: 256 tokens in random order, then the same again; how many does the model
# foresee the second time? *Parity*: can two such layers, trained on bits, tell whether the ones are odd in number?

# %%
predict("recalls learns parity", "Who recalls, and who learns parity?")

# %%
from mamba2_lab.pretrained import architecture_table
from mamba2_lab.words import table as aligned

print(aligned(architecture_table.lines(), "<>"))
outcome("recalls learns parity")

# %% [markdown]
# How sure is that? Each was trained from three seeds: other weights at first, other windows of the text. Two lines whose
# ranges overlap are not told apart.

# %%
import statistics

from mamba2_lab.pretrained.recipes import MEDIUM

found = architecture_table.results()
for name in sorted(found, key=lambda name: min(found[name]["bits_per_byte"])):
    bits, (rate, *_), seconds = (found[name][key] for key in ("bits_per_byte", "rate", "seconds"))
    print(f"{name:>11}: {min(bits):.3f} to {max(bits):.3f} at rate {rate:g}, {statistics.mean(seconds):3.0f} s a run")

# %%
tokens_read = found["llama"]["tokens"][0]
of_medium = MEDIUM.training.steps * MEDIUM.training.batch_size * MEDIUM.training.length
times = of_medium / tokens_read
print(f"each read {tokens_read / 1e6:.1f} million tokens, on an H100 or H200; `medium` {times:.1f} times that")

# %% [markdown] tags=["answer"]
# The hybrid needs fewer bits than all others, from each of its seeds, and Llama comes next. Mamba-2 alone comes last,
# with Mamba-3 MIMO. Do not read too much into that: its rate came out of short runs that could hardly tell three rates
# apart.

# %%
from mamba2_lab.pretrained.architectures import read as recorded

for row in sorted(recorded(what="rates", architecture="mamba2"), key=lambda row: row["learning_rate"]):
    print(f"rate {row['learning_rate']:g}: loss {row['loss']:.3f} after {row['steps']} steps")

# %% [markdown]
# Attention was trained on windows of 1024 tokens, and reads in such windows here. What if it looks back twice as far?

# %%
predict("windows twice long", "Which suffers more from positions it never saw: Llama, or the hybrid?")

# %%
for name in ("llama", "hybrid"):
    usual, beyond = (statistics.mean(found[name][key]) for key in ("bits_per_byte", "beyond"))
    print(f"{name:>6}: {usual:.3f} bits per byte in windows of 1024, {beyond:.3f} in windows of 2048")
outcome("windows twice long")

# %% [markdown] tags=["answer"]
# Models that attend recall, and one such layer is enough. Only states that turn learn parity. And positions that ruin
# Llama hardly trouble the hybrid: its other layers never count them.
#
# What it does not prove: it is one size and one text, and short of what `medium` read. Short runs chose the rates, and
# the best rate of a short run need not be that of a long one. All else, the decay of weights and the length of the
# warm-up too, was tuned for Mamba-2, in longer runs. Mamba-3 stands here without the MLPs it is published with. Parity
# was learned by tiny models. Tokens per second are of one CPU with two cores; seconds are of how this package trains
# each, and of two kinds of GPU.

# %% [markdown]
# ## Sixteen bits lose what is slow
#
# Half the bits are half the memory. Whether they are faster too is up to the device: notebook 12 measures it, and on a
# CPU the answer can be no. *bfloat16* has the range of float32 and about three digits. Which numbers of a training can
# live with that?

# %%
predict("slow head decay", "A slow head has a decay of 0.999. What is that in bfloat16?", unit="")

# %%
for decay in (0.999, 0.997):
    rounded = torch.tensor(decay).bfloat16().item()
    half_life = math.log(2) / -math.log(rounded) if rounded < 1 else math.inf
    print(f"{decay} becomes {rounded}: half-life {half_life:.0f} tokens, not {math.log(2) / -math.log(decay):.0f}")
outcome("slow head decay", torch.tensor(0.999).bfloat16().item())


# %% [markdown] tags=["answer"]
# Between 1 and 1 - 1/256 there is no number in bfloat16. A memory that never fades is another model. We write a 1 into
# a state and let it fade: exactly, with the decay rounded, and with the state rounded after each step.

# %%
def fade(decay, decay_as=torch.float32, state_as=torch.float32, steps=1500):
    factor, state, left = torch.tensor(decay).to(decay_as).float(), torch.tensor(1.0), []
    for _ in range(steps):
        left.append(state.item())
        state = (state * factor).to(state_as).float()
    return left


# %%
predict(
    "where state end",
    "A decay of 0.997 leaves 0.011 of the 1 after 1500 steps. What is left of a state that is rounded after each step?",
    unit="",
)

# %%
bf16 = torch.bfloat16
ways = {"float32": {}, "decay in bfloat16": {"decay_as": bf16}, "state in bfloat16": {"state_as": bf16}}
memories = {f"decay {decay}": {name: fade(decay, **way) for name, way in ways.items()} for decay in (0.999, 0.997)}
for title, lines in memories.items():
    print(f"{title}:", {name: round(left[-1], 3) for name, left in lines.items()}, "at the end")

# %%
plots.show(plots.rounded_memories(memories))
outcome("where state end", memories["decay 0.997"]["state in bfloat16"][-1])

# %% [markdown]
# Sums suffer in the same way.

# %%
predict("add 1 thousand", "Add 1 a thousand times, in bfloat16. What comes out?", unit="")

# %%
total = torch.tensor(0.0, dtype=bf16)
for _ in range(1000):
    total += 1
print(total.item())
outcome("add 1 thousand", total.item())


# %% [markdown] tags=["answer"]
# States are sums, and so are weights: of many small updates. *Mixed precision* gives 16 bits to the large matrix
# products, where errors are independent and average out, and leaves weights, sums, decays and states in 32. Let us
# train a tiny model in three ways.

# %%
def tiny(vocab_size=257, **changes):
    config = {"d_model": 32, "n_layer": 2, "d_state": 16, "headdim": 16, "chunk_size": 32, **changes}
    return Mamba2LM(**config, vocab_size=vocab_size, seed=0)


def train(model, **changes):
    config = {"steps": 5 if FAST else 100, "batch_size": 8, "length": 64, "learning_rate": 3e-3, **changes}
    return fit(model, tokens, TrainingConfig(**config), progress=False)


# %%
in_16_bits = tiny().bfloat16()
runs = {
    "float32": train(tiny()),
    "mixed precision": train(tiny(), precision="bf16"),
    "all in bfloat16": train(in_16_bits),
}

# %%
plots.show(plots.losses(runs), "16 bits")

# %%
predict(
    "weights 16 bits",
    "D begins at 1, and is kept in 16 bits here. How many of its numbers are still exactly what they were at birth?",
    unit="%",
)

# %%
born, still = tiny().bfloat16().state_dict(), {}
for name in ("layers.0.mixer.D", "layers.0.norm.weight", "layers.0.mixer.in_proj.weight"):
    still[name] = (in_16_bits.state_dict()[name] == born[name]).float().mean().item()
    print(f"{name:>29}: {still[name]:.0%} never moved")
outcome("weights 16 bits", 100 * still["layers.0.mixer.D"])

# %% [markdown] tags=["answer"]
# Near 1, a weight moves by 1 part in 256 or not at all. Updates that small come with low rates, and at the end of every
# schedule rates are low.

# %% [markdown]
# ## Memory for time
#
# The backward pass needs what the forward pass computed, so all of it is kept. *Gradient checkpointing* (Chen et al.
# 2016, arXiv:1604.06174) keeps only what goes into each block, and computes the inside of the block once more when its
# turn comes. PyTorch hands over what it keeps, if asked.

# %%
ids = tokens.random_batch(8, 128, torch.Generator().manual_seed(0)).input_ids
print("a batch of", tuple(ids.shape), "tokens")


# %%
def kept_bytes(model, recompute):
    """Memory that the forward pass leaves for the backward pass, weights not counted."""
    model.checkpoint_blocks, kept = recompute, {}

    def note(tensor):  # several tensors may share one storage
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing):
        next_token_loss(model(ids), ids)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)


# %%
predict(
    "memory grow number",
    "From one block to eight: how many times as much memory does it take with checkpointing?",
    unit="times",
)

# %%
layers = [1, 2, 4, 8]
kept = {
    "everything": [kept_bytes(tiny(n_layer=n_layer), recompute=False) for n_layer in layers],
    "what goes into each block": [kept_bytes(tiny(n_layer=n_layer), recompute=True) for n_layer in layers],
}
print({name: [f"{size / 2**20:.1f} MiB" for size in sizes] for name, sizes in kept.items()})

# %%
plots.show(plots.kept_for_gradients(layers, kept))
outcome("memory grow number", kept["what goes into each block"][-1] / kept["what goes into each block"][0])

# %% [markdown]
# The price is time.

# %%
predict(
    "step forward backward",
    "A step is a forward and a backward pass. How many times as long does it take with checkpointing?",
    unit="times",
)

# %%
import time


def milliseconds(model, recompute, backward=True):
    model.checkpoint_blocks, found = recompute, []
    for _ in range(4):
        start = time.process_time()  # does not run while other programs do
        loss = next_token_loss(model(ids), ids)
        if backward:
            loss.backward()
        found.append(1000 * (time.process_time() - start))
    return min(found)


# %%
deeper = Mamba2LM(**{**shape, "n_layer": 4}, vocab_size=257, seed=0)
forward = milliseconds(deeper, recompute=False, backward=False)
step, longer_step = milliseconds(deeper, recompute=False), milliseconds(deeper, recompute=True)
print(f"forward {forward:.0f} ms, a whole step {step:.0f} ms, with recomputing {longer_step:.0f} ms")
outcome("step forward backward", longer_step / step)

# %% [markdown] tags=["answer"]
# What is added is one more forward pass, and some bookkeeping, which weighs less in a larger model.

# %% [markdown]
# ## A skill comes all at once
#
# A loss over much text falls smoothly. A single skill need not. In the *induction* task a special token (0) stands
# somewhere among random ones, and once more at the end; the answer is what followed it the first time. Text is full of
# such questions: what came after this word last time? (Olsson et al. 2022, arXiv:2209.11895.)

# %%
from mamba2_lab.data.synthetic import accuracy, induction_heads

example = induction_heads(1, 16, torch.Generator().manual_seed(0))
print("tokens:", example.input_ids[0].tolist(), "-> answer:", example.targets[0, -1].item())


# %%
def one_step(model, optimizer, questions):
    loss = torch.nn.functional.cross_entropy(model(questions.input_ids)[:, -1], questions.targets[:, -1])
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


# %%
@torch.no_grad()
def share_right(model, questions):
    return accuracy(model(questions.input_ids), questions)


# %%
def learn(model, task=induction_heads, steps=10 if FAST else 220):
    """Train on fresh questions: {step: share of right answers to 256 others}."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    exam, generator = task(256, 32, torch.Generator().manual_seed(999)), torch.Generator().manual_seed(0)
    shares = {0: share_right(model, exam)}
    for step in range(1, steps + 1):
        one_step(model, optimizer, task(32, 32, generator))
        if step % 10 == 0:
            shares[step] = share_right(model, exam)
    return shares


# %% [markdown]
# To answer, a model has to note at each token which one came before it, and to find the special token again by that
# note. A transformer needs two layers for this. Mamba-2 has a convolution in every layer, which sees the token before.

# %%
predict(
    "these learn layers",
    "Which of these learn it: two layers, one layer, one layer without the convolution (of width 1)?",
    ["two layers alone", "two layers, and one with the convolution", "all three"],
)

# %%
recalls = {
    "two layers": learn(tiny(16)),
    "one layer": learn(tiny(16, n_layer=1)),
    "one layer, no convolution": learn(tiny(16, n_layer=1, d_conv=1)),
}

# %%
plots.show(plots.recall_curves(recalls, chance=1 / 15), "convolution")
learned = sum(max(shares.values()) > 0.9 for shares in recalls.values())
answers = ["none", "two layers alone", "two layers, and one with the convolution", "all three"]
outcome("these learn layers", answers[learned])

# %% [markdown] tags=["answer"]
# Nothing in the curve announces the jump. Several pieces have to be in place, and none of them pays without the others.
# One layer is enough for this, but not without its convolution.

# %% [markdown]
# ## Break it: the gradient of another block
#
# A published fork of Mamba for the Mac does its gradient checkpointing in a loop over the blocks, like this one. Read
# it twice.

# %%
from torch.utils.checkpoint import checkpoint


def read(model, ids):
    u = model.embedding(ids)
    for block in model.blocks:
        u = checkpoint(lambda u: block(u)[0], u, use_reentrant=False)  # noqa: B023
    return model.lm_head(model.norm_f(u))[..., : model.config.vocab_size]


# %%
def loss_and_block_gradients(model, logits):
    """The loss, and the gradient of each block as one long vector."""
    model.zero_grad()
    loss = next_token_loss(logits, ids)
    loss.backward()
    return loss.item(), [torch.cat([w.grad.flatten() for w in block.parameters()]) for block in model.blocks]


def errors(found, right):
    return [((a - b).norm() / b.norm()).item() for a, b in zip(found, right, strict=True)]


# %%
predict(
    "loss right gradients",
    "Is its loss right? Are its gradients?",
    ["both are right", "the loss is right, the gradients are wrong", "both are wrong"],
)

# %%
deep = tiny(n_layer=4)
loss, right = loss_and_block_gradients(deep, deep(ids))
other_loss, found = loss_and_block_gradients(deep, read(deep, ids))
print(f"the loss is {loss:.4f} without checkpointing, {other_loss:.4f} with it")

# %%
plots.show(plots.gradient_errors(errors(found, right)))
verdicts = {True: "the loss is right, the gradients are wrong", False: "both are right"}
outcome(
    "loss right gradients",
    verdicts[max(errors(found, right)) > 0.01] if abs(loss - other_loss) < 1e-5 else "both are wrong",
)

# %% [markdown] tags=["answer"]
# A lambda does not keep the value of `block`, it looks the name up when it runs. In the forward pass it runs at once.
# In the backward pass it runs again, the loop is long over, and `block` is the last one, whoever's turn it is. The
# shapes agree, so nothing complains. (mlx-lm had the same trap in its cache, see its pull request 976. A linter knows
# it as rule B023, which the comment in that line silences.)

# %%
predict("loss such model", "Does the loss of such a model go down?", ["yes", "no"])

# %%
forked = tiny(n_layer=4)
forked.forward = lambda ids, document_ids=None: read(forked, ids)
runs = {"right gradients": train(tiny(n_layer=4)), "gradients of the last block": train(forked)}

# %%
plots.show(plots.losses(runs), "a checkpoint broken")
of_forked = [record.loss for record in runs["gradients of the last block"]]
outcome("loss such model", "yes" if of_forked[-1] < of_forked[0] else "no")

# %% [markdown] tags=["answer"]
# A falling loss proves little. What would have shown the error at once is a comparison: the same gradients, with and
# without checkpointing. Here with `partial`, which does keep the value:

# %%
from functools import partial


def read(model, ids):
    u = model.embedding(ids)
    for block in model.blocks:
        u, _ = checkpoint(partial(block), u, use_reentrant=False)
    return model.lm_head(model.norm_f(u))[..., : model.config.vocab_size]


_, found = loss_and_block_gradients(deep, read(deep, ids))
print("largest error:", max(errors(found, right)))

# %% [markdown]
# ## Break it: a memory that is dead
#
# Notebook 07 showed a model that is born without memory. What does training make of such models? We break the memory in
# four ways. A begins a thousand times too large, as if time were counted in milliseconds: everything fades at once. Or
# dt is held by `dt_limit`, a clamp, at 10 or more, with the same effect; or at 0.00001 or less, so that nothing fades.

# %%
broken = {
    "as it should be": {},
    "A too large": {"A_init_range": (1000.0, 16000.0)},
    "dt at least 10": {"dt_limit": (10.0, math.inf)},
    "dt at most 0.00001": {"dt_limit": (0.0, 1e-5)},
}
models = {name: tiny(**changes) for name, changes in broken.items()}

# %% [markdown]
# Or the minus sign of A is lost, and states grow.

# %%
from mamba2_lab.layers import Mamba2


class Growing(Mamba2):
    def discretise(self, *args):
        terms = super().discretise(*args)
        return terms._replace(log_decay=-terms.log_decay)


models["sign of A lost"] = tiny()
for block in models["sign of A lost"].blocks:
    block.mixer.__class__ = Growing

# %%
predict(
    "train windows 64",
    "We train them on windows of 64 bytes. How many of the four mistakes will cost more than 0.05 nats?",
    ["0", "1", "2", "3", "4"],
)

# %%
runs = {name: train(model, learning_rate=0.01) for name, model in models.items()}
ends = {name: sum(record.loss for record in of[-20:]) / len(of[-20:]) for name, of in runs.items()}
for name, end in ends.items():
    print(f"{name:>22}: {end:.3f} nats at the end")

# %%
plots.show(plots.losses(runs), "mistakes")
outcome("train windows 64", sum(end > ends["as it should be"] + 0.05 for end in ends.values()))

# %% [markdown] tags=["answer"]
# Where a curve differs, nobody would notice without the right one beside it: every loss falls. In so short a training,
# what the convolutions see is nearly all there is to learn. Would a long text tell?

# %%
text = torch.tensor([tokenizer.encode(by_size[-1].text)])
with torch.no_grad():
    for name, model in models.items():
        losses = [next_token_loss(model(text[:, :l]), text[:, :l]).item() for l in (64, 1000, 10_000)]
        print(f"{name:>22}: " + ", ".join(f"{loss:.2f}" for loss in losses) + " nats over 64, 1000, 10,000 bytes")

# %% [markdown]
# It exposes the growing states, which end as `nan`, and nothing else that was hidden. So let us ask for what a memory is
# there for.

# %%
others = ("A too large", "dt at least 10", "dt at most 0.00001")
predict("other learn recall", "Which of the other three learn to recall?", [*others, "none of them", "all of them"])

# %%
recalls = {"as it should be": recalls["one layer"]}
for name in others:
    recalls[name] = learn(tiny(16, n_layer=1, **broken[name]))

# %%
plots.show(plots.recall_curves(recalls, chance=1 / 15), "fading")
able = [name for name in others if max(recalls[name].values()) > 0.9]
outcome("other learn recall", "all of them" if len(able) == 3 else ", ".join(able) or "none of them")

# %% [markdown] tags=["answer"]
# Keeping everything seems to be good enough. But this exam has one thing to remember, and nothing to forget. In the
# next one, two questions stand in a row, and only the second counts.

# %%
from mamba2_lab.data.synthetic import TaskBatch


def two_questions(batch_size, length, generator):
    first, second = (induction_heads(batch_size, length // 2, generator) for _ in range(2))
    ids = torch.cat([first.input_ids, second.input_ids], dim=1)
    targets = torch.cat([torch.full_like(first.targets, -100), second.targets], dim=1)  # -100: not asked
    return TaskBatch(ids, targets)


# %%
names = ("as it should be", "dt at most 0.00001")
recalls = {name: learn(tiny(16, n_layer=1, **broken[name]), two_questions) for name in names}
print({name: f"at best {max(shares.values()):.0%}" for name, shares in recalls.items()})

# %%
plots.show(plots.recall_curves(recalls, chance=1 / 15), "two questions")

# %% [markdown]
# Each mistake needed a test of its own. Could a longer training repair them?

# %%
for name in broken:
    next_token_loss(models[name](ids), ids).backward()
    mixer = models[name].blocks[0].mixer
    print(f"{name:>22}: gradient of dt_bias {mixer.dt_bias.grad.norm():.1e}, of A_log {mixer.A_log.grad.norm():.1e}")

# %% [markdown]
# A clamp passes no gradient: where dt is held at a limit, `dt_bias` gets exactly 0, and training can never bring it
# back. And of a memory that fades at once there is too little left to learn from: look at its `A_log`.
#
# <details><summary>Why there is a clamp at all</summary>
#
# The official code has it as well. Its author calls it an option that was explored and not used in the end
# (state-spaces/mamba, issue 448).
#
# </details>
#
# ## Tune it on your own text
#
# Nobody has to begin with a model that has read nothing. *Fine-tuning* goes on with one that has learned already.
# `medium`, which is in the box, has read Python files only. What it reads now stands in for your own text, and is on
# every machine with PyTorch: PyTorch's header files, in C++.

# %%
from pathlib import Path

from mamba2_lab import load_tokenizer
from mamba2_lab.data import text_files

headers = text_files(Path(torch.__file__).parent / "include" / "c10" / "core", "*.h")
words = load_tokenizer("medium")  # a model goes on with its own tokenizer: its ids have no other meaning
print(f"{len(headers.train)} files to learn from, {pack(headers.train, words).ids.numel():,} tokens")
print(f"{len(headers.held_out)} files held out, such as {headers.held_out[0].name}")

# %% [markdown]
# We measure twice how good a model is: on header files that were held out, and on the Python files that we looked at in
# our own training, which `medium` has not read either. The second measurement is the control.

# %%
kinds = {"C++": headers.held_out[:1] if FAST else headers.held_out, "Python": few}


def judged(model):
    return {kind: bits_per_byte(model, texts, words) for kind, texts in kinds.items()}


# %% [markdown]
# There are two ways. All weights can go on learning, at a low rate, so that they are not shaken out of what they know.
# Or they stay as they are, and beside every matrix W (out,in) of the layers two thin ones are learned, B (out,r) and A
# (r,in): the model computes with W + 2 B A. B begins at zero, so that nothing is changed at first. This is *LoRA* (Hu
# et al. 2021, arXiv:2106.09685). At the end 2 B A is added to W, and the model is one like any other.

# %%
ways = {"all weights": {"learning_rate": 3e-4}, "LoRA, rank 8": {"learning_rate": 3e-3, "lora": 8}}
brief = {"steps": 2 if FAST else 30, "batch_size": 2, "length": 256, "warmup_steps": 5}
ways = {name: TrainingConfig(**brief, **changes) for name, changes in ways.items()}

# %%
from mamba2_lab.training.memory import needed

medium = Mamba2LM.from_pretrained("medium")
for name, config in ways.items():
    print(name, str(needed(medium, config)).replace(": ", ":\n    "), sep=": ")

# %% [markdown]
# Adapters have few gradients, and the optimiser has few means to keep. What the batch needs hardly changes.

# %%
predict(
    "after thirty small",
    "After thirty small steps with all weights, what has become of the bits per byte of C++, and of Python?",
    ["both are lower", "C++ is lower, Python higher", "C++ is lower, Python as it was, within 1 %"],
)

# %%
found = {"as it was": judged(medium)}
for name, config in ways.items():
    model = Mamba2LM.from_pretrained("medium")
    fit(model, pack(headers.train, words), config, progress=False)
    found[name] = judged(model)

# %%
print(f"{'bits per byte':>14} {'C++':>8} {'Python':>8}")
for name, bits in found.items():
    print(f"{name:>14} {bits['C++']:8.3f} {bits['Python']:8.3f}")

# %%
for name in ways:
    change = {kind: found[name][kind] / found["as it was"][kind] - 1 for kind in kinds}
    print(f"{name}: " + ", ".join(f"{share:+.1%} on {kind}" for kind, share in change.items()))
cpp, python = (found["all weights"][kind] / found["as it was"][kind] - 1 for kind in ("C++", "Python"))
became = "both are lower" if max(cpp, python) < -0.01 else "C++ is lower, Python higher"
outcome("after thirty small", became if abs(python) > 0.01 else "C++ is lower, Python as it was, within 1 %")

# %% [markdown] tags=["answer"]
# What is learned is paid for with what was known: that is why a control is measured. On the command line the first of
# these commands does it, with any text of yours, and tells the bits per byte before and after. The second lets the
# model write.

# %% [markdown]
#     mamba2-lab train --from medium --data PATH --folder tuned --lora 8
#     mamba2-lab generate --model tuned/merged
#
# ## Recap
#
# - Text asks the questions by itself: the targets are the input, one token later.
# - A step is a learning rate, a clipped gradient, weight decay for matrices, and running means to divide by.
# - The loss means something next to rivals, in bits per byte, on files that were held out.
# - Large products can stand 16 bits. Weights, sums, decays and states do not.
# - Gradient checkpointing saves memory and costs time; its gradients are the very same: compare them.
# - A falling loss proves little. Ask a model what it should be able to do.
# - A trained model can go on with your own text, whole or by adapters. Measure what it forgets.
#
# ## On your own
#
# Does a model learn more from text in order? Sort the files by length, and let the windows come from the short files
# first and from the long ones later: a *curriculum*. Train twice, with the same number of bytes. Compare in bits per
# byte, with at least three seeds each: how much do two runs differ that differ in nothing but the seed?
#
# ## To read on
#
# - A. Karpathy, [A recipe for training neural networks](https://karpathy.github.io/2019/04/25/recipe/).
# - C. Olsson and others, [In-context learning and induction heads](https://arxiv.org/abs/2209.11895).
# - E. Hu and others, [LoRA](https://arxiv.org/abs/2106.09685).
#
# **Before**: [07, The language model](07_the_language_model.ipynb). **Next**: [09, Generation](09_generation.ipynb)
# lets a trained model write.
