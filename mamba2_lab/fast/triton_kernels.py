"""Kernels in Triton for Mamba-3 on a GPU; `fast.trapezoid` and `fast.turning` call them, and say what they compute.

All tensors are contiguous. Rows are (b,h,l), so that a chunk's lie side by side; matrices of chunks are (b,h,c,p,n).
A program computes one chunk of one head, but `pass_states`, which goes from chunk to chunk, and those of turning. A
chunk is one block of Q tokens or, where only the forward pass is wanted, several: fewer states are then in memory.
Names are those of scan/: x, B, C, CUM the log decays summed since the start of a chunk, OWN and LATER the weights with
which a token reads itself and with which all later ones read it. What begins with D is a gradient.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators

import triton
import triton.language as tl

ONE_TURN = tl.constexpr(6.283185307179586)  # in radians
STAGES = tl.constexpr(3)  # of loops over heads: while one is computed the next are loaded


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

    # What the chunk reads of the state before it, and leaves in the state after it.
    before = tl.load(_matrix(BEFORE, chunk, L // Q, P, N))
    dafter = tl.load(_matrix(DAFTER, chunk, L // Q, P, N))
    end = tl.load(CUM + tl.program_id(1) * L + chunk * Q + Q - 1)
    to_end = tl.exp(end - cum)
    dkept = tl.exp(end) * tl.sum(tl.sum(dafter.to(tl.float32) * before.to(tl.float32), 1), 0)
    dC = tl.dot(dy, before, input_precision="ieee") * tl.exp(cum)[:, None]
    dcum = tl.sum(dC * C_.to(tl.float32), 1)
    dB = tl.dot(x, dafter, input_precision="ieee")
    dto_end = to_end * tl.sum(dB * B_.to(tl.float32), 1)
    dB *= (to_end * later)[:, None]
    dlater = dto_end
    dto_end *= later
    dcum += tl.where(i == Q - 1, dkept + tl.sum(dto_end, 0), 0.0) - dto_end

    # Inside of the chunk: y = (weights * scores) x.
    diagonal = i[:, None] == i[None, :]
    decay = _decay(cum, Q)
    weights = decay * later[None, :] + tl.where(diagonal, own[None, :], 0.0)
    dproduct = tl.dot(dy, tl.trans(x), input_precision="ieee")
    dscores = (dproduct * weights).to(half)
    dC = tl.dot(dscores, B_, dC, input_precision="ieee")
    tl.store(_tokens(DC, chunk, L, H, Q, N), dC.to(DC.dtype.element_ty))
    dB = tl.dot(tl.trans(dscores), C_, dB, input_precision="ieee")
    tl.store(_tokens(DB, chunk, L, H, Q, N), dB.to(DB.dtype.element_ty))
    scores = tl.dot(C_, tl.trans(B_), input_precision="ieee")
    dx = tl.dot(B_, tl.trans(dafter), input_precision="ieee") * (to_end * later)[:, None]
    dx = tl.dot(tl.trans((scores * weights).to(half)), dy, dx, input_precision="ieee")
    tl.store(_tokens(DX, chunk, L, H, Q, P), dx.to(DX.dtype.element_ty))

    dweights = dproduct * scores
    tl.store(DOWN + rows, tl.sum(tl.where(diagonal, dweights, 0.0), 0))
    dweights *= decay
    by_weight = tl.sum(dweights, 0)
    dcum += tl.sum(dweights * later[None, :], 1) - by_weight * later
    tl.store(DCUM + rows, dcum)
    tl.store(DLATER + rows, dlater + by_weight)


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
def _turned(a, b, cos, sin, ROWS: tl.constexpr, N: tl.constexpr, NEIGHBOURS: tl.constexpr):
    return _pairs_together(a * cos - b * sin, a * sin + b * cos, ROWS, N, NEIGHBOURS)


@triton.jit
def turn(
    B, C, B_BIAS, C_BIAS, TURNS, K, Q, T, R, G, H,
    S: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, NEIGHBOURS: tl.constexpr,
):  # fmt: skip
    """B, C (t,r,g,n) of each group, with the biases (h,r,n) of each head, turned by TURNS (t,h,s): K, Q (t,r,h,n)."""
    t, n = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, N)
    r, h = tl.program_id(1) // H, tl.program_id(1) % H
    rank, inside = t.to(tl.int64) * R + r, (t < T)[:, None]
    of_group = (rank * G + h // (H // G))[:, None] * N + n[None, :]
    of_head, bias = (rank * H + h)[:, None] * N + n[None, :], (h * R + r) * N + n
    cos, sin = _cos_sin(TURNS, t, h, T, H, S, N)
    B_ = tl.load(B + of_group, mask=inside, other=0.0).to(tl.float32) + tl.load(B_BIAS + bias)[None, :]
    a, b = _pairs_apart(B_, ROWS, N, NEIGHBOURS)
    k = _turned(a, b, cos, sin, ROWS, N, NEIGHBOURS)
    tl.store(K + of_head, k.to(K.dtype.element_ty), mask=inside)
    C_ = tl.load(C + of_group, mask=inside, other=0.0).to(tl.float32) + tl.load(C_BIAS + bias)[None, :]
    a, b = _pairs_apart(C_, ROWS, N, NEIGHBOURS)
    q = _turned(a, b, cos, sin, ROWS, N, NEIGHBOURS)
    tl.store(Q + of_head, q.to(Q.dtype.element_ty), mask=inside)


@triton.jit
def _turned_back(x, DOUT, cos, sin, inside, ROWS: tl.constexpr, N: tl.constexpr, NEIGHBOURS: tl.constexpr):
    """Gradients, from those of what x became by turning: of x, and of the turns (rows,n/2)."""
    a, b = _pairs_apart(x, ROWS, N, NEIGHBOURS)
    da, db = _pairs_apart(tl.load(DOUT, mask=inside, other=0.0).to(tl.float32), ROWS, N, NEIGHBOURS)
    da, db = da * cos + db * sin, db * cos - da * sin
    dturns = ONE_TURN * (db * a - da * b)  # turning moves a pair at a right angle to itself
    return _pairs_together(da, db, ROWS, N, NEIGHBOURS), dturns


@triton.jit
def turn_backward(
    B, C, B_BIAS, C_BIAS, TURNS, DK, DQ, DB, DC, DB_BIAS, DC_BIAS, DTURNS, T, R, G, H,
    S: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, NEIGHBOURS: tl.constexpr,
):  # fmt: skip
    """Gradients; those of biases (blocks,h,r,n) for each block of rows, and DTURNS (r,t,h,s), are to be summed."""
    t, n, i = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, N), tl.arange(0, N // 2)
    r, g = tl.program_id(1) // G, tl.program_id(1) % G
    rank, inside = t.to(tl.int64) * R + r, (t < T)[:, None]
    of_group = (rank * G + g)[:, None] * N + n[None, :]
    B_ = tl.load(B + of_group, mask=inside, other=0.0).to(tl.float32)
    C_ = tl.load(C + of_group, mask=inside, other=0.0).to(tl.float32)
    dB, dC = tl.zeros((ROWS, N), tl.float32), tl.zeros((ROWS, N), tl.float32)
    for head in tl.range(0, H // G, num_stages=STAGES):
        h = g * (H // G) + head
        of_head, bias = (rank * H + h)[:, None] * N + n[None, :], (h * R + r) * N + n
        of_block = tl.program_id(0) * H * R * N + bias
        cos, sin = _cos_sin(TURNS, t, h, T, H, S, N)
        biased = B_ + tl.load(B_BIAS + bias)[None, :]
        dbiased, by_k = _turned_back(biased, DK + of_head, cos, sin, inside, ROWS, N, NEIGHBOURS)
        dB += dbiased
        tl.store(DB_BIAS + of_block, tl.sum(dbiased, 0))
        biased = C_ + tl.load(C_BIAS + bias)[None, :]
        dbiased, by_q = _turned_back(biased, DQ + of_head, cos, sin, inside, ROWS, N, NEIGHBOURS)
        dC += dbiased
        tl.store(DC_BIAS + of_block, tl.sum(dbiased, 0))
        of_turns = ((tl.cast(r, tl.int64) * T + t)[:, None] * H + h) * S + i[None, :]
        tl.store(DTURNS + of_turns, by_k + by_q, mask=inside & (i < S)[None, :])
    tl.store(DB + of_group, dB.to(DB.dtype.element_ty), mask=inside)
    tl.store(DC + of_group, dC.to(DC.dtype.element_ty), mask=inside)


# Running sums of turns (b,l,h,s): first of each block of ROWS tokens, then from block to block, then inside of each. A
# program has one block of one head; `pass_turns` all blocks of a head, and `speed_backward` all heads of a block. SIDE
# is a power of two that holds S.


@triton.jit
def _without_whole(turns):
    return turns - tl.floor(turns + 0.5)


@triton.jit
def _add_turns(a, b):
    return _without_whole(a + b)


@triton.jit
def _of_head(b, token, L, H, h, S, SIDE: tl.constexpr):
    """Where rows of a (b,l,h,s) tensor lie, for these tokens of a head: (rows,side)."""
    return ((b.to(tl.int64) * L + token) * H + h)[:, None] * S + tl.arange(0, SIDE)[None, :]


@triton.jit
def _own_turns(DT, SPEED, L, H, S, ROWS: tl.constexpr, SIDE: tl.constexpr):
    """How far the tokens of a block turn, without whole turns: (rows,side), and 0 behind the last."""
    b, h = tl.program_id(1) // H, tl.program_id(1) % H
    t, i = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, SIDE)
    row = b.to(tl.int64) * L + t
    dt = tl.load(DT + row * H + h, mask=t < L, other=0.0)
    speed = tl.load(SPEED + row[:, None] * S + i[None, :], mask=(t < L)[:, None] & (i < S)[None, :], other=0.0)
    return _without_whole(dt[:, None] * speed)


@triton.jit
def sum_turns(DT, SPEED, SUMS, L, H, S, ROWS: tl.constexpr, SIDE: tl.constexpr):
    """DT (b,l,h) times SPEED (b,l,s), of each block: SUMS (b,blocks,h,s)."""
    i = tl.arange(0, SIDE)
    of_block = (tl.program_id(1) // H * tl.num_programs(0) + tl.program_id(0)) * H + tl.program_id(1) % H
    sums = tl.reduce(_own_turns(DT, SPEED, L, H, S, ROWS, SIDE), 0, _add_turns)
    tl.store(SUMS + of_block.to(tl.int64) * S + i, sums, mask=i < S)


@triton.jit
def pass_turns(
    SUMS, GIVEN, PASSED, FINAL, BLOCKS, H, S,
    ROWS: tl.constexpr, SIDE: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """Turns before each block, GIVEN (b,h,s) before the first; or, from the last block back, gradients behind each."""
    b, h, i = tl.program_id(0) // H, tl.program_id(0) % H, tl.arange(0, SIDE)
    passed = tl.load(GIVEN + tl.program_id(0) * S + i, mask=i < S, other=0.0)
    for first in range(0, BLOCKS, ROWS):
        block = first + tl.arange(0, ROWS)
        at = _of_head(b, BLOCKS - 1 - block if BACK else block, BLOCKS, H, h, S, SIDE)
        inside = (block < BLOCKS)[:, None] & (i < S)[None, :]
        sums = tl.load(SUMS + at, mask=inside, other=0.0)
        if BACK:
            tl.store(PASSED + at, passed[None, :] + tl.cumsum(sums, 0) - sums, mask=inside)
            passed += tl.sum(sums, 0)
        else:
            through = _add_turns(passed[None, :], tl.associative_scan(sums, 0, _add_turns))
            tl.store(PASSED + at, _without_whole(through - sums), mask=inside)
            passed = _add_turns(passed, tl.reduce(sums, 0, _add_turns))
    tl.store(FINAL + tl.program_id(0) * S + i, passed, mask=i < S)


@triton.jit
def add_turns(DT, SPEED, BEFORE, TURNS, L, H, S, ROWS: tl.constexpr, SIDE: tl.constexpr):
    """BEFORE (b,blocks,h,s) each block, and on from there: TURNS (b,l,h,s)."""
    b, h = tl.program_id(1) // H, tl.program_id(1) % H
    t, i = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, SIDE)
    of_block = (b * tl.num_programs(0) + tl.program_id(0)) * H + h
    before = tl.load(BEFORE + of_block.to(tl.int64) * S + i, mask=i < S, other=0.0)
    inside = tl.associative_scan(_own_turns(DT, SPEED, L, H, S, ROWS, SIDE), 0, _add_turns)
    at = _of_head(b, t, L, H, h, S, SIDE)
    tl.store(TURNS + at, _add_turns(before[None, :], inside), mask=(t < L)[:, None] & (i < S)[None, :])


@triton.jit
def sum_gradients(DTURNS, SUMS, L, H, S, ROWS: tl.constexpr, SIDE: tl.constexpr):
    """DTURNS (b,l,h,s), of each block: SUMS (b,blocks,h,s)."""
    b, h = tl.program_id(1) // H, tl.program_id(1) % H
    t, i = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, SIDE)
    of_block = (b * tl.num_programs(0) + tl.program_id(0)) * H + h
    at = _of_head(b, t, L, H, h, S, SIDE)
    dturns = tl.load(DTURNS + at, mask=(t < L)[:, None] & (i < S)[None, :], other=0.0)
    tl.store(SUMS + of_block.to(tl.int64) * S + i, tl.sum(dturns, 0), mask=i < S)


@triton.jit
def speed_backward(DTURNS, BEHIND, DT, SPEED, DDT, DSPEED, L, H, S, ROWS: tl.constexpr, SIDE: tl.constexpr):
    """Gradients of DT and SPEED, from those of the turns in a block, and of all BEHIND it (b,blocks,h,s)."""
    b, t, i = tl.program_id(1), tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, SIDE)
    row, inside = b.to(tl.int64) * L + t, (t < L)[:, None] & (i < S)[None, :]
    of_speed = row[:, None] * S + i[None, :]
    speed, dspeed = tl.load(SPEED + of_speed, mask=inside, other=0.0), tl.zeros((ROWS, SIDE), tl.float32)
    for h in tl.range(0, H, num_stages=STAGES):
        of_block = ((b * tl.num_programs(0) + tl.program_id(0)) * H + h).to(tl.int64)
        behind = tl.load(BEHIND + of_block * S + i, mask=i < S, other=0.0)
        dturns = tl.load(DTURNS + _of_head(b, t, L, H, h, S, SIDE), mask=inside, other=0.0)
        dturns = tl.cumsum(dturns, 0, reverse=True) + behind[None, :]  # a token turns all behind it
        dspeed += dturns * tl.load(DT + row * H + h, mask=t < L, other=0.0)[:, None]
        tl.store(DDT + row * H + h, tl.sum(dturns * speed, 1), mask=t < L)
    tl.store(DSPEED + of_speed, dspeed, mask=inside)
