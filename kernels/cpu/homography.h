// Matches -> homographies by sequential RANSAC.
//
// Samples depend on their index only, inliers are counted in integers, and sums have a fixed order, so
// every instruction set and flowpipe/ops/reference_homography.py give the same bytes.
#pragma once

#include <stdint.h>

namespace {

constexpr long DRAWS = 64;       // hypotheses per batch; the best is polished after each batch
constexpr long MOST_DRAWS = 16;  // batches at most
constexpr double MISSED = 1e-3;  // accepted probability that no sample consists of inliers
constexpr double SMALLEST_DETERMINANT = 1e-4;  // twice the area of the triangle of three sampled points
constexpr float APART = 1.5f;  // thresholds; later searches skip matches closer to a homography
constexpr int POLISHINGS = 2;  // refits of a leading hypothesis, at most
constexpr int FITS = 3;        // refits of a found homography to all its inliers
constexpr int LANES = 8;       // partial sums

typedef float Floats __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
typedef double Doubles __attribute__((vector_size(LANES * sizeof(double))));
typedef uint8_t Marks __attribute__((vector_size(LANES), aligned(1)));

// Matches (x, y) -> (u, v), scaled so that the first frame's points are in -1 .. 1. Rows are padded to
// full vectors; so is `agree`, which marks inliers and has zeros in the padding.
struct Matches {
    long count;
    const float *x, *y, *u, *v;
};

inline long pad_count(long count) { return (count + LANES - 1) / LANES * LANES; }

inline Doubles eight(const float *from) {
    return __builtin_convertvector(*(const Floats *)from, Doubles);
}

struct Homography {
    double h[9];
    long score;  // inliers at the threshold, at its half and at its quarter, added up
    long count;  // inliers at the threshold
};

// Hashes an integer to a pseudo-random one (Wellons' lowbias32).
inline uint32_t hash_bits(uint32_t k) {
    k ^= k >> 16;
    k *= 0x7feb352du;
    k ^= k >> 15;
    k *= 0x846ca68bu;
    return k ^ k >> 16;
}

inline double determinant(const double *p, const double *q, const double *r) {
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]);
}

// Computes the columns that map the unit vectors to three of four points and (1, 1, 1) to the fourth;
// returns whether no three of the points are nearly collinear. `sign` has the four determinants.
inline bool projective_basis(const double p[4][2], double columns[3][3], double sign[4]) {
    sign[0] = determinant(p[3], p[1], p[2]);
    sign[1] = determinant(p[0], p[3], p[2]);
    sign[2] = determinant(p[0], p[1], p[3]);
    sign[3] = determinant(p[0], p[1], p[2]);
    bool sound = true;
    for (int k = 0; k < 4; k++) sound &= __builtin_fabs(sign[k]) > SMALLEST_DETERMINANT;
    for (int k = 0; k < 3; k++) {
        columns[k][0] = p[k][0] * sign[k];
        columns[k][1] = p[k][1] * sign[k];
        columns[k][2] = sign[k];
    }
    return sound;
}

