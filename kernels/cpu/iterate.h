// One pair at one scale: primal-dual iterations, several per sweep over its rows.
#pragma once

#include "layout.h"
#include "warp.h"

#include "../tvl1_math.h"

namespace {

struct Steps {
    Lanes tau, taut, lt;  // tau, tau / theta, lambda * theta
};

struct Flow {
    Lanes u, v;
};

// u <- u + threshold + div p of one vector of pixels. `left` has p11 and p21 of the previous vector, and
// afterwards those of this one.
template <bool First>
ALWAYS_INLINE Flow primal_step(const Lanes *at, const Lanes *above, const Steps &steps,
                               Flow &left) {
    const Lanes a = at[A], b = at[B], u = at[U], v = at[V], p11 = at[P11], p21 = at[P21];
    const Lanes step = tvl1::threshold(a, b, at[C], at[G], u, v, steps.lt);
    const Lanes p12_above = First ? Lanes{} : above[P12], p22_above = First ? Lanes{} : above[P22];
    const Lanes div_u = tvl1::divergence(p11, from_left(left.u, p11), at[P12], p12_above);
    const Lanes div_v = tvl1::divergence(p21, from_left(left.v, p21), at[P22], p22_above);
    left = {p11, p21};
    return {tvl1::fma(step, a, u) + div_u, tvl1::fma(step, b, v) + div_v};
}

// p <- dual update of one vector of pixels, from its flow and the flow of the right and lower pixels.
ALWAYS_INLINE void dual_step(Lanes *at, Flow here, Flow right, Flow below, const Steps &steps) {
    const tvl1::Duals<Lanes> p = tvl1::dual_step<Lanes>(
        {at[P11], at[P12], at[P21], at[P22]}, from_right(here.u, right.u) - here.u,
        below.u - here.u, from_right(here.v, right.v) - here.v, below.v - here.v, steps.tau,
        steps.taut);
    at[P11] = p.p11;
    at[P12] = p.p12;
    at[P21] = p.p21;
    at[P22] = p.p22;
}

// Returns the sum over pixels, in an order that does not depend on the vector width.
struct Sum {
    static constexpr int PARTS = 16 / WIDTH;
    Lanes parts[PARTS];

    double total() const {
        double sum = 0.0;
        for (int k = 0; k < PARTS * WIDTH; k++) sum += (double)parts[k / WIDTH][k % WIDTH];
        return sum;
    }
};

// Primal step of row r, then dual step of row r - 1, which needs the new flow of row r:
//
//     u(r) <- u + threshold + div p          reads p(r), p(r - 1) from before
//     p(r - 1) <- dual update of u(r - 1)    reads u(r - 1), u(r) from after
//
// The dual step is one vector behind, so its square roots overlap with the next primal step. Returns
// the sum of |du|^2 + |dv|^2 if it is measured.
template <bool First, bool Measure>
ALWAYS_INLINE double row_step(const State &s, long r, const Steps &steps) {
    Lanes *at = s.row(r), *above = s.row(First ? r : r - 1);
    Flow left = {}, here = {above[U], above[V]}, below = {};
    Sum change = {};
    for (long k = 0, n = vectors(s.width); k < n; k++, at += FIELDS, above += FIELDS) {
        const Flow flow = primal_step<First>(at, above, steps, left);
        if (Measure) {
            const Lanes du = flow.u - at[U], dv = flow.v - at[V];
            const Lanes square = tvl1::fma(du, du, dv * dv);
            const Whole columns = lane_numbers() + (int)(k * WIDTH);
            change.parts[k % Sum::PARTS] += columns < (int)s.width ? square : Lanes{};
        }
        at[U] = flow.u;
        at[V] = flow.v;
        if (First) continue;
        const Flow right = {above[U], above[V]};
        if (k) dual_step(above - FIELDS, here, right, below, steps);
        here = right;
        below = flow;
    }
    // If W is a multiple of WIDTH, `above` is now at the spare vector with the copy.
    if (!First) dual_step(above - FIELDS, here, {above[U], above[V]}, below, steps);
    s.at(U, r, s.width) = s.at(U, r, s.width - 1);
    s.at(V, r, s.width) = s.at(V, r, s.width - 1);
    return Measure ? change.total() : 0.0;
}

// Dual step of the last row, whose vertical difference is zero, so p12 and p22 stay zero.
inline void last_row_step(const State &s, const Steps &steps) {
    Lanes *at = s.row(s.height - 1);
    for (long k = 0; k < vectors(s.width); k++, at += FIELDS) {
        const Flow here = {at[U], at[V]}, right = {at[FIELDS + U], at[FIELDS + V]};
        dual_step(at, here, right, here, steps);
    }
}

// Runs `count` iterations in one sweep, in place. Each is one row behind the previous one, so the ten
// fields of a row are used `count` times while they are in the cache:
//
//     y:        0     1     2     3    ...  H     H+1
//     k = 0     u0   u1p0  u2p1  u3p2        p(H-1)
//     k = 1           u0   u1p0  u2p1  ...        p(H-1)
//
// With `images`, each row of the model is linearised just before its first iteration. `changes`
// receives the squared change of each iteration from index `measured` on.
void sweep(const State &s, int count, const Steps &steps, const Images *images, int measured,
           double *changes) {
    for (int k = 0; k < count; k++) changes[k] = 0.0;
    for (long y = 0; y < s.height + count; y++) {
        if (images && y < s.height) warp_linearise_row(s, y, *images);
        const int first = y > s.height ? (int)(y - s.height) : 0;
        const int last = y < count ? (int)y : count - 1;
        for (int k = first; k <= last; k++) {
            const long r = y - k;
            if (r == s.height)
                last_row_step(s, steps);
            else if (k >= measured)
                changes[k] +=
                    r ? row_step<false, true>(s, r, steps) : row_step<true, true>(s, r, steps);
            else
                r ? row_step<false, false>(s, r, steps) : row_step<true, false>(s, r, steps);
        }
    }
}

constexpr int MOST_PER_SWEEP = 32;

// Largest number of iterations per sweep: all ten fields of their rows fit the second-level cache.
inline int sweep_limit(const State &s) {
    constexpr long CACHE_BYTES = 512 * 1024;
    const long rows = CACHE_BYTES / (s.stride * VECTOR_BYTES);
    return rows < 4 ? 4 : rows > MOST_PER_SWEEP ? MOST_PER_SWEEP : (int)rows;
}

// Runs a warp if `images` are given, then iterations, and returns their number. `change` receives the
// squared change at the last convergence check.
int iterate_pair(const State &s, const tvl1::Stop &stop, const Steps &steps, const Images *images,
                 double *change) {
    const int limit = sweep_limit(s), most = stop.most;
    double changes[MOST_PER_SWEEP];
    *change = 0.0;
    if (most <= 0) sweep(s, 0, steps, images, 0, changes);
    int done = 0, check = stop.next(0, 0.0);
    for (bool converged = false; done < most && !converged;) {
        const int end = stop.end(done, check);
        while (done < end) {
            const int count = end - done < limit ? end - done : limit;
            sweep(s, count, steps, images, check - 1 - done, changes);
            images = nullptr;
            for (; check <= done + count && !converged; check = stop.next(check, *change)) {
                *change = changes[check - 1 - done];
                converged = *change <= stop.enough;
            }
            done += count;
        }
    }
    return done;
}

}  // namespace
