# %% [markdown]
# # A language model is a stream that begins and ends at the same table
#
# After this notebook you can
#
# 1. build a language model out of blocks, and say what each of its weights is for;
# 2. predict whether a signal survives a deep stack, from the way the weights begin, and measure it;
# 3. read what a trained model expects, byte by byte and layer by layer.
#
# **You need** the block of notebook 06: a *mixer*, which carries information from token to token, and *RMSNorm*, which
# brings a vector to size 1. From notebook 01, the *half-life* of a memory.
# **Time**: 95 minutes for you, 60 of them for the exercises; under two minutes for the machine. Everything runs on the
# CPU.
#
# One line of Python comes with us all the way.

# %%
from mamba2_lab.course import glossary

line = "for i in range(10):"
glossary("mixer", "RMSNorm", "half-life", "surprise")

# %% [markdown]
# ## A table turns tokens into vectors
#
# `small`, the smaller model in the box, reads bytes. The tokens that a model knows are its *vocabulary*: here the 256
# bytes, and one more that says where a text ends.

# %%
import torch

from mamba2_lab import Mamba2LM, load_tokenizer

torch.set_num_threads(1)  # models as small as ours gain next to nothing from a second one
model, tokenizer = Mamba2LM.from_pretrained("small").requires_grad_(False), load_tokenizer("small")
ids = torch.tensor([tokenizer.encode(line)])
print(f"{tokenizer.vocab_size} tokens; the line is", ids[0].tolist())

# %% [markdown]
# The *embedding* is a table with a row of numbers for each token. To read a token is to look up its row.

# %%
from mamba2_lab.course import outcome, predict

predict("rows of the table", "How many rows has the table?", unit="rows")

# %%
table = model.embedding.weight
print("rows, and numbers in each:", tuple(table.shape))
print("the line as vectors (b,l,d):", tuple(table[ids].shape))
outcome("rows of the table", len(table))

# %% [markdown] tags=["answer"]
# More rows than tokens: their number is rounded up to a multiple of 8 (16 in the official models), because matrix
# products run better at such sizes. The last rows belong to no token. We shall meet them again.

# %% [markdown]
# ## One stream runs past all the blocks
#
# A model does not feed one mixer into the next. Each token has one vector, the *residual stream*, which runs past all
# the blocks. A block reads a normalised copy of it, and adds what its mixer made of that.

# %%
from mamba2_lab import plots

plots.show(plots.model_map(model.config.n_layer, *reversed(table.shape)))

# %% [markdown]
# ### Exercise: one block ★
#
# ★ one line · importance 3 of 3 · 5 minutes · needed for the stream through all blocks

# %%
from mamba2_lab.course import exercise


@exercise("residual_block")
def residual_block(u, norm, mixer):
    """u (b,l,d), the stream in float32 -> (b,l,d): the stream after a block, whatever the dtype of its weights."""
    ...


# %% [markdown]
# The docstring insists on float32. A model may keep its weights in *bfloat16*, numbers of 16 bits that are precise to
# about 1 part in 256. The stream is a sum of many small terms.

# %%
predict("a small sum", "A number of the stream is 1, and a block adds 0.003. What is the sum in bfloat16?", unit="")

# %%
total = torch.tensor(1.0, dtype=torch.bfloat16) + 0.003
print(total.item())
outcome("a small sum", str(total.item()))


# %% [markdown] tags=["answer"]
# The block might as well not be there. So the stream stays in float32. Now let the line run past all blocks, and keep
# what the stream was after each.

# %%
def streams(blocks, u, rule=residual_block):
    """The stream before the first block, and after each: len(blocks) + 1 tensors (b,l,d)."""
    found = [u]
    for block in blocks:
        found.append(rule(found[-1], block.norm, block.mixer))
    return found


# %% [markdown]
# As the *size* of vectors we take the root mean square of their numbers: what RMSNorm divides by.

# %%
def size(vectors):
    return vectors.square().mean().sqrt().item()


