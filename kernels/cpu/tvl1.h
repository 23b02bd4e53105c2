// One pair at one scale: warp and linearise, then primal-dual iterations, several per sweep over
// its rows. Included once per instruction set; the compiler makes vectors of the plain loops.
#pragma once

#include <stdint.h>

#include "../tvl1_math.h"
#include "lanes.h"
#include "layout.h"

namespace {

struct Steps {
    float tau, taut, lt;  // tau, tau / theta, lambda * theta
};

// A primal step of row r and, since the row above then has all it needs, a dual step of row r - 1:
//
//     u(r) <- u + threshold + div p          reads p(r), p(r - 1) from before
//     p(r - 1) <- dual update of u(r - 1)    reads u(r - 1), u(r) from after
//
// `change`, where given, receives |du|^2 + |dv|^2 of each pixel.
template <bool First, bool Measure>
inline void row_step(const State &s, long r, const Steps &steps, float *__restrict change) {
    const long above = First ? r : r - 1;
    const float *__restrict a = s.row(A, r), *__restrict b = s.row(B, r);
    const float *__restrict c = s.row(C, r), *__restrict g = s.row(G, r);
    float *__restrict u = s.row(U, r), *__restrict v = s.row(V, r);
    const float *__restrict p11 = s.row(P11, r), *__restrict p12 = s.row(P12, r);
    const float *__restrict p21 = s.row(P21, r), *__restrict p22 = s.row(P22, r);
    const float *__restrict above_u = s.row(U, above), *__restrict above_v = s.row(V, above);
    float *__restrict above_p11 = s.row(P11, above), *__restrict above_p12 = s.row(P12, above);
    float *__restrict above_p21 = s.row(P21, above), *__restrict above_p22 = s.row(P22, above);
    const float tau = steps.tau, taut = steps.taut, lt = steps.lt;
    const long n = padded(s.width);

#pragma omp simd
    for (long x = 0; x < n; x++) {
        const float old_u = u[x], old_v = v[x];
        const float step = tvl1::threshold(a[x], b[x], c[x], g[x], old_u, old_v, lt);
        float q12 = First ? 0.f : above_p12[x], q22 = First ? 0.f : above_p22[x];
        const float div_u = tvl1::divergence(p11[x], p11[x - 1], p12[x], q12);
        const float div_v = tvl1::divergence(p21[x], p21[x - 1], p22[x], q22);
        const float new_u = tvl1::fma(step, a[x], old_u) + div_u;
        const float new_v = tvl1::fma(step, b[x], old_v) + div_v;
        u[x] = new_u;
        v[x] = new_v;
        if (Measure) {
            const float du = new_u - old_u, dv = new_v - old_v;
            change[x] = tvl1::fma(du, du, dv * dv);
        }
        if (!First) {
            float q11 = above_p11[x], q21 = above_p21[x];
            const float at_u = above_u[x], at_v = above_v[x];
            tvl1::dual_update(q11, q12, above_u[x + 1] - at_u, new_u - at_u, tau, taut);
            tvl1::dual_update(q21, q22, above_v[x + 1] - at_v, new_v - at_v, tau, taut);
            above_p11[x] = q11;
            above_p12[x] = q12;
            above_p21[x] = q21;
            above_p22[x] = q22;
        }
    }
    u[s.width] = u[s.width - 1];
    v[s.width] = v[s.width - 1];
}

// The dual step of the last row, where the vertical difference is zero and p12, p22 stay zero.
inline void last_row_step(const State &s, const Steps &steps) {
    const float *__restrict u = s.row(U, s.height - 1), *__restrict v = s.row(V, s.height - 1);
    float *__restrict p11 = s.row(P11, s.height - 1), *__restrict p21 = s.row(P21, s.height - 1);
    const float tau = steps.tau, taut = steps.taut;
    const long n = padded(s.width);
#pragma omp simd
    for (long x = 0; x < n; x++) {
        float q11 = p11[x], q21 = p21[x], zero_u = 0.f, zero_v = 0.f;
        tvl1::dual_update(q11, zero_u, u[x + 1] - u[x], 0.f, tau, taut);
        tvl1::dual_update(q21, zero_v, v[x + 1] - v[x], 0.f, tau, taut);
        p11[x] = q11;
        p21[x] = q21;
    }
}

// Sum of a row in an order that does not depend on the width of the vectors.
inline double row_sum(float *change, long width) {
    for (long x = width; x < padded(width); x++) change[x] = 0.f;
    float lanes[LANES] = {0.f};
    for (long x = 0; x < width; x += LANES)
        for (long k = 0; k < LANES; k++) lanes[k] += change[x + k];
    double sum = 0.0;
    for (long k = 0; k < LANES; k++) sum += (double)lanes[k];
    return sum;
}

// `count` iterations in one sweep, in place. Each follows the one before it at a distance of one
// row, so a row's ten fields are used `count` times while they are in the cache:
//
//     y:        0     1     2     3    ...  H     H+1
//     k = 0     u0   u1p0  u2p1  u3p2        p(H-1)
//     k = 1           u0   u1p0  u2p1  ...        p(H-1)
//
// Returns the squared change of the last of them.
double sweep(const State &s, int count, const Steps &steps) {
    float *change = s.scratch(0);
    double error = 0.0;
    for (long y = 0; y < s.height + count; y++) {
        const int first = y > s.height ? (int)(y - s.height) : 0;
        const int last = y < count ? (int)y : count - 1;
        for (int k = first; k <= last; k++) {
            const long r = y - k;
            const bool measure = k == count - 1;
            if (r == s.height) {
                last_row_step(s, steps);
            } else if (measure) {
                r ? row_step<false, true>(s, r, steps, change)
                  : row_step<true, true>(s, r, steps, change);
                error += row_sum(change, s.width);
            } else {
                r ? row_step<false, false>(s, r, steps, change)
                  : row_step<true, false>(s, r, steps, change);
            }
        }
    }
    return error;
}

// At most n iterations, the change tested after every `block`. Returns how many were done.
int iterate_pair(const State &s, int n, int block, double threshold, const Steps &steps) {
    int done = 0;
    while (done < n) {
        const int count = n - done < block ? n - done : block;
        const double error = sweep(s, count, steps);
        done += count;
        if (error <= threshold) break;
    }
    return done;
}

// Where a row of pixels goes: for each the offset of the first tap, fraction in x, weights in y.
struct Targets {
    int *__restrict offset;
    float *__restrict tx, *__restrict wy;
};

inline void find_targets(const State &s, long y, const Targets &targets) {
    const float *__restrict u = s.row(U, y), *__restrict v = s.row(V, y);
    int *__restrict offset = targets.offset;
    float *__restrict tx = targets.tx, *__restrict wy = targets.wy;
    const float x_max = (float)(s.width + 1), y_max = (float)(s.height + 1), row = (float)y;
    const int stride = (int)packed_stride(s.width), width = (int)s.width;
    using tvl1::CUBIC;
#pragma omp simd
    for (int x = 0; x < width; x++) {
        // Two pixels outside all four taps read the border's value: no border needs to be wider.
        const float at_x = tvl1::clamp((float)x + u[x], -2.f, x_max);
        const float at_y = tvl1::clamp(row + v[x], -2.f, y_max);
        int ix = (int)at_x, iy = (int)at_y;
        ix -= at_x < (float)ix;
        iy -= at_y < (float)iy;
        const float t = at_y - (float)iy;
        tx[x] = at_x - (float)ix;
        for (int k = 0; k < 4; k++)
            wy[4 * x + k] =
                tvl1::cubic_weight(t, CUBIC[0][k], CUBIC[1][k], CUBIC[2][k], CUBIC[3][k]);
        offset[x] = (iy - 1 + (int)BORDER) * stride + 4 * (ix - 1 + (int)BORDER);
    }
}

void warp_linearise_pair(const State &s, const float *__restrict first,
                                const float *__restrict packed) {
    const CubicLanes cubic;
    const long stride = packed_stride(s.width);
    const Targets targets = {(int *)s.scratch(0), s.scratch(1), s.scratch(2)};
    float *__restrict samples = s.scratch(6);
    for (long y = 0; y < s.height; y++) {
        find_targets(s, y, targets);
        for (long x = 0; x < s.width; x++) {
            const Quad sample = bicubic(packed + targets.offset[x], stride, targets.tx[x],
                                        targets.wy + 4 * x, cubic);
            __builtin_memcpy(samples + 4 * x, &sample, sizeof sample);
        }
        const float *__restrict i0 = first + y * s.width;
        const float *__restrict u = s.row(U, y), *__restrict v = s.row(V, y);
        float *__restrict a = s.row(A, y), *__restrict b = s.row(B, y);
        float *__restrict c = s.row(C, y), *__restrict g = s.row(G, y);
#pragma omp simd
        for (long x = 0; x < s.width; x++) {
            const float i1w = samples[4 * x], ax = samples[4 * x + 1], bx = samples[4 * x + 2];
            a[x] = ax;
            b[x] = bx;
            c[x] = tvl1::constant_part(i1w, ax, bx, u[x], v[x], i0[x]);
            g[x] = tvl1::negative_inverse_square(ax, bx);
        }
    }
}

// Everything zero, then the flow given.
void start_pair(const State &s, const float *__restrict flow) {
    __builtin_memset(s.floats, 0, state_floats(s.height, s.width) * sizeof(float));
    if (!flow) return;
    for (long y = 0; y < s.height; y++) {
        const float *u = flow + y * s.width, *v = u + s.height * s.width;
        __builtin_memcpy(s.row(U, y), u, s.width * sizeof(float));
        __builtin_memcpy(s.row(V, y), v, s.width * sizeof(float));
        s.row(U, y)[s.width] = u[s.width - 1];
        s.row(V, y)[s.width] = v[s.width - 1];
    }
}

void copy_flow(const State &s, float *__restrict flow) {
    for (long y = 0; y < s.height; y++) {
        float *u = flow + y * s.width, *v = u + s.height * s.width;
        __builtin_memcpy(u, s.row(U, y), s.width * sizeof(float));
        __builtin_memcpy(v, s.row(V, y), s.width * sizeof(float));
    }
}

}  // namespace
