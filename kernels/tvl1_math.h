// Per-pixel formulas of dual TV-L1 and of the other operations, written once for CPU and GPU.
//
// Zach, Pock, Bischof: A Duality Based Approach for Realtime TV-L1 Optical Flow (2007), with the
// choices of OpenCV's CUDA version. No loops over pixels, no writes to images, no includes: the schedules
// in cpu/ and cuda/ pass pixels to the formulas, one at a time (Number is float) or a vector of them
// (cpu/lanes.h). The dual variables are stored times theta, which saves a product.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define TVL1_FORMULA __host__ __device__ __forceinline__
#define TVL1_FORMULA_MEMBER TVL1_FORMULA
#else
// Internal linkage: each instruction set needs its own copy, or the linker could use the AVX-512 one on
// a CPU without AVX-512.
#define TVL1_FORMULA static TVL1_FORMULA_MEMBER
#define TVL1_FORMULA_MEMBER inline __attribute__((always_inline))
#endif

namespace tvl1 {

constexpr float EPSILON = 1.1920929e-7f;  // FLT_EPSILON, below which a gradient counts as none

// Returns a * b + c, fused if the target fuses in hardware, independent of the compiler: so AVX2,
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

// Returns a value in every lane.
template <class Number>
TVL1_FORMULA Number number(float value) {
    return value - Number{};
}

// Clamps a value; NaN becomes `low`, since the result may be an address.
template <class Number>
TVL1_FORMULA Number clamp(Number a, Number low, Number high) {
    const Number raised = a > low ? a : low;
    return raised < high ? raised : high;
}

#if defined(__CUDA_ARCH__)
// The same in two instructions.
TVL1_FORMULA float clamp(float a, float low, float high) { return fminf(fmaxf(a, low), high); }
#endif

// ---- linearisation of I1(x + u) - I0(x) about the flow at the last warp

// rho_c = I1w - u . grad I1w - I0
template <class Number>
TVL1_FORMULA Number constant_part(Number i1w, Number a, Number b, Number u, Number v, Number i0) {
    return fma(-b, v, fma(-a, u, i1w - i0));
}

template <class Number>
TVL1_FORMULA Number negative_inverse_square(Number a, Number b) {
    const Number square = fma(a, a, b * b);
    const Number least = number<Number>(EPSILON);
    return -1.f / (square > least ? square : least);
}

// ---- one iteration

// Length of the step along grad I1w that brings rho to zero, at most lambda * theta (eq. 15).
template <class Number>
TVL1_FORMULA Number threshold(Number a, Number b, Number c, Number g, Number u, Number v,
                              Number lt) {
    const Number rho = fma(a, u, fma(b, v, c));
    return clamp(rho * g, -lt, lt);
}

template <class Number>
TVL1_FORMULA Number divergence(Number p, Number p_left, Number q, Number q_above) {
    return (p - p_left) + (q - q_above);
}

// The dual variables of u and of v at one pixel.
template <class Number>
struct Duals {
    Number p11, p12, p21, p22;
};

// p <- (p + tau * grad u) / (1 + tau / theta * |grad u|) for u and v (eq. 13, p times theta). One
// division serves both: with 1 / (s t), 1 / s is t / (s t).
template <class Number>
TVL1_FORMULA Duals<Number> dual_step(Duals<Number> p, Number ux, Number uy, Number vx, Number vy,
                                     Number tau, Number taut) {
    const Number s = fma(taut, root(fma(ux, ux, uy * uy)), number<Number>(1.f));
    const Number t = fma(taut, root(fma(vx, vx, vy * vy)), number<Number>(1.f));
    const Number inverse = 1.f / (s * t);
    const Number shrink_u = t * inverse, shrink_v = s * inverse;
    return {shrink_u * fma(tau, ux, p.p11), shrink_u * fma(tau, uy, p.p12),
            shrink_v * fma(tau, vx, p.p21), shrink_v * fma(tau, vy, p.p22)};
}

// ---- stopping rule of a warp

// A warp has converged when an iteration has a squared change of at most `enough`. OpenCV's CPU code
// checks every iteration. Its CUDA code (`spaced`) checks after even numbers of iterations, and after a
// change of e only e / enough iterations later. A warp ends with the block of iterations in which OpenCV
// would end it, never earlier.
struct Stop {
    int most, block;
    bool spaced;
    double enough;