stream = streams(model.blocks, table[ids])
print("size of the stream after each layer:", [round(size(u), 2) for u in stream])


# %% [markdown]
# Every block has added something. The mixers never see how large the stream has become: their norm stands before them.
#
# ## The same table turns vectors into expectations
#
# At the end there must be a *logit* for each token of the vocabulary: a number that is larger the more the token is
# expected next. No new matrix is needed. The stream is normalised once more, and its product with a row of the
# embedding table is the logit of that row's token: the more the stream points along a token's row, the more that token
# is expected. Such a head is called *tied* (Press & Wolf 2017, arXiv:1608.05859).
#
# ### Exercise: the head ★★
#
# ★★ a norm, a product and a cut · importance 3 of 3 · 10 minutes · needed for everything that reads the stream

# %%
@exercise("next_token_logits")
def next_token_logits(u, norm, table, vocab_size):
    """u (...,d), norm, table (rows,d) -> (...,vocab_size): one logit for each token, none for the padding rows."""
    ...


# %% [markdown]
# Table, blocks, head: that is the language model. Is it the one of the package?

# %%
vocab_size = tokenizer.vocab_size
logits = next_token_logits(stream[-1], model.norm_f, table, vocab_size)
difference = (logits - model(ids)).abs().max().item()
print(f"logits {tuple(logits.shape)}; largest difference from the package: {difference:.1e}")
assert difference < 1e-4

# %% [markdown]
# Softmax turns logits into probabilities. What about the rows that belong to no token? No text ever pulled at them, so
# they are still small, and their logits near 0.

# %%
predict(
    "padding rows",
    "The last rows of the table belong to no token. If nobody cuts them off, how much probability do they get "
    "together, at worst?",
    unit="%",
)

# %%
uncut = (model.norm_f(stream[-1]) @ table.T).softmax(dim=-1)
padding = uncut[0, :, vocab_size:].sum(dim=-1)
print(f"on average {padding.mean():.2%}; at worst {padding.max():.1%}, after {line[: int(padding.argmax()) + 1]!r}")
outcome("padding rows", 100 * padding.max().item())

# %% [markdown] tags=["answer"]
# A logit near 0 counts for little only where the model is sure of something else. Where it is not, ids come out that no
# tokenizer knows.
#
# <details><summary>Where this has happened</summary>
#
# The official `generate` cuts the padding only if it is told `vocab_size`. An engine for another model, which had
# padded its table with zeros, wrote such ids although it always took the likeliest (mirage-project/mirage, issue 751).
#
# </details>

# %% [markdown]
# ## What the model expects, byte by byte
#
# Cut the line short, and look at the bytes that the model thinks most likely to follow.

# %%
predict("next in a loop", "How sure is the model of the byte that comes after `for i in r`?", unit="%")

# %%
last = [3, 5, 9, 12, 14]  # where five beginnings of the line end
best = logits[0, last].softmax(dim=-1).topk(5)
guesses = [[tokenizer.decode([i]) for i in row] for row in best.indices]

# %%
plots.show(plots.expectations([line[: i + 1] for i in last], guesses, best.values))
outcome("next in a loop", 100 * best.values[last.index(9), 0].item())

# %% [markdown] tags=["answer"]
# One pass gave all of this: there are logits at every position, made of the bytes up to there.

# %% [markdown]
# ## What each layer has found out
#
# The stream has the same shape after every block, so the head can read it anywhere, not only at the end. This is the
# *logit lens* (nostalgebraist 2020, "interpreting GPT: the logit lens", LessWrong). It shows what the model would
# expect if the blocks that are left added nothing.

# %%
predict(
    "before the blocks",
    "Before the first block the stream of each token is its own row of the table. What does the head read there?",
    ["the byte that comes next", "the byte that is there", "nothing: all bytes alike"],
)

