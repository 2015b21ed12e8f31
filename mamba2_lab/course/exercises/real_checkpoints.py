"""Exercises of notebook 14."""
# mypy: allow-untyped-defs

import json
import math
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F

from mamba2_lab.course.declare import given, reference
from mamba2_lab.course.inputs import Draws

# Numbers in a file


@reference(
    stars=2,
    hints=(
        "The first eight bytes are the length of the header, the lowest byte first: `int.from_bytes(..., 'little')`. "
        "Then comes the header, which `json.loads` reads.",
        "`data_offsets` are counted from the end of the header. Where does that lie, counted from the beginning of "
        "the file?",
        "`torch.frombuffer(bytearray(part), dtype=...)` reads numbers in a row; `F32` and `BF16` are torch.float32 and "
        "torch.bfloat16. Then give them their shape.",
    ),
)
def tensor_of(content, name):
    """The bytes of a safetensors file, and a name -> that tensor in its shape, F32 or BF16, as float32."""
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    numbers = torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype)
    return numbers.reshape(entry["shape"]).float()


@tensor_of.cases
def matrices_and_vectors_of_both_kinds():
    draw = Draws(14).normal
    tensors = {
        "in_proj": draw(3, 4).bfloat16(),
        "D": draw(5),
        "out_proj": draw(2, 6),
        "norm": draw(4).bfloat16(),
    }
    content = safetensors.torch.save(tensors)
    return [given(content, name) for name in ("out_proj", "D", "in_proj", "norm")]


@tensor_of.oracle
def as_the_library_reads_it(content, name):
    return safetensors.torch.load(content)[name].double()


tensor_of.slip(
    "The offsets are counted from the end of the header, not from the beginning of the file. What you read is the text "
    "of the header.",
    counts_from_the_beginning={"content[start + begin : start + end]": "content[begin:end]"},
)

tensor_of.slip(
    "You are eight bytes early: before the header stands its own length.",
    forgets_the_length={"content[start + begin : start + end]": "content[start - 8 + begin : start - 8 + end]"},
)

tensor_of.slip(
    "You are eight bytes late: the length of the header is counted twice.",
    counts_the_length_twice={"content[start + begin : start + end]": "content[start + 8 + begin : start + 8 + end]"},
)

tensor_of.slip(
    "BF16 is bfloat16: eight bits of exponent, seven of fraction. float16 has five and ten, so that the same bits are "
    "another number.",
    takes_the_other_sixteen_bits={"torch.bfloat16": "torch.float16"},
)

tensor_of.slip(
    "The numbers are right, but they lie in a row. Give them the shape that the header tells.",
    leaves_them_in_a_row={'.reshape(entry["shape"])': ""},
)

tensor_of.slip(
    "The numbers of a tensor lie row by row, not column by column.",
    fills_columns={
        "return numbers": "shape = entry['shape']\n    return numbers",
        'reshape(entry["shape"])': "reshape(shape[::-1]).permute(*range(len(shape))[::-1])",
    },
)

tensor_of.slip(
    "You read from where the numbers begin, whatever the tensor. Its own begin at its first offset.",
    reads_the_first_tensor={"start + begin : start + end": "start : start + end - begin"},
)

tensor_of.slip(
    "Every tensor is read as float32. One in BF16 has two bytes a number: read them as `torch.bfloat16`, and turn "
    "them into float32 afterwards.",
    reads_all_as_float32={'{"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]': "torch.float32"},
)


# A model read off its shapes


@reference(
    stars=2,
    hints=(
        "`backbone.norm_f.weight` has an entry for each number of the residual stream. `A_log` has one for each head.",
        "The layer's number is the third part of a name, between two dots. How many different ones are there?",
        "The convolution runs over x, B and C side by side: over d_inner + 2 * d_state channels, with one group. The "
        "norm inside the mixer has d_inner entries.",
    ),
)
def read_off(shapes):
    """name -> shape, of a published Mamba-2 with one group -> d_model, number of layers, of heads, and d_state."""
    layers = {name.split(".")[2] for name in shapes if name.startswith("backbone.layers.")}
    of_first = {name.removeprefix("backbone.layers.0.mixer."): shape for name, shape in shapes.items()}
    d_inner = of_first["norm.weight"][0]
    d_state = (of_first["conv1d.weight"][0] - d_inner) // 2
    return shapes["backbone.norm_f.weight"][0], len(layers), of_first["A_log"][0], d_state


