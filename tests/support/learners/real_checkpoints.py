"""Answers of learners to the exercises of notebook 14."""

import json
import math
import pickletools

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from support.learners.collect import right, wrong

# tensor_of


@wrong("tensor_of", "It comes out as if `.float(...)` were left out.")
def in_the_dtype_of_the_file(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
    return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype).reshape(entry["shape"])


@wrong("tensor_of", "You are eight bytes late: the length of the header is counted")
def the_length_counted_twice(content, name):
    n = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + n])[name]
    begin, end = (8 + 8 + n + offset for offset in entry["data_offsets"])
    dtype = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
    return torch.frombuffer(bytearray(content[begin:end]), dtype=dtype).reshape(entry["shape"]).float()


@wrong("tensor_of", "The result holds the right numbers in the right order, only")
def shape_the_other_way_round(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
    numbers = torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype)
    return numbers.reshape(entry["shape"][::-1]).float()


@right("tensor_of")
def by_the_library(content, name):
    return safetensors.torch.load(content)[name].float()


@right("tensor_of")
def by_shifting_bits(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    part = content[start + begin : start + end]
    if entry["dtype"] == "BF16":
        numbers = (np.frombuffer(part, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = np.frombuffer(part, dtype="<f4")
    return numbers.reshape(entry["shape"])


@right("tensor_of")
def with_an_offset_and_a_count(content, name):
    n = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + n].decode())[name]
    dtype = torch.bfloat16 if entry["dtype"] == "BF16" else torch.float32
    count = math.prod(entry["shape"])
    raw = torch.frombuffer(bytearray(content), dtype=torch.uint8)[8 + n + entry["data_offsets"][0] :]
    return raw[: count * dtype.itemsize].clone().view(dtype).view(entry["shape"]).to(torch.float32)


# read_off


@wrong("read_off", "Those are the rows of the table, one for each token. Its")
def rows_of_the_embedding(shapes):
    n_layer = len({name.split(".")[2] for name in shapes if ".layers." in name})
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    d_model = shapes["backbone.embedding.weight"][0]
    return d_model, n_layer, shapes["backbone.layers.0.mixer.A_log"][0], (channels - d_inner) // 2


@wrong("read_off", "The convolution runs over x, B and C, and x has d_inner")
def minus_the_stream(shapes):
    n_layer = len({name.split(".")[2] for name in shapes if ".layers." in name})
    d_model = shapes["backbone.norm_f.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    return d_model, n_layer, shapes["backbone.layers.0.mixer.A_log"][0], (channels - d_model) // 2


@wrong("read_off", "The number of heads holds what belongs into d_state: the two")
def heads_and_states_exchanged(shapes):
    n_layer = len({name.split(".")[2] for name in shapes if ".layers." in name})
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    heads = shapes["backbone.layers.0.mixer.A_log"][0]
    return shapes["backbone.norm_f.weight"][0], n_layer, (channels - d_inner) // 2, heads


@right("read_off")
def by_the_output_projection(shapes):
    mixer = "backbone.layers.0.mixer."
    d_model, d_inner = shapes[mixer + "out_proj.weight"]
    n_layer = sum(name.endswith("mixer.D") for name in shapes)
    return d_model, n_layer, shapes[mixer + "D"][0], (shapes[mixer + "conv1d.bias"][0] - d_inner) // 2


@right("read_off")
def with_the_largest_number(shapes):
    numbers = [int(name.split(".")[2]) for name in shapes if name.startswith("backbone.layers.")]
    (heads,) = shapes["backbone.layers.0.mixer.dt_bias"]
    d_model = shapes["backbone.embedding.weight"][1]
    rows = shapes["backbone.layers.0.mixer.in_proj.weight"][0]
    return [d_model, max(numbers) + 1, heads, (rows - 4 * d_model - heads) // 2]


@right("read_off")
def by_trying_layers(shapes):
    n_layer = 0
    while f"backbone.layers.{n_layer}.norm.weight" in shapes:
        n_layer += 1
    d_model = shapes["backbone.layers.0.norm.weight"][0]
    channels, _, _ = shapes["backbone.layers.0.mixer.conv1d.weight"]
    heads = shapes["backbone.layers.0.mixer.A_log"][-1]
    return torch.tensor([d_model, n_layer, heads, (channels - 2 * d_model) // 2])


# suspects


@wrong("suspects", "Each name stands there once, in the order of the alphabet.")
def each_name_once(code, allowed):
    found = set()
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.add(argument)
        elif op.name == "STACK_GLOBAL":
            found.add("?")
    return sorted(found)


@wrong("suspects", "`allowed` has a blank between module and name, as the")
def with_a_dot(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument.replace(" ", ".") not in allowed:
            found.append(argument.replace(" ", "."))
        elif op.name == "STACK_GLOBAL":
            found.append("?")
    return found


@wrong("suspects", "All that is looked up is named. Leave out what is allowed.")
def all_that_is_looked_up(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST"):
            found.append(argument)
        elif op.name == "STACK_GLOBAL":
            found.append("?")
    return found


@right("suspects")
def in_one_list(code, allowed):
    looked_up = [
        "?" if op.name == "STACK_GLOBAL" else argument
        for op, argument, _ in pickletools.genops(code)
        if op.name in ("GLOBAL", "INST", "STACK_GLOBAL")
    ]
    return [name for name in looked_up if name not in allowed]


@right("suspects")
def as_a_generator_in_a_tuple(code, allowed):
    def each():
        for op, argument, _ in pickletools.genops(code):
            if op.code == "\x93":
                yield "?"
            elif op.code in "ci" and argument not in allowed:
                yield argument

    return tuple(each())


@right("suspects")
def name_by_name(code, allowed):
    trusted = {tuple(name.split(" ")) for name in allowed}
    found = []
    for op, argument, _ in pickletools.genops(code):
        if "GLOBAL" in op.name and argument is None:
            found += ["?"]
        elif op.name in {"GLOBAL", "INST"} and tuple(argument.split(" ")) not in trusted:
            found += [argument]
    return found


# disagreement


@wrong("disagreement", "It comes out as if `var` stood where `std` belongs.")
def variance_for_deviation(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().max() / b.var()


@wrong("disagreement", "That is the spread of the differences. The question is how")
def spread_of_the_differences(ours, theirs, vocab_size):
    off = ours[:, :vocab_size] - theirs[:, :vocab_size]
    return off.abs().max() / off.std()


@wrong("disagreement", "Each difference is divided by its own logit. One that happens")
def entry_by_entry(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return ((a - b) / b).abs().max()


@right("disagreement")
def in_double(ours, theirs, vocab_size):
    a, b = (each.narrow(1, 0, vocab_size).double() for each in (ours, theirs))
    return torch.max(torch.abs(a - b)) / torch.std(b)


@right("disagreement")
def disagreement_by_numpy(ours, theirs, vocab_size):
    a, b = ours.numpy()[:, :vocab_size], theirs.numpy()[:, :vocab_size]
    return np.abs(a - b).max() / b.std(ddof=1)


@right("disagreement")
def as_a_distance(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size].flatten(), theirs[:, :vocab_size].flatten()
    return float(torch.dist(a, b, p=math.inf) / b.var().sqrt())


# half_lives_stored


@wrong("half_lives_stored", "The result has the wrong sign: every number is minus what it")
def a_half_life_below_zero(A_log, dt_bias):
    A = -A_log.exp()
    return math.log(2) / (F.softplus(dt_bias) * A)


@wrong("half_lives_stored", "It comes out as if `/` stood where `*` belongs.")
def dt_over_a(A_log, dt_bias):
    return math.log(2) * F.softplus(dt_bias) / A_log.exp()


@wrong("half_lives_stored", "That is what is left after one token. The question is after")
def left_after_a_step(A_log, dt_bias):
    return torch.exp(-A_log.exp() * F.softplus(dt_bias))


@right("half_lives_stored")
def in_two_lines(A_log, dt_bias):
    log_decay = F.softplus(dt_bias) * -torch.exp(A_log)
    return math.log(0.5) / log_decay


@right("half_lives_stored")
def half_lives_by_numpy(A_log, dt_bias):
    dt = np.logaddexp(0, dt_bias.double().numpy())
    return np.log(2) / np.exp(A_log.double().numpy()) / dt


@right("half_lives_stored")
def head_by_head(A_log, dt_bias):
    pairs = zip(A_log.tolist(), dt_bias.tolist(), strict=True)
    return [math.log(2) / math.exp(a) / math.log1p(math.exp(bias)) for a, bias in pairs]
