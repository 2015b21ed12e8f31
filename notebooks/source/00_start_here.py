# %% [markdown]
# # A language model with a memory of fixed size runs on your machine
#
# After this notebook you can
#
# 1. say which device of your machine computes, and why that one;
# 2. let a trained Mamba-2 write, get the same text again, and get another;
# 3. read a picture of the model's memory being rewritten, byte by byte.
#
# **You need** to read Python. Nothing about state-space models: every term is explained where it first appears.
# **Time**: 20 minutes for you, under a minute for the machine. Nothing is downloaded.

# %% [markdown]
# ## What this is
#
# A *language model* reads a text piece by piece and says, after each piece, what may come next. To do that it has to
# remember what it read. A *transformer* keeps something for every earlier piece, so its memory grows with the text.
#
# **Mamba-2** keeps a *state* instead: a block of numbers whose size never changes. Each new piece makes the old content
# fade a little and writes something new over it. What fades, how fast, and what is written is learned.
#
# This course builds such a model from a single fading number up to a language model, in fifteen notebooks. Run the
# cell again whenever you like: it counts the exercises that you have passed.

# %%
from mamba2_lab import plots
from mamba2_lab.course import CHAPTERS, progress

plots.show(plots.course_map(CHAPTERS, progress()))

# %% [markdown]
# ## How to work with it
#
# - Before a result you are often asked to **predict** it. Guess, even wildly: a wrong guess shows you where to
#   look. Nobody sees it but you, and you may go on without one.
# - An **exercise** is a function to write. It is checked when you run its cell, `name.hint()` helps, and
#   `name.solution()` shows an answer. If you leave it open a reference takes its place, and everything runs. Its stars
#   say how hard it is, and beside them stands why. If you are short of time, do those of importance 3.
# - *On your own*, at the end of each notebook, is an open task: nothing checks it, and there are many good answers.
# - `make lab` and `mamba2-lab course` open copies of your own. There an answer that passed is **kept**, in the folder
#   `answers`, and later notebooks use it. So are your guesses.
# - `make again CHAPTER=05`, or `mamba2-lab course FOLDER --again 05`, brings a notebook back as it was, and
#   `mamba2-lab course FOLDER --start-over` all of them, without answers. What was there is put into the folder `aside`.
# - **Save before you reload the page**, and before you close it. Sliders and other controls live in the page and in the
#   kernel: they are back after a reload if you had saved and the kernel still runs. If they are lost, or if an output
#   says *model not found*, run their cell again.
#
# ## Your machine
#
# A *device* is what computes: the CPU, or a graphics processor, called `cuda` on NVIDIA hardware and `mps` on Apple's.
# A fast device that computes wrong numbers is of no use, so before one is chosen it has to give the CPU's numbers on a
# small model. The report says what was chosen, and why.

# %%
from mamba2_lab.health import choose, summary

print(summary())

# %% [markdown]
# ## First words
#
# Two models are in the box. We begin with the smaller one, `small`. Let us load it, together with its *tokenizer*, which
# turns text into the numbers that the model reads, called *tokens*.

# %%
import torch

from mamba2_lab import Mamba2LM, load_tokenizer, stream

torch.set_grad_enabled(False)  # we only read and write here, nothing is trained
model = Mamba2LM.from_pretrained("small", device=choose().device)
tokenizer = load_tokenizer("small")
print(f"{model.num_parameters():,} weights in {model.config.n_layer} layers, on {model.device}")

# %% [markdown]
# The tokens of this model are the bytes of the text.

# %%
from mamba2_lab.course import outcome, predict

predict("naive", "How many tokens has the word *naïve*, with its two dots?", unit="tokens")

# %%
tokens = tokenizer.encode("naïve")
print(tokens)
outcome("naive", len(tokens))

# %% [markdown] tags=["answer"]
# Six: in UTF-8 the letter ï takes two bytes, 195 and 175.

# %% [markdown]
# Now let it write. The model was trained on Python source, that of the standard library and of many packages, so we
# begin a function and let it go on. `stream` gives the tokens as they are made. Each is drawn at random from what the model thinks likely;
# the `seed` fixes the draws.