read_off.returns("`d_model`", "the number of layers", "the number of heads", "`d_state`")


@read_off.cases
def few_layers_many_and_heads_of_two_sizes():
    return [given(_shapes(*sizes)) for sizes in ((16, 3, 4, 8), (24, 12, 6, 4), (8, 1, 2, 20))]


def _shapes(d_model, n_layer, heads, d_state):
    """Those of the official layout; the order of the layers is that of their names as texts."""
    d_inner = 2 * d_model
    channels = d_inner + 2 * d_state
    of_layer = {
        "mixer.A_log": (heads,),
        "mixer.D": (heads,),
        "mixer.conv1d.bias": (channels,),
        "mixer.conv1d.weight": (channels, 1, 4),
        "mixer.dt_bias": (heads,),
        "mixer.in_proj.weight": (d_inner + channels + heads, d_model),
        "mixer.norm.weight": (d_inner,),
        "mixer.out_proj.weight": (d_model, d_inner),
        "norm.weight": (d_model,),
    }
    names = sorted(f"{layer}.{name}" for layer in range(n_layer) for name in of_layer)
    layers = {f"backbone.layers.{name}": of_layer[name.partition(".")[2]] for name in names}
    ends = {"backbone.norm_f.weight": (d_model,), "lm_head.weight": (48, d_model)}
    return {"backbone.embedding.weight": (48, d_model), **layers, **ends}


@read_off.oracle
def from_other_tensors(shapes):
    """Of the projections, and by counting the norms of the layers."""
    d_model, d_inner = shapes["backbone.layers.0.mixer.out_proj.weight"]
    heads = shapes["backbone.layers.0.mixer.D"][0]
    rows = shapes["backbone.layers.0.mixer.in_proj.weight"][0]
    layers = sum(name.endswith(".norm.weight") and "mixer" not in name for name in shapes)
    return d_model, layers, heads, (rows - 2 * d_inner - heads) // 2


read_off.slip(
    "That counts tensors. A layer has several: count the different numbers in the names.",
    counts_tensors={
        "{name.split(": "[name.split(",
        '"backbone.layers.")}': '"backbone.layers.")]',
    },
)

read_off.slip(
    "That is the largest number of a layer. They begin with 0, so there is one more.",
    takes_the_last_number={"len(layers)": "max(int(layer) for layer in layers)"},
)

read_off.slip(
    "Those are the numbers of the layers as texts, where '9' comes after '11'. Count them, or compare them as numbers.",
    sorts_numbers_as_texts={"len(layers)": "int(max(layers)) + 1"},
)

read_off.slip(
    "That is B and C together. Each has d_state channels.",
    takes_both_for_one={"(of_first[": "of_first[", "[0] - d_inner) // 2": "[0] - d_inner"},
)

read_off.slip(
    "The convolution runs over x too: take its d_inner channels away before you halve.",
    forgets_x={" - d_inner) // 2": ") // 2"},
)

read_off.slip(
    "The convolution runs over x, B and C, and x has d_inner channels, not d_model: take d_inner away.",
    takes_the_stream_for_x={"[0] - d_inner) // 2": '[0] - shapes["backbone.norm_f.weight"][0]) // 2'},
)

read_off.slip(
    "Those are the rows of the table, one for each token. Its columns are d_model.",
    takes_rows_for_columns={'shapes["backbone.norm_f.weight"][0]': 'shapes["backbone.embedding.weight"][0]'},
)

