"""Kernels in Triton for Mamba-3 on a GPU; `fast.trapezoid` and `fast.turning` call them, and say what they compute.

All tensors are contiguous. Rows are (b,h,l), so that a chunk's lie side by side; matrices of chunks are (b,h,c,p,n).
A program computes one chunk of one head, but `pass_states`, which goes from chunk to chunk, and the two of turning. A
chunk is one block of Q tokens or, where only the forward pass is wanted, several: fewer states are then in memory.
Names are those of scan/: x, B, C, CUM the log decays summed since the start of a chunk, OWN and LATER the weights with
which a token reads itself and with which all later ones read it. What begins with D is a gradient.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators

import triton
import triton.language as tl

ONE_TURN = tl.constexpr(6.283185307179586)  # in radians


@triton.jit
def _tokens(base, block, L, H, Q: tl.constexpr, D: tl.constexpr):
    """Where a block's rows of a (b,l,h,d) tensor lie: (q,d)."""
    b, h = tl.program_id(1) // H, tl.program_id(1) % H
    row = (b.to(tl.int64) * L + block * Q + tl.arange(0, Q)) * H + h
    return base + row[:, None] * D + tl.arange(0, D)[None, :]


@triton.jit
def _matrix(base, chunk, CHUNKS, P: tl.constexpr, N: tl.constexpr):
    """Where a chunk's matrix lies: (p,n)."""
    index = tl.program_id(1).to(tl.int64) * CHUNKS + chunk
    return base + index * P * N + tl.arange(0, P)[:, None] * N + tl.arange(0, N)[None, :]


@triton.jit
def _decay(cum, Q: tl.constexpr):
    """What is left at a later token of what a token wrote: (q,q), zero on and above the diagonal."""
    i = tl.arange(0, Q)
    later = i[:, None] > i[None, :]
    return tl.where(later, tl.exp(tl.where(later, cum[:, None] - cum[None, :], 0.0)), 0.0)