# %%
everywhere = next_token_logits(torch.stack(stream), model.norm_f, table, vocab_size)[:, 0]  # (layers + 1, l, vocab)
print("before the first block:", repr(tokenizer.decode(everywhere[0].argmax(dim=-1))))
print("after the last block:  ", repr(tokenizer.decode(everywhere[-1].argmax(dim=-1))))
read_back = (everywhere[0].argmax(dim=-1) == ids[0]).all()
outcome("before the blocks", "the byte that is there" if read_back else "other bytes")

# %% [markdown] tags=["answer"]
# A row points along itself: the tied head reads back what was read in. From there the blocks have to turn *what is
# here* into *what comes next*. As in notebook 00, the *surprise* of a byte is -log2 of the probability it was given.

# %%
expected = everywhere[:, :-1].softmax(dim=-1)
guesses = [[tokenizer.decode([i]) for i in row] for row in expected.argmax(dim=-1)]
given = expected.gather(2, ids[:, 1:, None].expand(len(expected), -1, 1)).squeeze(2)  # to the byte that follows
surprise = -given[-1].log2()

# %%
plots.show(plots.logit_lens(list(line), surprise, guesses, given))


# %% [markdown]
# Low layers complete pairs of letters; for whole words it takes more layers. Some bytes surprise all of them: at the
# start of a text nothing says that a loop is coming, and nobody can foresee a number.
#
# ## Bytes, or longer pieces?
#
# Bytes make a small table and a long sequence. Most models read longer pieces, found by *byte-pair encoding* (BPE):
# start with bytes, and again and again give a token of its own to the pair of neighbours that stands together most
# often (Sennrich et al. 2016, arXiv:1508.07909).
#
# ### Exercise: one merge ★★
#
# ★★ a loop that must not count a token twice · importance 1 of 3 · 10 minutes · needed for sixty merges, a tokenizer in
# small

# %%
@exercise("merge_pair")
def merge_pair(ids, pair, new_id):
    """A list of token ids -> a new list in which each `pair` of neighbours is one `new_id`, taken from the left."""
    ...


# %% [markdown]
# To learn from we take the standard library of your Python.

# %%
pairs = {b"  ": "two blanks", b"se": "`se`, as in `self`", b"()": "`()`", b", ": "a comma and a blank"}
predict("commonest pair", "Which pair of bytes stands together most often in Python source?", list(pairs.values()))

# %%
from collections import Counter

from mamba2_lab.data import standard_library

corpus = standard_library()
sample = list("".join(document.text for document in corpus.train[::40])[:50_000].encode())
(pair, times), *_ = Counter(zip(sample, sample[1:], strict=False)).most_common()
print(f"{bytes(pair)} stands {times:,} times in {len(sample):,} bytes")
outcome("commonest pair", pairs.get(bytes(pair), str(bytes(pair))))

# %% [markdown] tags=["answer"]
# Sixty merges, each on what the one before has left:

# %%
pieces, merges = {i: bytes([i]) for i in range(256)}, {}
for new_id in range(257, 317):
    pair = Counter(zip(sample, sample[1:], strict=False)).most_common(1)[0][0]
    sample, merges[pair] = merge_pair(sample, pair, new_id), new_id
    pieces[new_id] = pieces[pair[0]] + pieces[pair[1]]
print(*[pieces[new_id] for new_id in list(merges.values())[::4]])

# %% [markdown]
# (One in four is shown.) To cut a text, the same merges are made in the same order. Our line:

# %%
cut = tokenizer.encode(line)
for pair, new_id in merges.items():
    cut = merge_pair(cut, pair, new_id)
print([pieces[i] for i in cut])

# %% [markdown]
# `BPETokenizer` is the same idea, with one rule more: pieces are merged inside words, never across. It is written to be
# fast, so let us train several on more text, and see how they cut the line.

# %%
import os

from mamba2_lab.text import BPETokenizer