read_off.slip(
    "That is d_inner, the width inside the mixer. The residual stream is `backbone.norm_f.weight` wide.",
    takes_the_width_inside={'shapes["backbone.norm_f.weight"][0]': "d_inner"},
)

read_off.slip(
    "Heads of 64 channels are usual, and no law. `A_log` has one entry for each head.",
    takes_heads_of_64={'of_first["A_log"][0]': "d_inner // 64"},
)

read_off.slip(
    "That is d_conv, how far the convolution reaches. Its first size is the number of channels.",
    takes_the_reach={'(of_first["conv1d.weight"][0] - d_inner) // 2': 'of_first["conv1d.weight"][-1]'},
)


# What a pickle would run


@reference(
    stars=2,
    hints=(
        "`pickletools.genops(code)` gives (instruction, argument, place), one after another, and runs none of them. "
        "`instruction.name` says which it is.",
        "GLOBAL and INST name what they look up in their argument, 'module name', with a blank between.",
        "STACK_GLOBAL takes module and name off the stack. What they will be is known only by running: note a '?'.",
    ),
)
def suspects(code, allowed):
    """A pickle, and names that are allowed -> what else it would look up, in order; "?" for a STACK_GLOBAL."""
    found = []
    for instruction, argument, _ in pickletools.genops(code):
        if instruction.name in ("GLOBAL", "INST") and argument not in allowed:
            found.append(argument)
        if instruction.name == "STACK_GLOBAL":
            found.append("?")
    return found


@suspects.cases
def tensors_strangers_and_disguises():
    allowed = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    plain = pickle.dumps(OrderedDict(a=1), protocol=2)
    two = b"\x80\x02ccollections\nOrderedDict\n0cos\nsystem\n0cbuiltins\nexec\n."
    alike = b"\x80\x02cevil\nOrderedDict\n0ctorch._utils\n_import_dotted_name\n0ctorch._utils\n_rebuild_tensor_v2\n."
    old = b"(S'true'\nios\nsystem\n."
    new = pickle.dumps(OrderedDict(a=1), protocol=4)
    several = pickle.dumps([OrderedDict(a=1), json.JSONDecodeError], protocol=4)
    return [given(code, allowed) for code in (plain, two, alike, old, new, several)]


@suspects.oracle
def by_reading_what_pickletools_prints(code, allowed):
    """Of its disassembly: the sixth column and what follows."""
    import io

    printed = io.StringIO()
    pickletools.dis(code, printed)
    found = []
    for line in printed.getvalue().splitlines():
        words = line.partition(":")[2].split()
        if "STACK_GLOBAL" in words:
            found.append("?")
        for instruction in ("GLOBAL", "INST"):
            if instruction in words:
                name = line.split("'")[1]
                found += [] if name in allowed else [name]
    return found


suspects.slip(
    "STACK_GLOBAL looks something up too. Pickles of protocol 4 and above have no other, so it would let every one of "
    "them pass.",
    overlooks_the_newer_way={'"STACK_GLOBAL"': '"STACK_GLOBALS"'},
)

suspects.slip(
    "INST is the oldest instruction that looks something up, and pickle still obeys it.",
    overlooks_the_oldest_way={'("GLOBAL", "INST")': '("GLOBAL",)'},
)

suspects.slip(
    "You trust all that a trusted module holds. `torch._utils` also holds what imports by name whatever it is told. "
    "Compare module and name.",
    trusts_the_module={"argument not in allowed": "argument.split()[0] not in {name.split()[0] for name in allowed}"},
)

suspects.slip(
    "You trust a name in whatever module it stands. A stranger's module may hold an OrderedDict of its own.",
    trusts_the_name={"argument not in allowed": "argument.split()[1] not in {name.split()[1] for name in allowed}"},
)

suspects.slip(
    "Those are the names that are allowed. The others are wanted.",
    names_the_allowed={"argument not in allowed": "argument in allowed"},
)


