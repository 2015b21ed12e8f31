"""What `solution()` shows where there is another way than the reference."""

from __future__ import annotations

OTHER_WAYS = {
    "levels": """\
def levels(x, decay):
    t = torch.arange(len(x))
    left = torch.where(t[:, None] >= t, decay ** (t[:, None] - t).clamp(min=0), 0.0)  # of the rain of s, at t
    return left @ x
""",
    "half_life": """\
def half_life(log_decay):
    return math.log(0.5) / log_decay
""",
    "dt_to_remember": """\
def dt_to_remember(steps, A):
    return math.log(2) / (-A * math.sqrt(steps * (steps + 1)))
""",
    "steps_since": """\
def steps_since(levels, log_decay):
    columns = torch.stack([torch.ones_like(log_decay), log_decay], dim=1)  # ln r, and t
    return torch.linalg.lstsq(columns, levels.log()[:, None]).solution[1, 0]
""",
    "kernel": """\
def kernel(log_decay, B, C, l):
    state, shown = B, []
    for _ in range(l):
        shown.append((C * state).sum())
        state = torch.exp(log_decay) * state
    return torch.stack(shown)
""",
    "convolution": """\
def convolution(x, weights):
    return torch.stack([(weights[: t + 1].flip(0) * x[: t + 1]).sum() for t in range(len(x))])
""",
    "toeplitz": """\
def toeplitz(weights):
    l = len(weights)
    matrix = torch.zeros(l, l)
    for s in range(l):
        matrix[s:, s] = weights[: l - s]
    return matrix
""",
    "as_mamba1": """\
def as_mamba1(dt, A, p, n):
    l, h = dt.shape
    return dt[:, :, None].expand(l, h, p).reshape(l, h * p), A[:, None, None].expand(h, p, n).reshape(h * p, n)
""",
    "segsum": """\
def segsum(log_decay):
    l = log_decay.shape[-1]
    rows = [torch.full(log_decay.shape, -torch.inf)]
    for t in range(l):  # the recurrence in logarithms: everything fades by one more decay, the new token not at all
        row = rows[-1] + log_decay[..., t : t + 1]
        rows.append(torch.where(torch.arange(l) == t, 0.0, row))
    return torch.stack(rows[1:], dim=-2)
""",
    "attention_matrix": """\
def attention_matrix(log_decay, B, C):
    return torch.einsum("...ts,...tn,...sn->...ts", decay_mask(log_decay), C, B)
""",
    "split_into_chunks": """\
def split_into_chunks(sequence, chunk_size):
    b, l, *rest = sequence.shape
    c = -(-l // chunk_size)
    chunks = sequence.new_zeros(b, c * chunk_size, *rest)
    chunks[:, :l] = sequence
    return chunks.view(b, c, chunk_size, *rest)
""",
    "left_behind": """\
def left_behind(x, log_decay, B):
    to_end = torch.exp(segsum(log_decay)[..., -1, :])
    return torch.einsum("...q,...qp,...qn->...pn", to_end, x, B)
""",
    "pass_between_chunks": """\
def pass_between_chunks(added, log_decay, initial_state):
    steps = torch.cat([torch.zeros_like(log_decay[..., :1]), log_decay], dim=-1)
    written = torch.cat([initial_state.unsqueeze(-3), added], dim=-3)  # the initial state is written first
    return torch.einsum("...zc,...cpn->...zpn", torch.exp(segsum(steps)), written)
""",
    "read_incoming": """\
def read_incoming(state, log_decay, C):
    return (torch.exp(log_decay.cumsum(dim=-1))[..., None] * C) @ state.mT
""",
    "split_projection": """\
def split_projection(projected, d_inner, nheads):
    return projected[..., :d_inner], projected[..., d_inner:-nheads], projected[..., -nheads:]
""",
    "causal_conv": """\
def causal_conv(x, weight, bias, window):
    inputs, width = torch.cat([window, x], dim=1), weight.shape[-1]
    mixed = sum(weight[:, 0, i] * inputs[:, i : i + x.shape[1]] for i in range(width))
    return F.silu(mixed if bias is None else mixed + bias)
""",
    "next_token_logits": """\
def next_token_logits(u, norm, table, vocab_size):
    return (norm(u) @ table.T)[..., :vocab_size]
""",
    "as_bits_per_byte": """\
def as_bits_per_byte(nats_per_token, bytes_per_token):
    return nats_per_token * math.log2(math.e) / bytes_per_token
""",
    "next_token_loss": """\
def next_token_loss(logits, ids):
    chances = logits[:, :-1].log_softmax(dim=-1)
    return -chances.gather(-1, ids[:, 1:, None]).mean()
""",
    "clip_gradients": """\
def clip_gradients(gradients, max_norm):
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))
    return [gradient * (max_norm / norm).clamp(max=1.0) for gradient in gradients]
""",
    "write_greedily": """\
def write_greedily(model, ids, count):
    logits, cache = model.prefill(ids)
    new = [int(logits.argmax())]
    for _ in range(count - 1):
        logits, cache = model.step(torch.tensor([new[-1]]), cache)
        new.append(int(logits.argmax()))
    return new
""",
    "keep_min_p": """\
def keep_min_p(logits, min_p):
    probabilities = logits.softmax(dim=-1)
    return torch.where(probabilities < min_p * probabilities.max(), -math.inf, logits)
""",
    "read_back": """\
def read_back(keys, values):
    return (keys @ keys.mT) @ values
""",
    "exact_queries": """\
def exact_queries(keys):
    return torch.linalg.pinv(keys).mT
""",
    "stack_bytes": """\
def stack_bytes(l, mixers, state_bytes, token_bytes):
    return sum(state_bytes if name == "mamba2" else l * token_bytes for name in mixers)
""",
    "crossover": """\
def crossover(sizes, first, second):
    slower = [i for i, (one, other) in enumerate(zip(first, second, strict=True)) if other >= one]
    after = slower[-1] + 1 if slower else 0
    return sizes[after] if after < len(sizes) else None
""",
    "bytes_kept": """\
def bytes_kept(l, config, number_bytes):
    keys = l * config.d_model * number_bytes
    state = config.d_inner * config.d_state * 4  # d_inner is nheads * headdim
    window = config.conv_dim * (config.d_conv - 1) * number_bytes
    return config.n_layer * (keys + keys), config.n_layer * (state + window)
""",
    "rotate_pairs": """\
def rotate_pairs(x, angle):
    s = angle.shape[-1]
    pairs = torch.view_as_complex(x[..., : 2 * s].unflatten(-1, (s, 2)).contiguous())
    turned = torch.view_as_real(pairs * torch.exp(1j * angle)).flatten(-2)
    return torch.cat([turned, x[..., 2 * s :]], dim=-1)
""",
    "turn_onto": """\
def turn_onto(B, C, angle):
    to_end = angle.flip(-2).cumsum(dim=-2).flip(-2) - angle  # of all later tokens: the state as it is at the end
    return rotate_pairs(B, to_end), rotate_pairs(C, to_end)
""",
}