FAST = bool(os.environ.get("MAMBA2_LAB_FAST"))  # for quick checks: less text to learn from
texts = [document.text for document in corpus.train[:: 12 if FAST else 4]]
bpe = {rows: BPETokenizer.train(texts, vocab_size=rows) for rows in (512, 1024, 2048, 4096, 8192)}
print(f"{len(bpe)} tokenizers, trained on {sum(map(len, texts)):,} characters")


# %%
def cut_line(tokenizer):
    return "|".join(tokenizer.decode([i]) for i in tokenizer.encode(line))


print(f"bytes     {cut_line(tokenizer)}")
for rows in (512, 1024, 4096):
    print(f"BPE {rows:<5} {cut_line(bpe[rows])}")

# %% [markdown]
# A larger vocabulary holds longer pieces, up to whole words with the space before them. Digits stay alone, so that all
# numbers are written alike. `medium`, the larger model in the box, reads 4,096 kinds of token, learned in this way.

# %%
predict(
    "longest tokens",
    "What are the longest tokens that were learned from Python source?",
    ["long names", "whole statements", "no words at all"],
)

# %%
longest = sorted((bpe[8192].decode([i]) for i in range(1, 8192)), key=len, reverse=True)
print(*map(repr, longest[:8]), sep="\n")
outcome("longest tokens", "words" if any(letter.isalnum() for letter in "".join(longest[:8])) else "no words at all")

# %% [markdown] tags=["answer"]
# Lines of signs, and deep indentation. Longer tokens make shorter sequences: fewer steps for the same text. The price
# is the table, which has a row for every token.

# %%
held_out = [document.text for document in corpus.held_out]
tokens = {rows: sum(map(len, each.encode_batch(held_out))) for rows, each in {257: tokenizer, **bpe}.items()}
bytes_per_token = {rows: tokens[257] / count for rows, count in tokens.items()}

# %%
in_blocks = sum(weight.numel() for weight in model.layers.parameters())
for rows, length in bytes_per_token.items():
    share = rows * model.config.d_model / in_blocks
    print(f"{rows:>5} tokens of {length:.2f} bytes each; their table: {share:>4.0%} of the weights in small's blocks")

# %% [markdown]
# The first few hundred merges bring the most. From there on each doubling makes the tokens a little longer, and the
# table twice as large: a narrow model with a large vocabulary is little more than its table.
#
# ### Exercise: a measure that does not care about tokens ★
#
# ★ two factors · importance 3 of 3 · 5 minutes · needed for every comparison of models from here on
#
# Which of two models is better, if their tokens differ? A long token is harder to guess than a byte, so tokens cannot
# be compared. Bytes can. The *loss* of a model is the mean surprise of a token, in *nats*: with the natural logarithm
# in place of log2. PyTorch computes it as `cross_entropy`.

# %%
import math


@exercise("as_bits_per_byte")
def as_bits_per_byte(nats_per_token, bytes_per_token):
    """The mean surprise of a token in nats, and the mean number of bytes of a token -> bits per byte."""
    ...


# %%
predict(
    "two losses",
    "We measure the loss of `small` on a text that it was not trained on. Suppose a model with 4096 tokens had 2.1 "
    "nats there. Could it be the better one?",
    ["yes", "no"],
)

# %%
from torch.nn.functional import cross_entropy

held = torch.tensor([tokenizer.encode(held_out[0])[:2000]])
nats = cross_entropy(model(held)[0, :-1], held[0, 1:]).item()
print(f"small: {nats:.2f} nats per byte, {as_bits_per_byte(nats, 1.0):.2f} bits per byte")
print(f"the other: 2.10 nats per token, {as_bits_per_byte(2.1, bytes_per_token[4096]):.2f} bits per byte")
outcome("two losses", "yes" if as_bits_per_byte(2.1, bytes_per_token[4096]) < as_bits_per_byte(nats, 1.0) else "no")

# %% [markdown] tags=["answer"]
# More nats for a token, and yet fewer bits for a byte: the other is better. Nats per token mean nothing as long as one
# does not know the tokens.