    // Returns the number of iterations at the next check, after a check that found `change`.
    TVL1_FORMULA_MEMBER int next(int done, double change) const {
        if (!spaced) return done + 1;
        if (!(change < enough)) {
            const double wait = change / enough;  // infinite if `enough` is zero
            if (!(wait < most)) return most + 1;
            done += (int)wait;
        }
        done += done % 2 == 0;  // checks follow iterations 1, 3, 5 ... counted from zero
        return done < most ? done + 1 : most + 1;
    }

    // Returns the number of iterations at the end of the block with that check.
    TVL1_FORMULA_MEMBER int end(int done, int check) const {
        const int last = done + (check - done + block - 1) / block * block;
        return last < most ? last : most;
    }
};

// ---- interpolation

// Bicubic interpolation: the weight of tap k = 0..3, at -1, 0, 1, 2, for a point t past tap 1, is
// ((power[3][k] t + power[2][k]) t + power[1][k]) t + power[0][k]. The weights sum to one, so OpenCV's
// division by their sum is omitted. Catmull-Rom has a = -1/2.
struct Cubic {
    float power[4][4];
};

TVL1_FORMULA constexpr Cubic cubic(float a) {
    return {{{0.f, 1.f, 0.f, 0.f},
             {a, 0.f, -a, 0.f},
             {-2.f * a, -(a + 3.f), 2.f * a + 3.f, a},
             {a, a + 2.f, -(a + 2.f), -a}}};
}

template <class Number>
TVL1_FORMULA Number cubic_weight(const Cubic &cubic, int tap, Number t) {
    const Number cube = number<Number>(cubic.power[3][tap]);
    const Number square = number<Number>(cubic.power[2][tap]);
    const Number linear = number<Number>(cubic.power[1][tap]);
    return fma(fma(fma(cube, t, square), t, linear), t, number<Number>(cubic.power[0][tap]));
}

TVL1_FORMULA float between(float near, float far, float weight) {
    return fma(weight, far - near, near);
}

TVL1_FORMULA float half_difference(float before, float after) { return 0.5f * (after - before); }

// Filters five samples by 1-4-6-4-1, the window of pyrDown.
TVL1_FORMULA float binomial(float a, float b, float c, float d, float e) {
    return 0.0625f * ((a + e) + fma(4.f, b + d, 6.f * c));
}

// Returns an index mirrored at the border pixels: -1 -> 1, n -> n - 2.
TVL1_FORMULA long mirror(long i, long n) {
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * n - 2 - i;
    return i;
}

// ---- keypoints

// Computes the extremum of the parabola through a value of an image and its eight neighbours, as an
// offset from the value; false if it is more than a pixel away.
TVL1_FORMULA bool extremum(const float *at, long width, float *dx, float *dy) {
    const float *above = at - width, *below = at + width;
    const float x = 0.5f * (at[1] - at[-1]), y = 0.5f * (below[0] - above[0]);
    const float xx = at[1] + at[-1] - 2.0f * at[0], yy = below[0] + above[0] - 2.0f * at[0];
    const float xy = 0.25f * (below[1] + above[-1] - above[1] - below[-1]);
    const double determinant = (double)xx * yy - (double)xy * xy;
    *dx = *dy = 0;
    if (determinant != 0) {
        const double inverse = 1 / determinant;
        *dx = (float)(((double)-x * yy - (double)-y * xy) * inverse);
        *dy = (float)(((double)-y * xx - (double)-x * xy) * inverse);
    }
    return !(*dx > 1 || *dx < -1 || *dy > 1 || *dy < -1);
}

// ---- quantiser

// rint((v + B) * 255 / (2 B)), v in [-B, B], in double precision, half to even; NaN counts as 0.
TVL1_FORMULA unsigned char quantise_value(float flow, double bound) {
    double v = flow == flow ? flow : 0.0;
    v = v > -bound ? v : -bound;
    v = v < bound ? v : bound;
    // Adding and subtracting 1.5 * 2^52 rounds half to even on every target.
    constexpr double ROUND = 6755399441055744.0;
    const double level = ((v + bound) * 255.0 / (2.0 * bound) + ROUND) - ROUND;
    return (unsigned char)(int)level;
}

}  // namespace tvl1