# %%
prompt = "def area(radius):\n    "


def write(seed, tokens=200):
    print(prompt, end="")
    options = {"max_new_tokens": tokens, "temperature": 0.6, "seed": seed}
    for token in stream(model, tokenizer.encode(prompt), tokenizer=tokenizer, **options):
        print(token.text, end="", flush=True)


write(seed=3)

# %% [markdown]
# It looks like Python, and it means nothing. What it has learned is remarkable all the same: indentation, quotes that
# close, words spelled right, all a byte at a time. The record of its training tells what it had to learn from. *Held
# out* files are those that it never saw. How many *bits per byte* it needs for them says how well it predicts, and a
# file compressor is a fair rival.

# %%
import json

from mamba2_lab.weights import BOX

record = json.loads((BOX / "small" / "record.json").read_text())
rows = {row["name"]: row for row in json.loads((BOX / "comparison.json").read_text())["rows"]}
print(f"read: {record['tokens']:,} bytes, most of them several times")
needs = {name: f"{rows[name]['bits_per_byte']:.2f}" for name in ("small", "xz")}
print(f"held out: {needs['small']} bits per byte; the compressor xz needs {needs['xz']}")

# %%
predict(
    "seeds",
    "What will a second run with seed 3 write, and what will seed 4 write?",
    ["3 the same, 4 another", "both the same", "both another"],
)

# %%
write(seed=3, tokens=60)
print("\n\n--- and with seed 4 ---\n")
write(seed=4, tokens=60)
outcome("seeds")

# %% [markdown] tags=["answer"]
# The same seed gives the same text on every run: the draws come from a generator that starts where the seed says.

# %% [markdown]
# The other model, `medium`, has eight times the weights. Its tokens are not bytes but pieces of words, four thousand of
# them, so it writes a few letters at a time.

# %%
predict("medium", "`medium` gets the same beginning. What will it do better than `small`, and what still not?")

# %%
large, pieces = Mamba2LM.from_pretrained("medium", device=model.device), load_tokenizer("medium")
print(f"{large.num_parameters():,} weights; held out: {rows['medium']['bits_per_byte']:.2f} bits per byte\n")
print(prompt, end="")
options = {"max_new_tokens": 120, "temperature": 0.6, "seed": 9}
for token in stream(large, pieces.encode(prompt), tokenizer=pieces, **options):
    print(token.text, end="", flush=True)
outcome("medium")

# %% [markdown] tags=["answer"]
# It writes whole sentences, and keeps to a subject for a while. What it says is still made up. In this notebook we stay
# with `small`, whose bytes are easy to look at.

# %% [markdown]
# ## How big is its memory?
#
# What the model keeps of the text is called its *cache*: the state of every layer, and the last three inputs of a
# short filter that each layer has in front (notebook 06 builds it). `prefill` reads a text and returns what may come
# next, and the cache.

# %%
predict("cache", "How many times as large is the cache after 2,000 bytes of text as after 20?", unit="times")

# %%
from pathlib import Path

text = Path(json.__file__).read_text(encoding="utf-8")
sizes = {}
for length in (20, 200, 2000):
    ids = torch.tensor([tokenizer.encode(text)[:length]])
    _, cache = model.prefill(ids)
    sizes[length] = cache.nbytes
    print(f"after {length:>5} bytes of text the cache holds {cache.nbytes:,} bytes")
outcome("cache", sizes[2000] / sizes[20])

# %% [markdown] tags=["answer"]
# It is just as large. That is the promise of this kind of model: to read on costs the same, however much came before.
# It is also the price: what does not fit has to be forgotten, and the model must choose.

# %% [markdown]
# ## What did its memory do meanwhile?
#
# The state of each layer is divided among *heads*. Each has a block of numbers, and fades at a rate of its own.

# %%
texts, heads, rows, columns = cache.layers[0].ssm_state.shape
print(f"{heads} heads in each layer, each with a block of {rows} x {columns} numbers")

# %% [markdown]
# Let us write once more, and after every byte ask each head what share of its block is new: 0 if nothing faded and
# nothing was written, 1 if everything was replaced.

# %%
import math