# %%
predict(
    "knowing nothing",
    "Two models know nothing: each gives the same probability to all of its tokens. One has bytes, one has 4096 "
    "tokens. Are they equally bad?",
    ["equally bad", "the one with bytes is worse", "the one with 4096 tokens is worse"],
)

# %%
blank = {rows: as_bits_per_byte(math.log(rows), length) for rows, length in bytes_per_token.items()}
for rows, bits in blank.items():
    print(f"{rows:>5} tokens, all alike: {bits:.2f} bits per byte")
outcome("knowing nothing", f"the one with {'bytes' if blank[257] > blank[4096] else '4096 tokens'} is worse")


# %% [markdown] tags=["answer"]
# A good part of the work is done before the model begins: the tokenizer has learned which bytes go together.

# %% [markdown]
# ## Where the weights are
#
# ### Exercise: count them ★★★
#
# ★★★ many small parts, none to be forgotten · importance 1 of 3 · 25 minutes · needed for knowing where the weights
# are; nothing is built on it
#
# Everything is known now: the table, and in each block a norm and the mixer of notebook 06.

# %%
@exercise("count_parameters")
def count_parameters(config):
    """A Mamba2Config with its defaults (no bias but the convolution's, tied head) -> the number of weights, an int."""
    ...


# %% [markdown]
# We compare with models on the *meta device*, where tensors have a shape and no numbers: what would take gigabytes
# takes nothing there. The models of the last five lines are published, and these are their counts.

# %%
from mamba2_lab import Mamba2Config

presets = "small", "medium", "large", "130m", "370m", "780m", "1.3b", "2.7b"
giants = {name: Mamba2LM(Mamba2Config.preset(name), device="meta") for name in presets}
for name, giant in giants.items():
    counted, by_formula = giant.num_parameters(), count_parameters(giant.config)
    print(f"{name:>6}: {counted:>13,} counted, {by_formula:>13,} by formula, {4 * counted / 1e9:>6.3f} GB in float32")

# %%
predict(
    "share of the table",
    "`130m` has 24 blocks 768 wide and a vocabulary of 50,277. What share of its weights is the table?",
    unit="%",
)


# %%
def weights_in(giant, part=""):
    return sum(weight.numel() for name, weight in giant.named_parameters() if part in name)


parts = {part: [weights_in(giant, part) for giant in giants.values()] for part in ("embedding", "in_proj", "out_proj")}
total = torch.tensor([weights_in(giant) for giant in giants.values()])
parts["all the rest"] = (total - torch.tensor(list(parts.values())).sum(dim=0)).tolist()

# %%
plots.show(plots.weight_shares(list(giants), parts))
outcome(
    "share of the table",
    100 * parts["embedding"][list(giants).index("130m")] / total[list(giants).index("130m")].item(),
)

# %% [markdown]
# ## How the weights begin
#
# Before training, the weights are drawn at random. But not just any way: a signal has to get through all the layers,
# and what the loss says about the result has to get back. We draw a table with numbers of size 0.02, as the official
# code does, and stack raw blocks on it.

# %%
from mamba2_lab.layers import Block, RMSNorm

config, norm = model.config, RMSNorm(model.config.d_model)
fresh = 0.02 * torch.randn(table.shape, generator=torch.Generator().manual_seed(0))


# %%
def stack(n_layer):
    torch.manual_seed(1)
    return [Block(config).requires_grad_(False) for _ in range(n_layer)]


# %% [markdown]
# Each mixer ends with a norm and `out_proj`, so each block adds a vector of about the same size, in a direction that
# has little to do with the others.

# %%
predict(
    "depth",
    "How does the size of the stream grow with the number of blocks?",
    ["in proportion to it", "with its square root", "with its square"],
)

# %%
sizes = {n_layer: size(streams(stack(n_layer), fresh[ids])[-1]) for n_layer in (1, 4, 16, 64)}
for n_layer, each in sizes.items():
    print(f"{n_layer:>2} blocks: {each:.2f}")
