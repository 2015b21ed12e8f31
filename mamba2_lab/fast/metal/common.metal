// What the kernels share. Lines before this one say what numbers are made of, and the sizes.
#include <metal_stdlib>
using namespace metal;

// exp(a) - 1 of a <= 0. Near 0 by its series: what exp(a) is rounded by is not small beside what is left.
inline float expm1_of(float a)
{
    if (a < -0.5f) return precise::exp(a) - 1.0f;
    float sum = 1.0f;
    for (int i = 9; i > 1; --i) sum = fma(sum, a / float(i), 1.0f);
    return sum * a;
}

// log(1 + e) of 0 <= e <= 1, by the series of 2 atanh(e / (2 + e)), which needs no difference.
inline float log1p_of(float e)
{
    const float s = e / (2.0f + e), square = s * s;
    float sum = 0.0f;
    for (int i = 17; i > 0; i -= 2) sum = fma(sum, square, 1.0f / float(i));
    return 2.0f * s * sum;
}

inline float softplus(float x) { return max(x, 0.0f) + log1p_of(precise::exp(-abs(x))); }

inline float silu(float x) { return x / (1.0f + precise::exp(-x)); }

// The sum over a group of what each of its threads has, for each of them. `partial` holds a number for each simdgroup.
inline float sum_of_group(float value, threadgroup float* partial, uint lane, uint team, uint teams)
{
    value = simd_sum(value);
    if (lane == 0) partial[team] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = 0.0f;
    for (uint i = 0; i < teams; ++i) sum += partial[i];
    return sum;
}
