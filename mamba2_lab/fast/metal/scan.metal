// The recurrence over a sequence, token after token. A simdgroup for a few rows of a head's state, which its lanes hold
// side by side along n from the first token to the last: the state is read and written once, B and C once for the rows.

#define MINE ((STATE + 31) / 32)  // numbers of a row of the state that one of 32 lanes holds

kernel void scan(
    device const float* x          [[buffer(0)]],  // (b,length,HEADS,HEADDIM)
    device const float* log_decay  [[buffer(1)]],  // (b,length,HEADS), <= 0
    device const NUMBER* B         [[buffer(2)]],  // (b,length,GROUPS,STATE), in rows that may lie further apart
    device const NUMBER* C         [[buffer(3)]],  // the same
    device const float* before     [[buffer(4)]],  // (b,HEADS,HEADDIM,STATE)
    device float* y                [[buffer(5)]],  // (b,length,HEADS,HEADDIM)
    device float* after            [[buffer(6)]],  // (b,HEADS,HEADDIM,STATE)
    constant long& length          [[buffer(7)]],
    constant long& sequences       [[buffer(8)]],
    constant long& stride_of_B     [[buffer(9)]],  // from token to token
    constant long& stride_of_C     [[buffer(10)]],
    uint group [[threadgroup_position_in_grid]],
    uint lane  [[thread_index_in_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    const uint parts = (HEADDIM + ROWS - 1) / ROWS;  // of a head: so many simdgroups for each
    const uint simdgroup = group * teams + team;
    const uint sequence = simdgroup / (parts * HEADS), head = simdgroup / parts % HEADS;
    const uint first = simdgroup % parts * ROWS;  // of the rows
    const uint rows = min(uint(ROWS), HEADDIM - first);
    if (sequence >= uint(sequences)) return;

    device const float* memory = before + (ulong(sequence * HEADS + head) * HEADDIM + first) * STATE;
    float kept[ROWS][MINE];
    for (uint r = 0; r < ROWS; ++r) {
        for (uint i = 0; i < MINE; ++i) {
            const uint n = lane + 32 * i;
            kept[r][i] = r < rows && n < STATE ? memory[r * STATE + n] : 0.0f;
        }
    }
    for (ulong t = ulong(sequence) * ulong(length); t < ulong(sequence + 1) * ulong(length); ++t) {
        const float lost = expm1_of(log_decay[t * HEADS + head]);
        device const NUMBER* writes = B + t * ulong(stride_of_B) + head / (HEADS / GROUPS) * STATE;
        device const NUMBER* reads = C + t * ulong(stride_of_C) + head / (HEADS / GROUPS) * STATE;
        device const float* inputs = x + (t * HEADS + head) * HEADDIM + first;
        float read[ROWS];
        for (uint r = 0; r < ROWS; ++r) read[r] = 0.0f;
        for (uint i = 0; i < MINE; ++i) {
            const uint n = lane + 32 * i;
            if (n >= STATE) continue;
            const float b = float(writes[n]), c = float(reads[n]);
            for (uint r = 0; r < rows; ++r) {
                kept[r][i] = fma(inputs[r], b, fma(kept[r][i], lost, kept[r][i]));
                read[r] = fma(kept[r][i], c, read[r]);
            }
        }
        for (uint r = 0; r < rows; ++r) {
            const float sum = simd_sum(read[r]);
            if (lane == 0) y[(t * HEADS + head) * HEADDIM + first + r] = sum;
        }
    }
    device float* memory_after = after + (ulong(sequence * HEADS + head) * HEADDIM + first) * STATE;
    for (uint r = 0; r < rows; ++r) {
        for (uint i = 0; i < MINE; ++i) {
            const uint n = lane + 32 * i;
            if (n < STATE) memory_after[r * STATE + n] = kept[r][i];
        }
    }
}