@triton.jit
def write_states(
    X, B, WEIGHT, KEPT, LEFT, L, H,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """What each chunk alone leaves behind, by blocks: each fades what is there, and adds weight_t x_t B_t^T."""
    left = tl.zeros((P, N), tl.float32)
    for j in range(BLOCKS):
        block = tl.program_id(0) * BLOCKS + j
        x = tl.load(_tokens(X, block, L, H, Q, P)).to(tl.float32)
        B_ = tl.load(_tokens(B, block, L, H, Q, N))
        weight = tl.load(WEIGHT + tl.program_id(1) * L + block * Q + tl.arange(0, Q))
        written = tl.dot(tl.trans((x * weight[:, None]).to(B_.dtype)), B_, input_precision="ieee")
        left = left * tl.load(KEPT + tl.program_id(1) * (L // Q) + block) + written
    tl.store(_matrix(LEFT, tl.program_id(0), L // Q // BLOCKS, P, N), left.to(LEFT.dtype.element_ty))


@triton.jit
def pass_states(LEFT, KEPT, STATE, BEFORE, FINAL, CHUNKS, SIZE: tl.constexpr, BLOCK: tl.constexpr, BACK: tl.constexpr):
    """States before each chunk, and after the last; or, from the last chunk back, gradients of states after each."""
    head = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    state = tl.load(STATE + head * SIZE + at)
    for i in range(CHUNKS):
        chunk = head * CHUNKS + (CHUNKS - 1 - i if BACK else i)
        left = tl.load(LEFT + chunk * SIZE + at).to(tl.float32)
        tl.store(BEFORE + chunk * SIZE + at, state.to(BEFORE.dtype.element_ty))
        state = tl.load(KEPT + chunk) * state + left
    tl.store(FINAL + head * SIZE + at, state)


@triton.jit
def read(
    X, B, C, CUM, OWN, LATER, TO_END, KEPT, BEFORE, Y, L, H,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """What tokens read of their own block, and of the state before it, which is carried on from block to block."""
    i = tl.arange(0, Q)
    state = tl.load(_matrix(BEFORE, tl.program_id(0), L // Q // BLOCKS, P, N)).to(tl.float32)
    for j in range(BLOCKS):
        block = tl.program_id(0) * BLOCKS + j
        x = tl.load(_tokens(X, block, L, H, Q, P))
        B_ = tl.load(_tokens(B, block, L, H, Q, N))
        C_ = tl.load(_tokens(C, block, L, H, Q, N))
        rows = tl.program_id(1) * L + block * Q + i
        cum, own, later = tl.load(CUM + rows), tl.load(OWN + rows), tl.load(LATER + rows)
        weights = _decay(cum, Q) * later[None, :] + tl.where(i[:, None] == i[None, :], own[None, :], 0.0)
        y = tl.dot(C_, tl.trans(state.to(C_.dtype)), input_precision="ieee") * tl.exp(cum)[:, None]
        scores = tl.dot(C_, tl.trans(B_), input_precision="ieee") * weights
        y += tl.dot(scores.to(x.dtype), x, input_precision="ieee")
        tl.store(_tokens(Y, block, L, H, Q, P), y.to(Y.dtype.element_ty))
        if BLOCKS > 1:
            weighted = (x.to(tl.float32) * tl.load(TO_END + rows)[:, None]).to(B_.dtype)
            kept = tl.load(KEPT + tl.program_id(1) * (L // Q) + block)
            state = state * kept + tl.dot(tl.trans(weighted), B_, input_precision="ieee")


@triton.jit
def read_backward(
    X, B, C, CUM, OWN, LATER, BEFORE, DY, DAFTER, DX, DB, DC, DCUM, DOWN, DLATER, L, H,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradients of a chunk, from those of y and of the state after it."""
    chunk, i = tl.program_id(0), tl.arange(0, Q)
    x = tl.load(_tokens(X, chunk, L, H, Q, P))
    B_ = tl.load(_tokens(B, chunk, L, H, Q, N))
    C_ = tl.load(_tokens(C, chunk, L, H, Q, N))
    dy = tl.load(_tokens(DY, chunk, L, H, Q, P))
    rows = tl.program_id(1) * L + chunk * Q + i
    cum, own, later = tl.load(CUM + rows), tl.load(OWN + rows), tl.load(LATER + rows)
    half = B_.dtype

    # Inside of the chunk: y = (weights * scores) x.
    diagonal = i[:, None] == i[None, :]
    decay = _decay(cum, Q)
    weights = decay * later[None, :] + tl.where(diagonal, own[None, :], 0.0)
    scores = tl.dot(C_, tl.trans(B_), input_precision="ieee")
    dproduct = tl.dot(dy, tl.trans(x), input_precision="ieee")
    dx = tl.dot(tl.trans((scores * weights).to(half)), dy, input_precision="ieee")
    dscores = (dproduct * weights).to(half)
    dC = tl.dot(dscores, B_, input_precision="ieee")
    dB = tl.dot(tl.trans(dscores), C_, input_precision="ieee")
    dweights = dproduct * scores
    down = tl.sum(tl.where(diagonal, dweights, 0.0), 0)
    dweights *= decay
    dlater = tl.sum(dweights, 0)
    dcum = tl.sum(dweights * later[None, :], 1) - dlater * later

    # What the chunk reads of the state before it.
    before = tl.load(_matrix(BEFORE, chunk, L // Q, P, N))
    dread = tl.dot(dy, before, input_precision="ieee") * tl.exp(cum)[:, None]
    dC += dread
    dcum += tl.sum(dread * C_.to(tl.float32), 1)

    # What it leaves in the state after it.
    dafter = tl.load(_matrix(DAFTER, chunk, L // Q, P, N))
    end = tl.load(CUM + tl.program_id(1) * L + chunk * Q + Q - 1)
    to_end = tl.exp(end - cum)
    dwritten = tl.dot(x, dafter, input_precision="ieee")
    dB += dwritten * (to_end * later)[:, None]
    dx += tl.dot(B_, tl.trans(dafter), input_precision="ieee") * (to_end * later)[:, None]
    dto_end = to_end * tl.sum(dwritten * B_.to(tl.float32), 1)
    dlater += dto_end
    dto_end *= later
    dkept = tl.exp(end) * tl.sum(tl.sum(dafter.to(tl.float32) * before.to(tl.float32), 1), 0)
    dcum += tl.where(i == Q - 1, dkept + tl.sum(dto_end, 0), 0.0) - dto_end

    tl.store(_tokens(DX, chunk, L, H, Q, P), dx.to(DX.dtype.element_ty))
    tl.store(_tokens(DB, chunk, L, H, Q, N), dB.to(DB.dtype.element_ty))
    tl.store(_tokens(DC, chunk, L, H, Q, N), dC.to(DC.dtype.element_ty))
    tl.store(DCUM + rows, dcum)
    tl.store(DOWN + rows, down)
    tl.store(DLATER + rows, dlater)


# Turning. A program has ROWS tokens: of one head and rank, or, for gradients, of all heads of a group in turn.


@triton.jit
def _pairs_apart(x, ROWS: tl.constexpr, N: tl.constexpr, NEIGHBOURS: tl.constexpr):
    """The two channels of each pair: (rows,n) -> (rows,n/2) twice."""
    if NEIGHBOURS:
        pairs = tl.reshape(x, (ROWS, N // 2, 2))
    else:
        pairs = tl.permute(tl.reshape(x, (ROWS, 2, N // 2)), (0, 2, 1))
    return tl.split(pairs)


@triton.jit
def _pairs_together(a, b, ROWS: tl.constexpr, N: tl.constexpr, NEIGHBOURS: tl.constexpr):
    pairs = tl.join(a, b)
    return tl.reshape(pairs if NEIGHBOURS else tl.permute(pairs, (0, 2, 1)), (ROWS, N))


@triton.jit
def _cos_sin(TURNS, t, h, T, H, S: tl.constexpr, N: tl.constexpr):
    """Of the angle of each pair, by polynomials for half of it, to 3e-6; pairs that do not turn have the angle 0."""
    i = tl.arange(0, N // 2)
    turning = (t < T)[:, None] & (i < S)[None, :]
    turns = tl.load(TURNS + (t.to(tl.int64)[:, None] * H + h) * S + i[None, :], mask=turning, other=0.0)
    half = (turns - tl.floor(turns + 0.5)) * (ONE_TURN / 2)
    square = half * half
    sin = half * (0.99999660 + square * (-0.16664824 + square * (0.00830629 - square * 0.00018363)))
    cos = -0.49999905 + square * (0.04166358 + square * (-0.00138537 + square * 0.00002315))
    cos = 0.99999994 + square * cos
    return 1 - 2 * sin * sin, 2 * sin * cos


@triton.jit
def turn(
    FACTOR, BIAS, TURNS, OUT, T, R, G, H,
    S: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, NEIGHBOURS: tl.constexpr,
):  # fmt: skip
    """FACTOR (t,r,g,n) of each group and BIAS (h,r,n) of each head, turned by TURNS (t,h,s): OUT (t,r,h,n)."""
    t, n = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, N)
    r, h = tl.program_id(1) // H, tl.program_id(1) % H
    rank = t.to(tl.int64) * R + r
    factor = tl.load(FACTOR + (rank * G + h // (H // G))[:, None] * N + n[None, :], mask=(t < T)[:, None], other=0.0)
    biased = factor.to(tl.float32) + tl.load(BIAS + (h * R + r) * N + n)[None, :]
    a, b = _pairs_apart(biased, ROWS, N, NEIGHBOURS)
    cos, sin = _cos_sin(TURNS, t, h, T, H, S, N)
    out = _pairs_together(a * cos - b * sin, a * sin + b * cos, ROWS, N, NEIGHBOURS)
    tl.store(OUT + (rank * H + h)[:, None] * N + n[None, :], out.to(OUT.dtype.element_ty), mask=(t < T)[:, None])


@triton.jit
def turn_backward(
    FACTOR, BIAS, TURNS, DOUT, DFACTOR, DBIAS, DTURNS, T, R, G, H,
    S: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, NEIGHBOURS: tl.constexpr,
):  # fmt: skip
    """Gradients; DBIAS (blocks,h,r,n) for each block of rows, and DTURNS (r,t,h,s) for each rank, are to be summed."""
    t, n, i = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, N), tl.arange(0, N // 2)
    r, g = tl.program_id(1) // G, tl.program_id(1) % G
    rank = t.to(tl.int64) * R + r
    inside = (t < T)[:, None]
    of_group = (rank * G + g)[:, None] * N + n[None, :]
    factor = tl.load(FACTOR + of_group, mask=inside, other=0.0).to(tl.float32)
    dfactor = tl.zeros((ROWS, N), tl.float32)
    for head in range(H // G):
        h = g * (H // G) + head
        bias = (h * R + r) * N + n
        a, b = _pairs_apart(factor + tl.load(BIAS + bias)[None, :], ROWS, N, NEIGHBOURS)
        cos, sin = _cos_sin(TURNS, t, h, T, H, S, N)
        dout = tl.load(DOUT + (rank * H + h)[:, None] * N + n[None, :], mask=inside, other=0.0).to(tl.float32)
        da, db = _pairs_apart(dout, ROWS, N, NEIGHBOURS)
        da, db = da * cos + db * sin, db * cos - da * sin  # turned back
        dbiased = _pairs_together(da, db, ROWS, N, NEIGHBOURS)
        dfactor += dbiased
        tl.store(DBIAS + tl.program_id(0) * H * R * N + bias, tl.sum(dbiased, 0))
        dturns = ONE_TURN * (db * a - da * b)  # turning moves a pair at a right angle to itself
        of_head = ((tl.cast(r, tl.int64) * T + t)[:, None] * H + h) * S + i[None, :]
        tl.store(DTURNS + of_head, dturns, mask=inside & (i < S)[None, :])
    tl.store(DFACTOR + of_group, dfactor.to(DFACTOR.dtype.element_ty), mask=inside)