from mamba2_lab.inspect import state_change

writing = stream(model, tokenizer.encode(prompt), max_new_tokens=72, tokenizer=tokenizer, temperature=0.6, seed=3)
before, tokens, changes = writing.cache, [], []
for token in writing:
    _, after = model.step(torch.tensor([token.id]), before)  # read the byte that was just written
    tokens.append(token)
    changes.append(state_change(before, after).flatten())
    before = after
change = torch.stack(changes, dim=1)  # (heads, tokens)

# %% [markdown]
# *Surprise* says how unlikely a byte was to the model: 1 bit is the toss of a coin, 0 bits a certainty.

# %%
surprise = [-token.logprob / math.log(2) for token in tokens]
plots.show(plots.state_changes([token.text for token in tokens], surprise, change))

# %% [markdown]
# How far apart are they, in numbers? And which bytes moved the steady half most?

# %%
by_head = change.mean(dim=1)
steady = change[by_head.argsort()[: len(by_head) // 2]].mean(dim=0)
top = steady.argsort(descending=True)[:8].tolist()
print(f"replaced per byte: {by_head.min():.0%} in the steadiest head, {by_head.max():.0%} in the most restless")
print("bytes that moved the steady half most:", [tokens[i].text for i in sorted(top)])

# %% [markdown]
# ## Break it: a generator that forgets its context
#
# A published port of Mamba gave the model only its newest token, and no state, at every step of generation. Text came
# out, so it seemed to work. What does that cost? We take a file that the model was not trained on, and compare the bits
# per byte it needs with its memory, and with the memory wiped before each byte.

# %%
predict(
    "without memory",
    "A byte that could be anything takes 8 bits. How many does a byte take without the memory?",
    unit="bits",
)

# %%
from mamba2_lab.data import standard_library

document = next(document for document in standard_library().held_out if document.name == "operator.py")
ids = torch.tensor([tokenizer.encode(document.text)[:1500]])
logits = model(ids)


# %%
def bits_per_byte(logits, targets):
    nats = torch.nn.functional.cross_entropy(logits.cpu(), targets)
    return nats.item() / math.log(2)


after_each_byte = model(torch.arange(256)[:, None])[:, 0].cpu()  # 256 texts of one byte: nothing to remember
with_memory = bits_per_byte(logits[0, :-1], ids[0, 1:])
without = bits_per_byte(after_each_byte[ids[0, :-1]], ids[0, 1:])
print(f"with its memory: {with_memory:.2f} bits per byte; forgetting its context: {without:.2f}")
outcome("without memory", without)

# %%
forgetful = tokenizer.encode(prompt)
generator = torch.Generator().manual_seed(3)
for _ in range(100):
    probabilities = (model(torch.tensor([forgetful[-1:]]))[0, -1].cpu() / 0.6).softmax(dim=0)
    forgetful.append(int(torch.multinomial(probabilities, 1, generator=generator)))
print(tokenizer.decode(forgetful))

# %% [markdown]
# Without its memory the model knows which byte likes to follow which, and no more. "It writes something" is no test: compare
# with numbers that you trust, as every notebook here does.

# %% [markdown]
# ## Recap
#
# - Your machine computes on the device named above, for the reason stated there.
# - A seed fixes a text. The model reads bytes, and its cache has the same size whatever the length.
# - Heads forget at very different speeds, and punctuation can make even steady ones let go.
#
# ## On your own
#
# Begin a piece of Python of your own and let `write` go on from it, at temperatures from 0.1 to 1.5. Which mistakes come
# from a low temperature, and which from a high one? Can you find a beginning at which `small` keeps its sense for a
# whole line?
#
# ## To read on
#
# - A. Gu and T. Dao, [Mamba](https://arxiv.org/abs/2312.00752): the paper that made a recurrence choose.
# - T. Dao and A. Gu, [Transformers are SSMs](https://arxiv.org/abs/2405.21060): the paper of Mamba-2, and its authors'
#   own [introduction](https://tridao.me/blog/2024/mamba2-part1-model/) in four parts.
#
# **Next**: [01, A memory that fades](01_a_memory_that_fades.ipynb) starts from a single number that forgets.