suspects.slip(
    "`allowed` has a blank between module and name, as the argument has. With a dot nothing is found in it.",
    compares_with_a_dot={
        "argument not in allowed": 'argument.replace(" ", ".") not in allowed',
        "found.append(argument)": 'found.append(argument.replace(" ", "."))',
    },
)


@suspects.wrong("A pickle may have several. Do not stop at the first: name them all.")
def stops_at_the_first(code, allowed):
    for instruction, argument, _ in pickletools.genops(code):
        if instruction.name in ("GLOBAL", "INST") and argument not in allowed:
            return [argument]
        if instruction.name == "STACK_GLOBAL":
            return ["?"]
    return []


suspects.slip(
    "Each name stands there once, in the order of the alphabet. Name them as often, and in the order, as they come.",
    sorts_them_into_a_set={"return found": "return sorted(set(found))"},
)

suspects.slip(
    'Each look-up is noted, the "?" as well: the second STACK_GLOBAL may look up what the first does not.',
    notes_one_question={'== "STACK_GLOBAL"': '== "STACK_GLOBAL" and "?" not in found'},
)


# Whether two programs agree


@reference(
    stars=1,
    hints=(
        "Which columns are tokens at all? The vocabulary was rounded up; nobody trained the rest.",
        "The largest difference of all, whichever sign it has.",
        "0.001 is much where logits spread over 0.01, and little where they spread over 10. Divide by `theirs.std()` "
        "of the same columns.",
    ),
)
def disagreement(ours, theirs, vocab_size):
    """Logits (l,v) twice -> the largest difference in real tokens, as a share of theirs' standard deviation there."""
    real = theirs[:, :vocab_size]
    return (ours[:, :vocab_size] - real).abs().max() / real.std()


@disagreement.cases
def off_above_off_below_and_off_in_the_padding():
    draw = Draws(15).normal
    cases = []
    for rows, vocab_size, spread, off in ((5, 11, 3.0, 1e-2), (3, 9, 0.02, -4e-3), (1, 13, 10.0, -0.5)):
        theirs = spread * draw(rows, 16) + 2 * spread
        theirs[:, vocab_size:] *= 5
        ours = theirs + 0.1 * abs(off) * draw(rows, 16)
        ours[-1, 2] += off
        ours[:, vocab_size:] += 40 * abs(off)
        cases.append(given(ours, theirs, vocab_size))
    return cases


@disagreement.oracle
def in_numpy(ours, theirs, vocab_size):
    a, b = (np.asarray(each, dtype=np.float64)[:, :vocab_size] for each in (ours, theirs))
    return max(abs(a - b).ravel()) / math.sqrt(((b - b.mean()) ** 2).sum() / (b.size - 1))


disagreement.slip(
    "The columns behind the vocabulary are counted. No token has them: two programs may fill them as they like.",
    counts_the_padding={
        "theirs[:, :vocab_size]": "theirs",
        "ours[:, :vocab_size]": "ours",
    },
)

disagreement.slip(
    "That is a difference in logits. Whether it is much depends on how far these logits spread: divide by their "
    "standard deviation.",
    forgets_the_scale={" / real.std()": ""},
)

disagreement.slip(
    "A logit that is too low is wrong as well: take the size of each difference first.",
    looks_upwards_only={".abs()": ""},
)

disagreement.slip(
    "One wrong logit in a thousand hides in a mean. Take the largest.",
    takes_the_mean={".abs().max()": ".abs().mean()"},
)

disagreement.slip(
    "That is the spread of the differences. The question is how far the logits themselves spread.",
    divides_by_the_spread_of_differences={"real.std()": "(ours[:, :vocab_size] - real).std()"},
)

disagreement.slip(
    "Each difference is divided by its own logit. One that happens to be near 0 then counts for more than all others: "
    "divide by one number for all.",
    divides_each_by_its_own={
        "(ours[:, :vocab_size] - real).abs().max() / real.std()": "((ours[:, :vocab_size] - real) / real).abs().max()"
    },
)

disagreement.slip(
    "Logits can have any mean, for softmax does not see it. Divide by how far they spread, not by how large they are.",
    divides_by_the_size={"real.std()": "real.abs().mean()"},
)