power = math.log(sizes[64] / sizes[1]) / math.log(64)
outcome("depth", {0: "not at all", 1: "with its square root", 2: "in proportion to it"}.get(round(2 * power), "faster"))


# %% [markdown] tags=["answer"]
# Four times the blocks, twice the size. At the end a single block is a drop in a large stream, all the more so in a
# deep model. So the weights of `out_proj`, and only they, begin smaller, as in GPT-2 (Radford et al. 2019, section
# 2.3).

# %% [markdown]
# ### Exercise: the scale of out_proj ★
#
# ★ one root · importance 2 of 3 · 5 minutes · needed for the figure of signals through depth

# %%
@exercise("scale_for_depth")
def scale_for_depth(weight, n_layer):
    """The weight of an out_proj -> a new tensor: scaled so that n_layer blocks together add what one added before."""
    ...


# %%
def scaled(blocks):
    for block in blocks:
        weight = block.mixer.out_proj.weight
        weight.copy_(scale_for_depth(weight, len(blocks)))
    return blocks


# %%
for n_layer in (1, 4, 16, 64):
    print(f"{n_layer:>2} blocks: {size(streams(scaled(stack(n_layer)), fresh[ids])[-1]):.2f}")

# %% [markdown]
# Whatever the depth, the stream ends at the same size.
#
# ## What the norms are for
#
# A mixer multiplies what it makes of its input: x, dt, B, C and the gate all come from the same vector. Take both of
# its norms away, the one before it and the one at its gate, and give it a larger and larger input.

# %%
predict("five factors", "When the input is 10 times as large, how many times as large is the output?", unit="times")

# %%
from torch import nn


class JustGate(nn.Module):
    def forward(self, y, z):
        return y * nn.functional.silu(z)


# %%
def bare(blocks):
    for block in blocks:
        block.norm, block.mixer.norm = nn.Identity(), JustGate()
    return blocks


# %%
(block,), unit = bare(stack(1)), fresh[ids] / 0.02
outputs = [size(block.mixer(scale * unit)) for scale in (1, 10, 100, 1000)]
print("sizes of the output:", [f"{output:.1e}" for output in outputs])
print("times as large:", [f"{after / before:,.0f}" for before, after in zip(outputs, outputs[1:], strict=False)])
outcome("five factors", outputs[1] / outputs[0])


# %% [markdown] tags=["answer"]
# Five factors, each 10 times as large, would make it 100,000 times as large. It is not quite that: softplus and silu
# bend small and large inputs in different ways. And small inputs all but vanish. A stack of such mixers does one or the
# other.

# %% [markdown]
# We look at it from both ends: at the stream on its way forward, and on the way back at the *gradient* of the loss,
# which says how much the loss changes when the stream is changed at that layer. Training lives on gradients.

# %%
def measure(blocks, u, rule=residual_block):
    """Sizes of the stream after each layer, and of the gradient of the loss there."""
    found = streams(blocks, u.clone().requires_grad_(), rule)
    logits = next_token_logits(found[-1], norm, fresh, vocab_size)
    loss = cross_entropy(logits[0, :-1], ids[0, 1:])
    return [size(u) for u in found], [size(gradient) for gradient in torch.autograd.grad(loss, found)]


# %% [markdown]
# Five models of 64 blocks, all untrained: as it should be; without the scale; mixers fed into one another, with no
# stream beside them; the same without norms; and with a stream, without norms, from a larger beginning.

# %%
predict(
    "lost signals",
    "How many of the five end with a stream that is nearly 0, or no number any more?",
    ["0", "1", "2", "3"],
)


# %%
def without_stream(u, norm, mixer):
    return mixer(norm(u))


# %%
u = fresh[ids]
runs = {
    "as it should be": measure(scaled(stack(64)), u),
    "out_proj not scaled": measure(stack(64), u),
    "no stream": measure(stack(64), u, without_stream),
    "no stream, no norms": measure(bare(stack(64)), u, without_stream),
    "no norms, 100 times larger": measure(bare(stack(64)), 100 * u),
}

