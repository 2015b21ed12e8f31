"""The last hint of each hard exercise: its answer with gaps."""

from __future__ import annotations

SKELETONS = {
    "steps_since": """\
def steps_since(levels, log_decay):
    u, v = log_decay, levels.log()
    ...  # u without its mean
    ...  # the slope: the sum of both products, divided by the sum of squares
""",
    "fft_convolution": """\
def fft_convolution(x, weights):
    l = len(x)
    ...  # transform both, at a length at which nothing runs in at the beginning
    ...  # multiply, transform back at the same length, keep the first l
""",
    "dt_to_hold": """\
def dt_to_hold(marked, amount, A):
    dt, later = torch.zeros(len(marked)), 0.0  # the time that passes after this word
    for s in reversed(range(len(marked))):
        ...  # a marked word: so much that `amount` is left after `later`; then time has passed
    return dt
""",
    "factor_below": """\
def factor_below(log_decay, B, C, cut):
    ...  # how much of the state at the cut is left at each target after it, its own decay included
    ...  # how much of each source before the cut is left at the cut
    ...  # left: the first with C[cut:]; right: the second with B[:cut], then .mT
""",
    "quadratic": """\
def quadratic(x, log_decay, B, C, initial_state):
    x, log_decay, B, C = (part.transpose(1, 2) for part in (x, log_decay, B, C))  # heads beside the batch
    ...  # y: what the tokens wrote, by attention_matrix
    ...  # and what is left of the initial state at each token, read along C
    ...  # final_state: what is left of the initial one, and of each x_t B_t^T, at the end
    return y.transpose(1, 2), final_state
""",
    "chunked": """\
def chunked(x, log_decay, B, C, initial_state, chunk_size):
    l, h = x.shape[1:3]
    ...  # all four in chunks, heads in front of them: (b,h,c,q,...); B and C for every head
    ...  # left_behind, then pass_between_chunks: the states at c+1 boundaries
    ...  # y: attention_matrix @ x inside, and read_incoming of all boundaries but the last
    ...  # y back as it came, the filling cut off; and the last state
""",
    "mamba2_block": """\
def mamba2_block(u, weights, config, scan):
    projected = F.linear(u, weights["in_proj.weight"], weights.get("in_proj.bias"))
    ...  # split_projection; causal_conv of xBC, from an empty window
    ...  # x, B and C, with heads and groups as axes; step_size; A
    ...  # discretise, and scan from an empty state
    ...  # skip, gated_rms_norm
    return F.linear(y, weights["out_proj.weight"], weights.get("out_proj.bias"))
""",
    "count_parameters": """\
def count_parameters(config):
    ...  # in_proj: d times what it makes (z, xBC, dt); the convolution, with its bias
    ...  # dt_bias, A_log and D; the gated norm; out_proj
    ...  # the table, n_layer times a norm and a mixer, and the final norm
""",
    "adamw": """\
def adamw(weight, gradient, m, v, step, rate, decay):
    ...  # the new m and v: a share of the old, and the rest of what came
    ...  # both corrected for having begun at 0
    ...  # the weight, moved by rate times (the direction, and decay times itself)
    return weight, m, v
""",
    "read_on": """\
def read_on(u, mixer, window, state):
    z, xbc, dt = mixer.project(u)
    ...  # convolve behind the window; discretise; chunked, from the state
    ...  # the new window: the last inputs of the convolution, old ones among them if few are new
    ...  # skip, gate, out
    return out, window, state
""",
    "release": """\
def release(pending, stop):
    ...  # is the whole stop there? then what stands before it, nothing pending, and True
    for n in range(min(len(stop) - 1, len(pending)), 0, -1):
        ...  # does pending end in the first n letters of stop? then they wait
    return pending, "", False
""",
    "through_silu": """\
def through_silu(inputs, taps, bias):
    terms = ...  # all terms of v, the bias among them: (w+1,p)
    ...  # each times the sigmoid of their sum
""",
    "exact_queries": """\
def exact_queries(keys):
    overlaps = ...  # of each key with each: (m,m)
    ...  # weights that undo these overlaps, times the keys
""",
    "mamba3_mixer": """\
def mamba3_mixer(u, weights, config, scan):
    ...  # in_proj, cut into z, x, B, C, dt, A, trap, angle; x with its heads
    ...  # discretise_turning
    ...  # B and C: rms_norm, then the bias of each head: (b,l,h,n)
    ...  # turn_onto by minus the angle, tokens next to the last axis
    ...  # trapezoid, and D x
    return F.linear(y.flatten(-2) * F.silu(z), weights["out_proj.weight"])
""",
}
