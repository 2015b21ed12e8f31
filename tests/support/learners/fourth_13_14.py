"""A third set for notebook 13, a second one for notebook 14."""

import json
import math
import pickletools

import torch
import torch.nn.functional as F
from support.learners.collect import unexplained, wrong
from support.learners.turning_states import rotate_pairs
from support.learners.turning_states_again import mixer

from mamba2_lab.layers.mamba3 import heavy_tail

# 13 Turning states


@unexplained("refute")
def never_fades(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3):
        h = h + write
        if (h > threshold) != (presses % 2 == 1):
            return presses


@unexplained("refute")
def only_looks_at_even_ones(decay, write, threshold):
    h = 0.0
    for presses in range(1, 9):
        h = decay * h + write
        if presses % 2 == 0 and h > threshold:
            return presses


@unexplained("refute")
def fades_what_it_writes(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3, 4, 5):
        h = decay * (h + write)
        if (h > threshold) != (presses % 2 == 1):
            return presses


@wrong("rotate_pairs", "Sine and cosine are exchanged: an angle of 0 must leave")
def sines_and_cosines_exchanged(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.sin(), angle.cos()
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@wrong("rotate_pairs", "The result is 0 where it should not be; the other numbers are")
def zeros_for_the_rest(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    out = torch.zeros_like(x)
    out[..., 0 : 2 * s : 2] = a * angle.cos() - b * angle.sin()
    out[..., 1 : 2 * s : 2] = a * angle.sin() + b * angle.cos()
    return out


@wrong("rotate_pairs", "It comes out as if `+` stood where `-` belongs.")
def both_with_a_plus(x, angle):
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([a * cos + b * sin, a * sin + b * cos], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@wrong("turn_onto", "It comes out as if `rotate_pairs` were left out.")
def the_writer_alone(B, C, angle):
    return rotate_pairs(B, -angle.cumsum(-2)), C


@wrong("turn_onto", "It comes out as if the running sum began at the end.")
def angles_from_the_end(B, C, angle):
    to_end = angle.flip(-2).cumsum(-2).flip(-2)
    return rotate_pairs(B, -to_end), rotate_pairs(C, -to_end)


@unexplained("turn_onto")
def the_mean_angle(B, C, angle):
    mean = angle.cumsum(-2) / torch.arange(1, angle.shape[-2] + 1)[:, None]
    return rotate_pairs(B, -mean), rotate_pairs(C, -mean)


@wrong("trapezoid", "Both ends count one half here, whatever lam is. lam is what")
def both_halves_alike(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((dt / 2)[..., None] * x, log_decay, B, C, empty, 64)
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    more, _ = scan((dt / 2 * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@wrong("trapezoid", "It comes out as if the two sides of `-` were exchanged.")
def a_difference(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y - more


@wrong("trapezoid", "It looks at the token that comes next. A scan must not: the")
def looks_at_the_next_token(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    y, _ = scan((lam * dt)[..., None] * x, log_decay, B, C, empty, 64)
    next_x, next_B = F.pad(x[:, 1:], (0, 0, 0, 0, 0, 1)), F.pad(B[:, 1:], (0, 0, 0, 0, 0, 1))
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * next_x, log_decay, next_B, C, empty, 64)
    return y + more


@wrong("discretise_turning", "It comes out as if `dt_bias` were left out.")
def dt_without_its_bias(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap.sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("discretise_turning", "It comes out as if `sigmoid` were left out.")
def lam_left_raw(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap, dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("discretise_turning", "It comes out as if `.clamp(...)` were left out.")
def no_floor(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    return dt, -dt * heavy_tail(A), trap.sigmoid(), dt[..., None] * (math.pi * angle.tanh())[..., None, :]


@wrong("mamba3_mixer", "B and C go into the state without their norms: `F.rms_norm`")
def b_and_c_not_normed(u, weights, config, scan):
    return mixer(u, weights, config, scan, normed=False)


@wrong("mamba3_mixer", "It turns the other way. Mamba-3 turns B and C forward;")
def turned_forwards(u, weights, config, scan):
    return mixer(u, weights, config, scan, sign=1)


@wrong("mamba3_mixer", "The gate comes before D x is added, so that D x passes")
def gated_before_the_skip(u, weights, config, scan):
    return mixer(u, weights, config, scan, early=True)


# 14 Real checkpoints


@unexplained("tensor_of")
def all_as_float32(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=torch.float32).reshape(
        entry["shape"]
    )


@unexplained("tensor_of")
def the_last_number_lost(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    return torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype)[:-1].float()


@wrong("tensor_of", "You read from where the numbers begin, whatever the tensor.")
def the_end_for_the_beginning(content, name):
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    return (
        torch.frombuffer(bytearray(content[start:]), dtype=dtype, count=math.prod(entry["shape"]))
        .reshape(entry["shape"])
        .float()
    )


@wrong("read_off", "Heads of 64 channels are usual, and no law. `A_log` has one")
def heads_of_sixty_four(shapes):
    layers = {name.split(".")[2] for name in shapes if name.startswith("backbone.layers.")}
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    return shapes["backbone.norm_f.weight"][0], len(layers), d_inner // 64, (channels - d_inner) // 2


@wrong("read_off", "The number of layers is 2 times what it should be.")
def counts_norms(shapes):
    layers = sum(name.endswith("norm.weight") for name in shapes)
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    heads = shapes["backbone.layers.0.mixer.A_log"][0]
    return shapes["backbone.norm_f.weight"][0], layers, heads, (channels - d_inner) // 2


@wrong("read_off", "That is d_conv, how far the convolution reaches. Its first")
def the_width_of_the_convolution(shapes):
    layers = {name.split(".")[2] for name in shapes if name.startswith("backbone.layers.")}
    d_conv = shapes["backbone.layers.0.mixer.conv1d.weight"][-1]
    return shapes["backbone.norm_f.weight"][0], len(layers), shapes["backbone.layers.0.mixer.A_log"][0], d_conv


@wrong("suspects", "The result holds only a part of each entry: give all of it.")
def names_without_their_module(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.append(argument.split()[1])
        elif op.name == "STACK_GLOBAL":
            found.append("?")
    return found


@wrong("suspects", "The result is how many there are: give the entries themselves.")
def how_many(code, allowed):
    found = 0
    for op, argument, _ in pickletools.genops(code):
        found += op.name in ("GLOBAL", "INST") and argument not in allowed
        found += op.name == "STACK_GLOBAL"
    return found


@wrong("suspects", 'Each look-up is noted, the "?" as well: the second')
def trusts_new_ones_where_nothing_else_is(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.append(argument)
        elif op.name == "STACK_GLOBAL" and "?" not in found:
            found.append("?")
    return found


@wrong("disagreement", "Divided by the largest logit, a difference looks small where")
def by_the_largest_logit(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().max() / b.abs().max()


@wrong("disagreement", "It comes out as if -1 stood where `:` belongs, at each place.")
def in_the_last_row(ours, theirs, vocab_size):
    a, b = ours[-1, :vocab_size], theirs[-1, :vocab_size]
    return (a - b).abs().max() / b.std()


@wrong("disagreement", "That is the root of the mean square. One wrong logit in a")
def root_of_mean_squares(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).square().mean().sqrt() / b.std()


@unexplained("half_lives_stored")
def twice_softplus(A_log, dt_bias):
    return math.log(2) / (F.softplus(A_log) * F.softplus(dt_bias))


@wrong("half_lives_stored", "The result is 1/2 times what it should be.")
def half_as_long(A_log, dt_bias):
    return math.log(2) / (2 * A_log.exp() * F.softplus(dt_bias))


@wrong("half_lives_stored", "It comes out as if `+` stood where `*` belongs.")
def sum_of_both_for_a_product(A_log, dt_bias):
    return math.log(2) / (A_log.exp() + F.softplus(dt_bias))


@wrong("half_lives_stored", "It comes out as if `sigmoid` stood where `softplus` belongs.")
def sigmoid_for_softplus(A_log, dt_bias):
    return math.log(2) / (A_log.exp() * torch.sigmoid(dt_bias))