disagreement.slip(
    "Divided by the largest logit, a difference looks small where all logits are large. Divide by how far they spread.",
    divides_by_the_largest={"real.std()": "real.abs().max()"},
)

disagreement.slip(
    "That is the root of the mean square. One wrong logit in a thousand hides in it: take the largest.",
    takes_the_mean_square={".abs().max()": ".square().mean().sqrt()"},
)

disagreement.slip(
    "It compares probabilities. What is asked for is the difference of the logits, beside how far logits spread.",
    compares_probabilities={
        "theirs[:, :vocab_size]": "theirs[:, :vocab_size].softmax(dim=-1)",
        "ours[:, :vocab_size]": "ours[:, :vocab_size].softmax(dim=-1)",
    },
)


# How long a published head remembers


@reference(
    stars=1,
    hints=(
        "A_log is the logarithm of -A. What is stored is what was trained, and A must be negative whatever it becomes.",
        "At rest the projection gives 0, so that dt is softplus of the bias.",
        "The log decay of a token is dt * A. Notebook 01: after which number of tokens is half left?",
    ),
)
def half_lives_stored(A_log, dt_bias):
    """A_log (h,) and dt_bias (h,), as a checkpoint of Mamba-2 has them -> (h,): half-lives at rest, in tokens."""
    return math.log(2) / (A_log.exp() * F.softplus(dt_bias))


@half_lives_stored.cases
def slow_heads_quick_ones_and_large_steps():
    draw = Draws(16).normal
    return [given(draw(5), draw(5) - 3), given(torch.tensor([2.0, -2.0]), torch.tensor([1.5, 3.0]))]


@half_lives_stored.oracle
def until_half_is_left(A_log, dt_bias):
    """The number of steps t for which exp(dt A t) is 1/2, each head by itself."""
    found = []
    for a, bias in zip(A_log.tolist(), dt_bias.tolist(), strict=True):
        dt = math.log1p(math.exp(bias))
        found.append(math.log(0.5) / (dt * -math.exp(a)))
    return found


half_lives_stored.slip(
    "What is stored is a logarithm: A is -exp(A_log).",
    takes_the_logarithm_for_A={"A_log.exp()": "A_log"},
)

half_lives_stored.slip(
    "dt is softplus of the bias, not exp. The two are alike only where dt is small.",
    takes_exp_for_softplus={"F.softplus(dt_bias)": "dt_bias.exp()"},
)

half_lives_stored.slip(
    "After that many tokens 1/e is left. For one half there is a ln 2.",
    forgets_the_half={"math.log(2)": "1"},
)

half_lives_stored.slip(
    "That is what is left after one token. The question is after how many tokens half is left.",
    gives_the_decay={
        "math.log(2) / (A_log.exp() * F.softplus(dt_bias))": "torch.exp(-A_log.exp() * F.softplus(dt_bias))"
    },
)

half_lives_stored.slip(
    "That is a rate, in halvings per token. A half-life is tokens per halving.",
    turns_it_round={
        "math.log(2) / (A_log.exp() * F.softplus(dt_bias))": "A_log.exp() * F.softplus(dt_bias) / math.log(2)"
    },
)

half_lives_stored.slip(
    "The bias itself is no step: it can be negative. dt is softplus of it.",
    takes_the_bias_for_dt={"F.softplus(dt_bias)": "dt_bias"},
)

half_lives_stored.slip(
    "A comes through a softplus here. Only dt does: the checkpoint holds the logarithm of -A, so take its exponential.",
    takes_softplus_for_exp={"A_log.exp()": "F.softplus(A_log)"},
)

half_lives_stored.slip(
    "It adds the two numbers and takes one softplus. They are a logarithm and what goes into a softplus, so each has "
    "its own way back.",
    takes_them_together={"A_log.exp() * F.softplus(dt_bias)": "F.softplus(A_log + dt_bias)"},
)