inline void cross(const double *a, const double *b, double *out) {
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

// Returns the homography through four sampled matches; zeros, which have no inliers, if they are
// degenerate.
inline void minimal_homography(const Matches &all, long draw, double *__restrict h) {
    double from[4][2], to[4][2], a[3][3], b[3][3], adjugate[3][3], sign[4], other[4];
    // Every second sample is from a quarter of the list, which tends to hold matches of one kind.
    const uint64_t among = draw % 2 ? (all.count + 3) / 4 : all.count;
    const uint64_t start = hash_bits(8 * draw + 5) * (all.count + 1 - among) >> 32;
    for (int k = 0; k < 4; k++) {
        const uint64_t at = start + (hash_bits(8 * draw + k + 1) * among >> 32);
        from[k][0] = all.x[at], from[k][1] = all.y[at];
        to[k][0] = all.u[at], to[k][1] = all.v[at];
    }
    bool sound = projective_basis(from, a, sign) & projective_basis(to, b, other);
    for (int k = 0; k < 4; k++) sound &= sign[k] * other[k] > 0;  // seen from the same side
    cross(a[1], a[2], adjugate[0]);
    cross(a[2], a[0], adjugate[1]);
    cross(a[0], a[1], adjugate[2]);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            h[3 * i + j] =
                b[0][i] * adjugate[0][j] + b[1][i] * adjugate[1][j] + b[2][i] * adjugate[2][j];
    const double scale = h[8];
    for (int k = 0; k < 9; k++) h[k] = sound && scale != 0 ? h[k] / scale : 0;
}

// Counts the inliers of a homography.
inline void count_agreement(const Matches &all, float threshold, Homography &found) {
    float h[9];
    for (int k = 0; k < 9; k++) h[k] = (float)found.h[k];
    const float whole = threshold * threshold, half = whole * 0.25f, quarter = half * 0.25f;
    int32_t count = 0, closer = 0;
#pragma omp simd reduction(+ : count, closer)
    for (long k = 0; k < all.count; k++) {
        const float x = all.x[k], y = all.y[k];
        const float w = h[6] * x + h[7] * y + h[8], square = w * w;
        const float dx = h[0] * x + h[1] * y + h[2] - all.u[k] * w;
        const float dy = h[3] * x + h[4] * y + h[5] - all.v[k] * w;
        const float error = dx * dx + dy * dy;
        const int32_t front = w > 0;
        count += (error < whole * square) & front;
        closer += ((error < half * square) & front) + ((error < quarter * square) & front);
    }
    found.count = count;
    found.score = count + closer;
}

inline void mark_agreement(const Matches &all, float threshold, const double *homography,
                           uint8_t *__restrict agree) {
    float h[9];
    for (int k = 0; k < 9; k++) h[k] = (float)homography[k];
    const float whole = threshold * threshold;
    for (long k = 0; k < all.count; k++) {
        const float x = all.x[k], y = all.y[k];
        const float w = h[6] * x + h[7] * y + h[8];
        const float dx = h[0] * x + h[1] * y + h[2] - all.u[k] * w;
        const float dy = h[3] * x + h[4] * y + h[5] - all.v[k] * w;
        agree[k] = (dx * dx + dy * dy < whole * (w * w)) & (w > 0);
    }
    for (long k = all.count; k < pad_count(all.count); k++) agree[k] = 0;
}

// Makes one Gauss-Newton step on the squared distances of the marked matches; returns false if they are
// degenerate.
inline bool refine_homography(const Matches &all, const uint8_t *agree, double *h) {
    // P = (x, y, 1) / w, Q its first two, (X, Y) the projected point, (r, s) the residual.
    // Sums: P P', X P Q', Y P Q', (X^2 + Y^2) Q Q', r P, s P, (X r + Y s) Q.
    constexpr int SUMS = 27;
    const Doubles none = {};
    Doubles sums[SUMS] = {};
    for (long k = 0; k < all.count; k += LANES) {
        const Doubles on = __builtin_convertvector(*(const Marks *)(agree + k), Doubles);
        const Doubles x = eight(all.x + k), y = eight(all.y + k);
        const Doubles depth = h[6] * x + h[7] * y + h[8], w = on > 0.0 ? 1.0 / depth : none;
        const Doubles X = (h[0] * x + h[1] * y + h[2]) * w, Y = (h[3] * x + h[4] * y + h[5]) * w;
        const Doubles r = (eight(all.u + k) - X) * on, s = (eight(all.v + k) - Y) * on;
        const Doubles p0 = x * w, p1 = y * w, both = X * X + Y * Y, pull = X * r + Y * s;
        const Doubles p00 = p0 * p0, p01 = p0 * p1, p11 = p1 * p1, p0w = p0 * w, p1w = p1 * w;
        sums[0] += p00;
        sums[1] += p01;
        sums[2] += p0w;
        sums[3] += p11;
        sums[4] += p1w;
        sums[5] += w * w;
        sums[6] += X * p00;
        sums[7] += X * p01;
        sums[8] += X * p11;
        sums[9] += X * p0w;
        sums[10] += X * p1w;
        sums[11] += Y * p00;
        sums[12] += Y * p01;
        sums[13] += Y * p11;
        sums[14] += Y * p0w;
        sums[15] += Y * p1w;
        sums[16] += both * p00;
        sums[17] += both * p01;
        sums[18] += both * p11;
        sums[19] += r * p0;
        sums[20] += r * p1;
        sums[21] += r * w;
        sums[22] += s * p0;
        sums[23] += s * p1;
        sums[24] += s * w;
        sums[25] += pull * p0;
        sums[26] += pull * p1;
    }
    double t[SUMS];
    for (int i = 0; i < SUMS; i++) {
        t[i] = sums[i][0];
        for (int k = 1; k < LANES; k++) t[i] += sums[i][k];
    }
    double n[8][9] = {
        {t[0], t[1], t[2], 0, 0, 0, -t[6], -t[7], t[19]},
        {t[1], t[3], t[4], 0, 0, 0, -t[7], -t[8], t[20]},
        {t[2], t[4], t[5], 0, 0, 0, -t[9], -t[10], t[21]},
        {0, 0, 0, t[0], t[1], t[2], -t[11], -t[12], t[22]},
        {0, 0, 0, t[1], t[3], t[4], -t[12], -t[13], t[23]},
        {0, 0, 0, t[2], t[4], t[5], -t[14], -t[15], t[24]},
        {-t[6], -t[7], -t[9], -t[11], -t[12], -t[14], t[16], t[17], -t[25]},
        {-t[7], -t[8], -t[10], -t[12], -t[13], -t[15], t[17], t[18], -t[26]},
    };
    for (int i = 0; i < 8; i++) {
        if (!(n[i][i] > 1e-12)) return false;
        for (int j = i + 1; j < 8; j++) {
            const double factor = n[j][i] / n[i][i];
            for (int k = i; k < 9; k++) n[j][k] -= factor * n[i][k];
        }
    }
    for (int i = 7; i >= 0; i--) {
        for (int k = i + 1; k < 8; k++) n[i][8] -= n[i][k] * n[k][8];
        n[i][8] = n[i][8] / n[i][i];
    }
    for (int i = 0; i < 8; i++) h[i] += n[i][8];
    return true;
}

// Makes two Gauss-Newton steps on the inliers, which it marks in `agree`.
inline void fit_homography(const Matches &all, float threshold, uint8_t *agree, double *h) {
    mark_agreement(all, threshold, h, agree);
    for (int step = 0; step < 2; step++)
        if (!refine_homography(all, agree, h)) return;
}

// Refits a homography to its inliers while their score grows.
inline void polish_homography(const Matches &all, float threshold, uint8_t *agree,
                              Homography &best) {
    for (int k = 0; k < POLISHINGS; k++) {
        Homography next = best;
        fit_homography(all, threshold, agree, next.h);
        count_agreement(all, threshold, next);
        if (next.score <= best.score) return;
        best = next;
    }
}

// Returns the best of up to MOST_DRAWS * DRAWS hypotheses.
inline Homography search_homography(const Matches &all, float threshold, uint8_t *agree) {
    Homography best = {};
    for (long batch = 0; batch < MOST_DRAWS; batch++) {
        Homography leader = {};
        for (long k = 0; k < DRAWS; k++) {
            Homography found = {};
            minimal_homography(all, batch * DRAWS + k, found.h);
            count_agreement(all, threshold, found);
            if (found.score > leader.score) leader = found;
        }
        if (leader.score > best.score) {
            polish_homography(all, threshold, agree, leader);
            best = leader;
        }
        const double share = (double)best.count / (double)all.count;
        double missed = 1 - share * share * share * share, chance = 1;
        for (long k = 1; k < DRAWS; k *= 2) missed *= missed;
        for (long k = 0; k <= batch; k++) chance *= missed;
        if (chance < MISSED) break;
    }
    return best;
}

}  // namespace
