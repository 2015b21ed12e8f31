"""More wrong answers to notebooks 04 to 06, written as the first were: from the text of the exercises alone."""

import torch
import torch.nn.functional as F
from support.learners.collect import wrong

from mamba2_lab.course import exercises

R = {name: exercise.reference for name, exercise in exercises.all_exercises().items()}


def _quadratic(x, log_decay, B, C, initial_state, came, own):
    x, log_decay, B, C = (part.transpose(1, 2) for part in (x, log_decay, B, C))
    total = log_decay.cumsum(-1)
    y = R["attention_matrix"](log_decay, B, C) @ x + came(log_decay).exp()[..., None] * (C @ initial_state.mT)
    fade = (total[..., -1:] - total + (log_decay if own else 0)).exp()
    final = total[..., -1].exp()[..., None, None] * initial_state + (x * fade[..., None]).mT @ B
    return y.transpose(1, 2), final


def _chunked(x, log_decay, B, C, initial_state, q, final, came):
    l, h = x.shape[1:3]
    B, C = (part.repeat_interleave(h // part.shape[2], 2) for part in (B, C))
    x, log_decay, B, C = (R["split_into_chunks"](part, q) for part in (x, log_decay, B, C))
    x, log_decay, B, C = x.movedim(3, 1), log_decay.movedim(3, 1), B.movedim(3, 1), C.movedim(3, 1)
    y = R["attention_matrix"](log_decay, B, C) @ x
    states = R["pass_between_chunks"](R["left_behind"](x, log_decay, B), log_decay.sum(-1), initial_state)
    y = y + R["read_incoming"](states[:, :, came], log_decay, C)
    return y.flatten(2, 3)[:, :, :l].transpose(1, 2), states[:, :, final]


@wrong("segsum", "Above the diagonal it must be -inf. A 0 there becomes exp(0) = 1: every")
def zero_above(log_decay):
    total = log_decay.cumsum(-1)
    return (total[..., :, None] - total[..., None, :]).tril()


@wrong("segsum", "The diagonal must be 0: a token's own decay is not applied to what it")
def own_decay_too(log_decay):
    l = log_decay.shape[-1]
    rows = log_decay[..., :, None].expand(*log_decay.shape, l).tril()
    return rows.cumsum(-2).masked_fill(torch.ones(l, l, dtype=torch.bool).triu(1), -torch.inf)


@wrong("decay_mask", "The result is 0 where it should not be, all on the diagonal; the other")
def nothing_on_the_diagonal(log_decay):
    return R["segsum"](log_decay).exp().tril(-1)


@wrong("decay_mask", "It comes out as if `exp` were taken before `segsum`, not after.")
def exp_before_the_sum(log_decay):
    return R["segsum"](log_decay.exp())


@wrong("attention_matrix", "This is the matrix product of mask and scores. The mask scales each")
def a_matrix_product_with_the_mask(log_decay, B, C):
    return R["decay_mask"](log_decay) @ (C @ B.mT)


@wrong("attention_matrix", "It comes out as if `segsum` stood where `decay_mask` belongs.")
def the_log_of_the_mask(log_decay, B, C):
    return R["segsum"](log_decay) * (C @ B.mT)


@wrong("factor_below", "On the right, a source's own decay is applied to what it writes. It")
def right_fades_by_its_own(log_decay, B, C, cut):
    left = C[..., cut:, :] * log_decay[..., cut:].cumsum(-1).exp()[..., None]
    fade = log_decay[..., :cut].flip(-1).cumsum(-1).flip(-1).exp()
    return left, (B[..., :cut, :] * fade[..., None]).mT


@wrong("factor_below", "It comes out as if the running sum left out the entry itself.")
def left_skips_the_first(log_decay, B, C, cut):
    after = log_decay[..., cut:]
    left = C[..., cut:, :] * (after.cumsum(-1) - after).exp()[..., None]
    before = log_decay[..., :cut]
    fade = (before.sum(-1, keepdim=True) - before.cumsum(-1)).exp()
    return left, (B[..., :cut, :] * fade[..., None]).mT


@wrong("numerical_rank", "It comes out as if `<` stood where `>` belongs.")
def counts_the_small_ones(matrix, tolerance):
    values = torch.linalg.svdvals(matrix)
    return (values < tolerance * values[..., :1]).sum(-1)


@wrong("numerical_rank", "A fixed threshold: in other units the same matrix would have another")
def an_absolute_tolerance(matrix, tolerance):
    return torch.linalg.matrix_rank(matrix, atol=tolerance)


@wrong("quadratic", "It comes out as if `.cumsum(...)` were left out.")
def came_fades_by_one_decay(x, log_decay, B, C, initial_state):
    return _quadratic(x, log_decay, B, C, initial_state, lambda a: a, False)


@wrong("split_into_chunks", "The tokens that do not fill a chunk are dropped: the end of the text is")
def drops_the_rest(sequence, chunk_size):
    c = sequence.shape[1] // chunk_size
    return sequence[:, : c * chunk_size].unflatten(1, (c, chunk_size))


@wrong("split_into_chunks", "The result is not 0 where it should be, all with index 2 along axis 1;")
def repeats_the_last(sequence, chunk_size):
    missing = -sequence.shape[1] % chunk_size
    filled = torch.cat([sequence, *[sequence[:, -1:]] * missing], 1)
    return filled.unflatten(1, (-1, chunk_size))


@wrong("left_behind", "These are the fades from the chunk's start to each token. What a token")
def fade_from_the_start(x, log_decay, B):
    return (x * log_decay.cumsum(-1).exp()[..., None]).mT @ B


@wrong("pass_between_chunks", "The chunk's decay is applied to what the chunk itself adds. That has")
def adds_then_fades(added, log_decay, initial_state):
    states = [initial_state]
    for i in range(added.shape[-3]):
        states.append((states[-1] + added[..., i, :, :]) * log_decay[..., i, None, None].exp())
    return torch.stack(states, -3)


@wrong("pass_between_chunks", "The states add up without fading. A chunk lets through only part of")
def adds_without_fading(added, log_decay, initial_state):
    return torch.cat([initial_state.unsqueeze(-3), added], -3).cumsum(-3)


@wrong("read_incoming", "Every token reads with the decay of the whole chunk. Token t has seen")
def faded_to_the_end(state, log_decay, C):
    return log_decay.sum(-1).exp()[..., None, None] * (C @ state.mT)


@wrong("read_incoming", "It comes out as if `.cumsum(...)` were left out.")
def own_decay_alone(state, log_decay, C):
    return log_decay.exp()[..., None] * (C @ state.mT)


@wrong("chunked", "It comes out as if 2 stood where 1 belongs.")
def state_before_the_last_chunk(x, log_decay, B, C, initial_state, chunk_size):
    return _chunked(x, log_decay, B, C, initial_state, chunk_size, -2, slice(None, -1))


@wrong("chunked", "Each chunk reads the state at its end, which holds its own tokens")
def reads_what_goes_out(x, log_decay, B, C, initial_state, chunk_size):
    return _chunked(x, log_decay, B, C, initial_state, chunk_size, -1, slice(1, None))


@wrong("multiply_adds", "To pass the state on is left out: another p * n for each chunk.")
def forgets_to_pass_on(l, chunk_size, p, n):
    c = -(-l // chunk_size)
    return c * (chunk_size**2 * (n + p) + 2 * chunk_size * p * n)


@wrong("multiply_adds", "The ragged end is left out: 10 tokens in chunks of 4 are three chunks,")
def full_chunks_only(l, chunk_size, p, n):
    c = l // chunk_size
    return c * (chunk_size**2 * (n + p) + 2 * chunk_size * p * n + p * n)


@wrong("left_behind", "Rows and columns of the state are exchanged: it is (p, n), channels")
def rows_for_states(x, log_decay, B):
    return R["left_behind"](x, log_decay, B).mT


@wrong("pass_between_chunks", "The state from before the text is lost: the first boundary holds")
def starts_from_nothing(added, log_decay, initial_state):
    return R["pass_between_chunks"](added, log_decay, torch.zeros_like(initial_state))


@wrong("read_incoming", "It comes out as if `exp` were left out.")
def log_as_factor(state, log_decay, C):
    return log_decay.cumsum(-1)[..., None] * (C @ state.mT)


@wrong("chunked", "Heads go to the wrong groups: with 2 groups, `repeat` deals them out 0,")
def groups_in_turn(x, log_decay, B, C, initial_state, chunk_size):
    h = x.shape[2]
    B, C = (part.repeat(1, 1, h // part.shape[2], 1) for part in (B, C))
    return R["chunked"](x, log_decay, B, C, initial_state, chunk_size)


@wrong("multiply_adds", "C @ B.mT is missing: before M can be multiplied with x, its q x q")
def without_the_scores(l, chunk_size, p, n):
    return -(-l // chunk_size) * (chunk_size**2 * p + 2 * chunk_size * p * n + p * n)


@wrong("split_projection", "xBC is made as wide as z, and raw_dt gets what is left. But xBC holds")
def x_alone(projected, d_inner, nheads):
    return projected[..., :d_inner], projected[..., d_inner : 2 * d_inner], projected[..., -nheads:]


@wrong("split_projection", "The step sizes are taken from the front. They stand at the end, behind")
def dt_first(projected, d_inner, nheads):
    dt, z, xBC = projected.split([nheads, d_inner, projected.shape[-1] - d_inner - nheads], -1)
    return z, xBC, dt


@wrong("causal_conv", "The taps are turned around. The last tap, `weight[..., -1]`, meets the")
def taps_turned_round(x, weight, bias, window):
    inputs = torch.cat([window, x], 1).mT
    return F.silu(F.conv1d(inputs, weight.flip(-1), bias, groups=len(weight))).mT


@wrong("causal_conv", "It comes out as if `bias` were added last.")
def bias_after_silu(x, weight, bias, window):
    inputs = torch.cat([window, x], 1).mT
    y = F.silu(F.conv1d(inputs, weight, groups=len(weight))).mT
    return y if bias is None else y + bias


@wrong("step_size", "The bias is added after softplus. It shifts the raw number, before")
def bias_after_softplus(raw_dt, dt_bias, dt_limit):
    return (F.softplus(raw_dt) + dt_bias).clamp(*dt_limit)


@wrong("step_size", "The lower limit is left out: dt_limit is a pair, and a step may not be")
def upper_limit_only(raw_dt, dt_bias, dt_limit):
    return F.softplus(raw_dt + dt_bias).clamp(max=dt_limit[1])


@wrong("skip", "The channels of different heads are shuffled into each other. Heads")
def channels_of_all_heads_together(y, x, D):
    return (y + D[:, None] * x).transpose(-1, -2).flatten(-2)


@wrong("skip", "D scales what was read from the state, and x is added as it is. It is")
def scales_what_was_read(y, x, D):
    return (D[:, None] * y + x).flatten(-2)


@wrong("gated_rms_norm", "The mean is subtracted, as a LayerNorm does. An RMSNorm divides by the")
def takes_the_mean_away(y, z, weight, ngroups, norm_before_gate, eps):
    if not norm_before_gate:
        y = y * F.silu(z)
    groups = y.unflatten(-1, (ngroups, -1))
    groups = groups - groups.mean(-1, keepdim=True)
    y = (groups * (groups.square().mean(-1, keepdim=True) + eps).rsqrt()).flatten(-2) * weight
    return y * F.silu(z) if norm_before_gate else y


@wrong("gated_rms_norm", "The order is exchanged: with norm_before_gate = False the gate comes")
def the_flag_turned_round(y, z, weight, ngroups, norm_before_gate, eps):
    return R["gated_rms_norm"](y, z, weight, ngroups, not norm_before_gate, eps)


@wrong("split_projection", "`z` has 6 entries, and the first 4 are right: cut off the rest.")
def widths_exchanged(projected, d_inner, nheads):
    return projected.split([projected.shape[-1] - d_inner - nheads, d_inner, nheads], -1)


@wrong("causal_conv", "The weighted sum is right, the activation is missing: `F.silu` of it.")
def no_activation(x, weight, bias, window):
    return F.conv1d(torch.cat([window, x], 1).mT, weight, bias, groups=len(weight)).mT


@wrong("step_size", "The raw numbers are clamped, and softplus is taken afterwards. The")
def limits_first(raw_dt, dt_bias, dt_limit):
    return F.softplus((raw_dt + dt_bias).clamp(*dt_limit))


@wrong("skip", "It comes out as if `D[:, None]` multiplied the whole sum, not its one")
def scales_both(y, x, D):
    return (D[:, None] * (y + x)).flatten(-2)
