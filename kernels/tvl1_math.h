// Numbers of one pixel -> numbers of one pixel: every formula of dual TV-L1, once, for CPU and GPU.
//
// Zach, Pock, Bischof: A Duality Based Approach for Realtime TV-L1 Optical Flow (2007), with the
// choices of OpenCV's CUDA version. No loops over pixels, no memory, no includes: the schedules in
// cpu/ and cuda/ bring pixels here. The dual variables are kept times theta, which saves a product.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define TVL1_FORMULA __host__ __device__ __forceinline__
#else
// Internal linkage: each instruction set must keep its own copy, or the linker could hand the one
// made for AVX-512 to a CPU that lacks it.
#define TVL1_FORMULA static inline __attribute__((always_inline))
#endif

namespace tvl1 {

constexpr float EPSILON = 1.1920929e-7f;  // FLT_EPSILON, below which a gradient counts as none

// a * b + c. Fused where the target fuses in hardware, never at the compiler's whim: so AVX2,
// AVX-512 and every compiler give the same bytes.
TVL1_FORMULA float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return fmaf(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

TVL1_FORMULA float root(float a) {
#if defined(__CUDA_ARCH__)
    return sqrtf(a);
#else
    return __builtin_sqrtf(a);
#endif
}

// NaN becomes `low`: what is clamped may be used as an address.
TVL1_FORMULA float clamp(float a, float low, float high) {
    const float raised = a > low ? a : low;
    return raised < high ? raised : high;
}

// ---- linearisation of I1(x + u) - I0(x) about the flow at the last warp

// rho_c = I1w - u . grad I1w - I0
TVL1_FORMULA float constant_part(float i1w, float a, float b, float u, float v, float i0) {
    return fma(-b, v, fma(-a, u, i1w - i0));
}

TVL1_FORMULA float negative_inverse_square(float a, float b) {
    const float square = fma(a, a, b * b);
    return -1.f / (square > EPSILON ? square : EPSILON);
}

// ---- one iteration

// Length of the step along grad I1w that brings rho to zero, at most lambda * theta (eq. 15).
TVL1_FORMULA float threshold(float a, float b, float c, float g, float u, float v, float lt) {
    const float rho = fma(a, u, fma(b, v, c));
    return clamp(rho * g, -lt, lt);
}

TVL1_FORMULA float divergence(float p, float p_left, float q, float q_above) {
    return (p - p_left) + (q - q_above);
}

// p, q <- (p + tau * grad u) / (1 + tau / theta * |grad u|)  (eq. 13, p and q times theta)
TVL1_FORMULA void dual_update(float &p, float &q, float ux, float uy, float tau, float taut) {
    const float shrink = 1.f / fma(taut, root(fma(ux, ux, uy * uy)), 1.f);
    p = shrink * fma(tau, ux, p);
    q = shrink * fma(tau, uy, q);
}

// ---- interpolation

// Catmull-Rom (bicubic, a = -1/2): weight of tap k = 0..3, at -1, 0, 1, 2, for a point t past tap
// 1, is ((CUBIC[3][k] t + CUBIC[2][k]) t + CUBIC[1][k]) t + CUBIC[0][k]. The weights sum to one, so
// OpenCV's division by their sum is left out.
constexpr float CUBIC[4][4] = {
    {0.f, 1.f, 0.f, 0.f},
    {-0.5f, 0.f, 0.5f, 0.f},
    {1.f, -2.5f, 2.f, -0.5f},
    {-0.5f, 1.5f, -1.5f, 0.5f},
};

TVL1_FORMULA float cubic_weight(float t, float k0, float k1, float k2, float k3) {
    return fma(fma(fma(k3, t, k2), t, k1), t, k0);
}

TVL1_FORMULA float between(float near, float far, float weight) {
    return fma(weight, far - near, near);
}

TVL1_FORMULA float half_difference(float before, float after) { return 0.5f * (after - before); }

// 1-4-6-4-1 over five samples, the window of pyrDown
TVL1_FORMULA float binomial(float a, float b, float c, float d, float e) {
    return 0.0625f * ((a + e) + fma(4.f, b + d, 6.f * c));
}

// Index mirrored at the border pixels: -1 -> 1, n -> n - 2.
TVL1_FORMULA long mirrored(long i, long n) {
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * n - 2 - i;
    return i;
}

// ---- quantiser

// rint((v + B) * 255 / (2 B)), v in [-B, B], in double precision, half to even; NaN counts as 0.
TVL1_FORMULA unsigned char quantised(float flow, double bound) {
    double v = flow == flow ? flow : 0.0;
    v = v > -bound ? v : -bound;
    v = v < bound ? v : bound;
    // Adding and taking away 1.5 * 2^52 rounds as the processor does, half to even, everywhere.
    constexpr double ROUND = 6755399441055744.0;
    const double level = ((v + bound) * 255.0 / (2.0 * bound) + ROUND) - ROUND;
    return (unsigned char)(int)level;
}

}  // namespace tvl1
