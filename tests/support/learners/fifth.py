"""A last set, one for each exercise of notebooks 07 to 14, written when the judge was as it is."""

import json
import math
import pickletools
import statistics

import torch
import torch.nn.functional as F
from support.learners.collect import unexplained, wrong
from support.learners.turning_states import rotate_pairs

from mamba2_lab.layers.mamba3 import heavy_tail
from mamba2_lab.scan import chunked


@wrong("residual_block", "Two mistakes at once. The mixer must read a normalised copy")
def mixer_then_norm_of_the_stream(u, norm, mixer):
    return norm(u) + mixer(u)


@wrong("next_token_logits", "The result has gone through a log_softmax: give what goes")
def normed_after_the_table(u, norm, table, vocab_size):
    return (norm(u) @ table[:vocab_size].T).log_softmax(-1)


@unexplained("merge_pair")
def drops_the_pair(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@unexplained("as_bits_per_byte")
def nats_minus_bytes(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) - math.log2(bytes_per_token)


@wrong("scale_for_depth", "Every number of the result is 1.26 times what it should be.")
def cube_root(weight, n_layer):
    return weight / n_layer ** (1 / 3)


@unexplained("next_token_loss")
def mean_of_the_best(logits, ids):
    return -logits[:, :-1].log_softmax(-1).max(-1).values.mean()


@unexplained("learning_rate")
def square_root_warmup(step, steps, peak, warmup):
    if step < warmup:
        return peak * math.sqrt((step + 1) / warmup)
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@wrong("parameter_groups", "No weight was exempt. The full names have a path in front, as")
def first_part_of_the_name(named, weight_decay):
    exempt = ("dt_bias", "A_log", "D")
    free = [w for name, w in named.items() if name.split(".")[0] in exempt]
    rest = [w for name, w in named.items() if name.split(".")[0] not in exempt]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@wrong("clip_gradients", "It comes out as if `gradients[:1]` stood where `gradients`")
def clipped_by_the_first(gradients, max_norm):
    factor = min(1.0, max_norm / gradients[0].norm())
    return [g * factor for g in gradients]


@wrong("adamw", "It comes out as if `+` stood where `-` belongs.")
def climbs(weight, gradient, m, v, step, rate, decay):
    m = 0.9 * m + 0.1 * gradient
    v = 0.95 * v + 0.05 * gradient**2
    direction = m / (1 - 0.9**step) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    return weight + rate * (direction + decay * weight), m, v


@unexplained("joined_loss")
def weighed_by_roots(means, counts):
    w = counts.sqrt()
    return (means * w).sum() / w.sum()


@wrong("read_on", "Two mistakes at once. The scan starts from an empty state:")
def convolves_without_a_window(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    x, dt, log_decay, B, C = mixer.discretise(mixer.convolve(xbc, torch.zeros_like(window)), dt)
    y, state = chunked(x * dt[..., None], log_decay, B, C, torch.zeros_like(state))
    window = torch.cat([window, xbc], dim=1)[:, u.shape[1] :]
    return mixer.out(mixer.gate(mixer.skip(y, x), z)), window, state


@unexplained("write_greedily")
def second_best(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.topk(2).indices[0, 1])]
    while len(new) < count:
        logits, cache = model.step(torch.tensor(new[-1:]), cache)
        new.append(int(logits.topk(2).indices[0, 1]))
    return new


@wrong("keep_top_p", "The result holds the softmax of `logits`, not its own numbers.")
def probabilities_for_logits(logits, p):
    q, order = logits.softmax(-1).sort(descending=True)
    before = q.cumsum(-1) - q
    kept = torch.full_like(logits, -math.inf)
    kept[order[before < p]] = q[before < p]
    return kept


@wrong("keep_min_p", "Each probability is compared with min_p itself. The floor is")
def of_all_together(logits, min_p):
    q = logits.softmax(-1)
    return logits.masked_fill(q < min_p * q.sum(), -math.inf)


@wrong("penalise", "It comes out as if `seen[-1:]` stood where `seen` belongs.")
def the_last_seen_alone(logits, seen, penalty):
    out, token = logits.clone(), seen[-1]
    out[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    return out


@wrong("release", "A beginning of the stop string is shown. Once it is on the")
def shows_with_the_beginning(pending, stop):
    before, found, _ = pending.partition(stop)
    if found:
        return before, "", True
    for n in range(min(len(stop) - 1, len(pending)), 0, -1):
        if pending.endswith(stop[:n]):
            return pending, pending[-n:], False
    return pending, "", False


@wrong("half_life_here", "The result is 2 times what it should be.")
def twice_the_half_life(log_decay):
    return math.log(4) / -log_decay.mean(dim=0)


@wrong("overlap", "It comes out as if it were divided by")
def fades_backwards_in_time(log_decay, C, key):
    return (-log_decay.cumsum(dim=0)).exp() * (C @ key)


@wrong("shares", "The result has shape (3, 2) where (3,) is expected: the sum")
def entry_by_entry_products(parts, whole):
    return parts * whole / (whole @ whole)


@wrong("through_silu", "It comes out as if `tanh` stood where `sigmoid` belongs.")
def tanh_for_sigmoid(inputs, taps, bias):
    terms = torch.cat([taps * inputs, bias[None]])
    return terms * torch.tanh(terms.sum(0))


@wrong("resampled", "It comes out as if `picks[:1]` stood where `picks` belongs.")
def picks_of_sums_only(sums, counts, picks):
    return sums[picks].sum(1) / counts[picks[0]].sum()


@unexplained("read_back")
def signs_of_overlaps(keys, values):
    return (keys @ keys.T).abs() @ values


@wrong("expected_error", "1 / √n is the usual size of an overlap. What adds up are")
def n_for_n_squared(m, n):
    return (m - 1) / math.sqrt(n)


@unexplained("exact_queries")
def inverse_used_twice(keys):
    inverse = torch.linalg.inv(keys @ keys.T)
    return inverse @ inverse @ keys


@wrong("attend", "It comes out as if `sigmoid` stood where `softmax` belongs.")
def sigmoid_weights(queries, keys, values, sharpness):
    return torch.sigmoid(sharpness * queries @ keys.T) @ values


@unexplained("bits_by_position")
def everything_up_to_the_edge(nats, sizes, edges):
    sums = [nats[:, :b].sum() / sizes[:, a:b].sum() for a, b in zip(edges, edges[1:], strict=False)]
    return torch.stack(sums) / math.log(2)


@wrong("stack_bytes", "It comes out as if `l` were one more.")
def a_token_more(l, mixers, state_bytes, token_bytes):
    return mixers.count("mamba2") * state_bytes + (l + 1) * mixers.count("attention") * token_bytes


@unexplained("median_seconds")
def times_the_warm_up_too(machine, work, rounds):
    start = machine.now()
    machine.ask(work)
    machine.wait()
    seconds = [machine.now() - start]
    for _ in range(rounds):
        start = machine.now()
        machine.ask(work)
        machine.wait()
        seconds.append(machine.now() - start)
    return statistics.median(seconds)


@wrong("crossover", "That is where the first is faster. Less time is faster.")
def first_is_faster(sizes, first, second):
    found = None
    for size, one, other in zip(reversed(sizes), reversed(first), reversed(second), strict=True):
        if one >= other:
            break
        found = size
    return found


@wrong("projection_cost", "The number of bytes comes out as `2 * l * d_in * d_out *")
def bytes_of_the_operations(l, d_in, d_out, number_bytes):
    return 2 * l * d_in * d_out, 2 * l * d_in * d_out * number_bytes


@wrong("bytes_kept", "It comes out as if `config.d_model` stood where")
def window_of_the_stream(l, config, number_bytes):
    kv = 2 * config.n_layer * l * config.d_model * number_bytes
    state = config.nheads * config.headdim * config.d_state * 4
    return kv, config.n_layer * (state + (config.d_conv - 1) * config.d_model * number_bytes)


@wrong("refute", "After so many presses the memory is right. Look for a number")
def threshold_turned_round(decay, write, threshold):
    h = 0.0
    for presses in (1, 2, 3):
        h = decay * h + write
        if (h < threshold) != (presses % 2 == 1):
            return presses


@unexplained("rotate_pairs")
def in_degrees(x, angle):
    angle = torch.deg2rad(angle)
    s = angle.shape[-1]
    a, b = x[..., 0 : 2 * s : 2], x[..., 1 : 2 * s : 2]
    turned = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)


@wrong("turn_onto", "It comes out as if `rotate_pairs(B, -since_start)` and")
def b_and_c_exchanged_in_return(B, C, angle):
    since = angle.cumsum(-2)
    return rotate_pairs(C, -since), rotate_pairs(B, -since)


@unexplained("trapezoid")
def reads_with_the_last_key(x, B, C, log_decay, dt, lam, scan):
    empty = x.new_zeros(len(x), *x.shape[2:], B.shape[-1])
    last_x, last_B = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0)), F.pad(B[:, :-1], (0, 0, 0, 0, 1, 0))
    y, _ = scan((lam * dt)[..., None] * x, log_decay, last_B, C, empty, 64)
    more, _ = scan(((1 - lam) * dt * log_decay.exp())[..., None] * last_x, log_decay, last_B, C, empty, 64)
    return y + more


