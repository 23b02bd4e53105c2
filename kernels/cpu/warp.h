// One pair at one scale: the second image warped by the flow, and the model linearised about it.
#pragma once

#include "layout.h"

#include "../tvl1_math.h"

namespace {

// Bicubic interpolation of OpenCV: its CUDA code has a = -1/2; its CPU code a = -3/4, until version 4 at
// the nearest 1/32 px.
enum Sampling { CATMULL_ROM, THIRTYSECONDS, KEYS };

constexpr tvl1::Cubic CUBIC[] = {tvl1::cubic(-0.5f), tvl1::cubic(-0.75f), tvl1::cubic(-0.75f)};

// Source of one coordinate of a vector of pixels: shift in pixels, and the fraction past it.
struct Source {
    Whole shift;
    Lanes fraction;
};

template <Sampling SAMPLING>
ALWAYS_INLINE Source source(Whole here, Lanes flow, long size) {
    // Two pixels outside, all four taps read the border's value, so the border need not be wider.
    const Lanes at = tvl1::clamp(__builtin_convertvector(here, Lanes) + flow, all(-2.f),
                                 all((float)(size + 1)));
    if (SAMPLING == THIRTYSECONDS) {
        constexpr float ROUND = 12582912.f;  // 1.5 * 2^23: adding it rounds, half to even
        const Whole steps = __builtin_convertvector((at * 32.f + ROUND) - ROUND, Whole);
        return {(steps >> 5) - here, __builtin_convertvector(steps & 31, Lanes) * 0.03125f};
    }
    Whole pixel = __builtin_convertvector(at, Whole);
    pixel += at < __builtin_convertvector(pixel, Lanes);  // down, not towards zero
    return {pixel - here, at - __builtin_convertvector(pixel, Lanes)};
}

// Weights of the taps from `shift` - 1 on. With five taps a pixel's shift may be one more: its four
// weights are then one tap later, and the remaining tap has weight zero, which changes no bit.
template <Sampling SAMPLING, int TAPS>
ALWAYS_INLINE void tap_weights(const Source &source, int shift, Lanes *weights) {
    Lanes four[6] = {};
    for (int k = 0; k < 4; k++)
        four[k + 1] = tvl1::cubic_weight(CUBIC[SAMPLING], k, source.fraction);
    const Whole later = source.shift > shift;
    for (int k = 0; k < TAPS; k++)
        weights[k] = TAPS == 4 ? four[k + 1] : later ? four[k] : four[k + 1];
}

// Samples I, Ix, Iy of a vector of pixels shifted by (dx, dy), or by one more with five taps: along the
// rows first, then across them. `image` points to the unshifted pixels. Never inlined: the variants
// share loads, which the compiler would hoist and spill.
template <Sampling SAMPLING, int COLUMNS, int ROWS>
static __attribute__((noinline)) void sample(const float *image, long stride, const Source &x,
                                             const Source &y, int dx, int dy, Lanes *samples) {
    const float *taps = image + (dy - 1) * PLANES * stride + dx - 1;
    Lanes wx[COLUMNS], wy[ROWS];
    tap_weights<SAMPLING, COLUMNS>(x, dx, wx);
    tap_weights<SAMPLING, ROWS>(y, dy, wy);
    for (int plane = 0; plane < PLANES; plane++, taps += stride) {
        Lanes sum;
        for (int j = 0; j < ROWS; j++) {
            const float *from = taps + j * PLANES * stride;
            Lanes row = wx[0] * load_vector(from);
            for (int i = 1; i < COLUMNS; i++) row = tvl1::fma(wx[i], load_vector(from + i), row);
            sum = j ? tvl1::fma(wy[j], row, sum) : wy[0] * row;
        }
        samples[plane] = sum;
    }
}

// Intermediate values of a vector of pixels in the warp of a row.
struct Target {
    Source x, y;
    Lanes samples[PLANES];
};

// Samples pixels with any shifts. Most vectors have one shift, or two neighbouring ones, so their taps
// are contiguous loads. Otherwise it handles one shift after the other until all pixels of `wanted`
// are done.
template <Sampling SAMPLING>
ALWAYS_INLINE void sample_all(const float *image, long stride, Target &target, uint32_t wanted) {
    const Source &x = target.x, &y = target.y;
    for (uint32_t left = wanted; left;) {
        const int lane = __builtin_ctz(left);
        int dx = ((const int32_t *)&x.shift)[lane], dy = ((const int32_t *)&y.shift)[lane];
        dx -= (left & bits(x.shift == dx - 1)) != 0;
        dy -= (left & bits(y.shift == dy - 1)) != 0;
        const Whole more_x = x.shift - dx, more_y = y.shift - dy;
        const uint32_t here = left & bits(((more_x | more_y) & ~1) == 0);
        const uint32_t wide = here & bits(more_x != 0), tall = here & bits(more_y != 0);
        Lanes found[PLANES];
        Lanes *samples = here == wanted ? target.samples : found;
        (wide   ? tall ? sample<SAMPLING, 5, 5> : sample<SAMPLING, 5, 4>
         : tall ? sample<SAMPLING, 4, 5>
                : sample<SAMPLING, 4, 4>)(image, stride, x, y, dx, dy, samples);
        left &= ~here;
        if (here == wanted) continue;
        const Whole mask = ((all((int)here) >> lane_numbers()) & 1) == 1;
        for (int plane = 0; plane < PLANES; plane++)
            target.samples[plane] = mask ? found[plane] : target.samples[plane];
    }
}

// Warps one row in three passes, so that vectors are independent.
template <Sampling SAMPLING>
ALWAYS_INLINE void warp_row(const State &s, long y, const float *__restrict first,
                            const float *padded) {
    static_assert(sizeof(Target) <= FIELDS * sizeof(Lanes), "targets must fit the scratch row");
    const long stride = padded_stride(s.width);
    const float *image = padded + (y + ROWS_AROUND) * PLANES * stride + LEFT;
    Target *const targets = (Target *)s.scratch(), *target = targets;
    Lanes *at = s.row(y);
    for (long x = 0; x < s.width; x += WIDTH, at += FIELDS, target++) {
        target->x = source<SAMPLING>(lane_numbers() + (int)x, at[U], s.width);
        target->y = source<SAMPLING>(all((int)y), at[V], s.height);
    }
    target = targets;
    for (long x = 0; x < s.width; x += WIDTH, target++) {
        const long count = s.width - x < WIDTH ? s.width - x : WIDTH;
        sample_all<SAMPLING>(image + x, stride, *target, (uint32_t)((1ull << count) - 1));
    }
    target = targets;
    at = s.row(y);
    for (long x = 0; x < s.width; x += WIDTH, at += FIELDS, target++) {
        const Lanes a = target->samples[1], b = target->samples[2];
        const Lanes i0 = load_vector(first + y * s.width + x, s.width - x);
        at[A] = a;
        at[B] = b;
        at[C] = tvl1::constant_part(target->samples[0], a, b, at[U], at[V], i0);
        at[G] = tvl1::negative_inverse_square(a, b);
    }
}

// Input of a warp: the first image, and the padded second image with its gradient.
struct Images {
    const float *first, *padded;
    Sampling sampling;
};

void warp_linearise_row(const State &s, long y, const Images &images) {
    switch (images.sampling) {
        case CATMULL_ROM: return warp_row<CATMULL_ROM>(s, y, images.first, images.padded);
        case THIRTYSECONDS: return warp_row<THIRTYSECONDS>(s, y, images.first, images.padded);
        case KEYS: return warp_row<KEYS>(s, y, images.first, images.padded);
    }
}

}  // namespace
