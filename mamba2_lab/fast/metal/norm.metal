// A row, and what is added to it; and both normalised. A group of threads for each row.

kernel void add_and_normalise(
    device const float* u          [[buffer(0)]],  // (rows,d)
    device const NUMBER* y         [[buffer(1)]],  // (rows,d)
    device const NUMBER* weight    [[buffer(2)]],  // (d)
    device float* sum              [[buffer(3)]],  // (rows,d) u + y
    device NUMBER* normalised      [[buffer(4)]],  // (rows,d) u + y, divided by its rms, times weight
    constant long& d               [[buffer(5)]],
    constant float& eps            [[buffer(6)]],
    uint row   [[threadgroup_position_in_grid]],
    uint at    [[thread_position_in_threadgroup]],
    uint size  [[threads_per_threadgroup]],
    uint lane  [[thread_index_in_simdgroup]],
    uint team  [[simdgroup_index_in_threadgroup]],
    uint teams [[simdgroups_per_threadgroup]])
{
    threadgroup float partial[32];
    const ulong first = ulong(row) * ulong(d);
    float squares = 0.0f;
    for (ulong i = at; i < ulong(d); i += size) {
        const float added = u[first + i] + float(y[first + i]);
        sum[first + i] = added;
        squares = fma(added, added, squares);
    }
    const float scale = precise::rsqrt(sum_of_group(squares, partial, lane, team, teams) / float(d) + eps);
    for (ulong i = at; i < ulong(d); i += size) {
        normalised[first + i] = NUMBER(sum[first + i] * scale * float(weight[i]));
    }
}