@unexplained("discretise_turning")
def tanh_of_the_product(dt, A, trap, angle, dt_bias, A_floor):
    dt = F.softplus(dt + dt_bias)
    log_decay = -dt * heavy_tail(A).clamp(min=A_floor)
    return dt, log_decay, trap.sigmoid(), math.pi * torch.tanh(dt[..., None] * angle[..., None, :])


@wrong("tensor_of", "You are eight bytes early: before the header stands its own")
def eight_bytes_of_header(content, name):
    start = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + start])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[entry["dtype"]]
    return (
        torch.frombuffer(bytearray(content[start + begin : start + end]), dtype=dtype).reshape(entry["shape"]).float()
    )


@wrong("read_off", "That is the largest number of a layer. They begin with 0, so")
def one_layer_less(shapes):
    last = max(int(name.split(".")[2]) for name in shapes if name.startswith("backbone.layers."))
    d_inner = shapes["backbone.layers.0.mixer.norm.weight"][0]
    channels = shapes["backbone.layers.0.mixer.conv1d.weight"][0]
    return (
        shapes["backbone.norm_f.weight"][0],
        last,
        shapes["backbone.layers.0.mixer.A_log"][0],
        (channels - d_inner) // 2,
    )


@wrong("suspects", "The result holds the right entries, in another order.")
def backwards(code, allowed):
    found = []
    for op, argument, _ in pickletools.genops(code):
        if op.name in ("GLOBAL", "INST") and argument not in allowed:
            found.insert(0, argument)
        elif op.name == "STACK_GLOBAL":
            found.insert(0, "?")
    return found


@wrong("disagreement", "It comes out as if `[:, :vocab_size]` were left out.")
def spread_of_ours(ours, theirs, vocab_size):
    a, b = ours[:, :vocab_size], theirs[:, :vocab_size]
    return (a - b).abs().max() / theirs.std()


@wrong("half_lives_stored", "It comes out as if `log10` stood where `log` belongs.")
def base_ten(A_log, dt_bias):
    return math.log10(2) / (A_log.exp() * F.softplus(dt_bias))