# %%
plots.show(plots.signal_through_depth(runs))

# %%
for name, (forward, backward) in runs.items():
    print(f"{name:>26}: stream {forward[0]:.1e} -> {forward[-1]:.1e}, gradient {backward[-1]:.1e} -> {backward[0]:.1e}")
outcome("lost signals", sum(not 1e-6 < forward[-1] < 1e6 for forward, _ in runs.values()))

# %% [markdown] tags=["answer"]
# A vanished signal is exactly 0, an exploded one is no number any more (`nan`). Without a stream beside them, mixers
# with norms keep the signal on its way forward, and its gradient shrinks or swells on the way back. The stream keeps
# gradients alive because a sum passes them on unchanged: whatever the blocks do, one copy goes straight back to the
# table.

# %% [markdown]
# ## Why the table begins small
#
# An untrained model should find every token equally likely.

# %%
predict(
    "first loss",
    "What is then its loss on our line, with 257 tokens? And if the table begins with numbers of size 1, as "
    "PyTorch draws an embedding unless told otherwise?",
    unit="nats, in the first case",
)

# %%
print(f"every token alike: {math.log(vocab_size):.2f} nats")
newborn = Mamba2LM(config, seed=0).requires_grad_(False)
for name, times in (("as it should be", 1), ("numbers of size 1", 50)):
    newborn.embedding.weight *= times
    logits = newborn(ids)[0]
    repeats = (logits.argmax(dim=-1) == ids[0]).float().mean()
    print(f"{name}: {cross_entropy(logits[:-1], ids[0, 1:]):.2f} nats; expects the byte again: {repeats:.0%}")
outcome("first loss", math.log(vocab_size))

# %% [markdown] tags=["answer"]
# The logit lens again: a stream that starts large is mostly its own row of the table, and the tied head reads it back,
# loudly, because the rows are large as well. Such a model begins sure that every byte is followed by itself. From small
# rows the first blocks move it away at once.

# %% [markdown]
# ## How long a newborn model remembers
#
# The last choice is Mamba-2's own. The half-life of a head is ln 2 / (dt |A|) tokens, with dt = softplus(dt_bias) as
# long as the input adds nothing to it. The official code draws dt between 0.001 and 0.1, evenly on a logarithmic scale,
# and |A| between 1 and 16.

# %%
predict(
    "half-lives at birth",
    "How many times as long is the half-life of the slowest head as that of the fastest?",
    unit="times",
)


# %%
def half_lives(model):
    """(n_layer * h,): in tokens, for an input that leaves dt where its bias puts it."""
    mixers = [block.mixer for block in model.blocks]
    rates = [nn.functional.softplus(mixer.dt_bias) * mixer.A_log.exp() for mixer in mixers]
    return math.log(2) / torch.cat(rates).detach()


# %%
newborn = Mamba2LM(config, seed=0).requires_grad_(False)
print("half-lives in tokens:", [f"{q:.1f}" for q in half_lives(newborn).quantile(torch.linspace(0, 1, 5))])
outcome("half-lives at birth", (half_lives(newborn).max() / half_lives(newborn).min()).item())

# %% [markdown] tags=["answer"]
# From less than a token to hundreds: whatever distance turns out to matter, some heads are there already.

# %% [markdown]
# ## Break it: a model born without memory
#
# In two well-known libraries dt_bias could be left at its placeholder of ones, with A = -1, -2, -3, ... beside it: in
# flash-linear-attention (repaired by its pull request 739, in 2026), and in transformers 5.0.0 for a mixer used on its
# own (issue 43717). Nothing complained: such a model trains. The author of the repair calls the difference it makes
# significant.

# %%
predict(
    "without memory at birth",
    "`dt_bias` is left at 1, and A at 1, 2, 3 ... What is the longest half-life now?",
    unit="tokens",
)

# %%
forgetful = Mamba2LM(config, seed=0).requires_grad_(False)
for block in forgetful.blocks:
    block.mixer.dt_bias.fill_(1.0)
    block.mixer.A_log.copy_(torch.arange(1, config.nheads + 1).log())
print(f"dt = softplus(1) = {nn.functional.softplus(torch.tensor(1.0)):.2f}")
print(f"longest half-life: {half_lives(forgetful).max():.2f} tokens; drawn properly: {half_lives(newborn).max():.0f}")
outcome("without memory at birth", half_lives(forgetful).max().item())

# %% [markdown] tags=["answer"]
# Not one head keeps half of what it read until the next token. What does that do to the model as a whole? We take texts
# that it was not trained on, change one byte (its lowest bit), and see how much the last logits change.

# %%
distances = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


# %%
def influence(model, text):
    """text (l,) -> (distances,): the change of the last logits, relative to their own size."""
    changed = text.repeat(len(distances), 1)
    for row, distance in enumerate(distances):
        changed[row, -1 - distance] ^= 1
    logits, _ = model.prefill(torch.cat([text[None], changed]))
    return (logits[1:] - logits[0]).norm(dim=1) / (logits[0] - logits[0].mean()).norm()


# %%
predict(
    "how far back",
    "Without memory there are still the convolutions: in each layer a token sees the 3 before it. How far back "
    "does the forgetful model hear?",
    unit="bytes",
)

# %%
models = {"drawn properly": newborn, "dt_bias left at 1": forgetful, "drawn properly, trained": model}
texts = [torch.tensor(tokenizer.encode(text)[:600]) for text in held_out if len(text) > 2000][: 1 if FAST else 2]
reach = {name: sum(influence(each, text) for text in texts) / len(texts) for name, each in models.items()}

# %%
print(f"the convolutions reach {config.n_layer * (config.d_conv - 1)} bytes back")
for name, changes in reach.items():
    print(f"{name:>24}:", ", ".join(f"{changes[i]:.0e} at {distances[i]}" for i in (3, 4, 5, 6, 9)))
outcome("how far back", config.n_layer * (config.d_conv - 1))

# %%
plots.show(plots.memory_reach(distances, reach))

# %% [markdown]
# What leaves no trace in the logits leaves none in the gradient either: training gets no hint that remembering would
# pay. The model learns what is near, its loss falls, and only a comparison shows what it missed. So look at the
# half-lives of a new model before you train it.
#
# ## Recap
#
# - A language model is a table, a stream that blocks only add to, a norm, and the table again.
# - The head can read the stream after any layer. At the bottom it reads the byte that is there, at the top the byte to come.
# - Rows of the table that belong to no token must be cut off before anything is drawn.
# - Longer tokens make shorter sequences and a larger table; bits per byte compare them fairly.
# - Nearly all weights are in two projections. How the others begin decides how long the model remembers.
# - Norms keep the signal's size, the stream keeps its gradient, 1/sqrt(n_layer) keeps the sum in proportion.
#
# ## On your own
#
# A head of its own, not tied to the table, would have as many weights again. Take `small`, keep its blocks, and read
# the stream of the last layer through another matrix: the table of embeddings of a newborn model. How many bits per
# byte does it take now, and how many after you have trained that matrix alone, on a few files, for a hundred steps?
# What does that say about where the model keeps what it knows?
#
# ## To read on
#
# - O. Press and L. Wolf, [Using the output embedding](https://arxiv.org/abs/1608.05859), on tied heads.
# - nostalgebraist, [Interpreting GPT](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens):
#   the stream of a large model, read after every layer.
# - Section 7 of T. Dao and A. Gu, [Mamba-2](https://arxiv.org/abs/2405.21060), on the architecture of the block.
#
# **Before**: [06, The whole block](06_the_whole_block.ipynb). **Next**: [08, Training](08_training.ipynb) takes such a
# newborn model and teaches it Python.
