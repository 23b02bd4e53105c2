// Sixteen packed pixels -> one: vectors of the bicubic warp, where plain loops are not fast enough.
//
// 16 floats, four taps of (I, Ix, Iy, 0), lie in PARTS vectors of the target's width. `folded` adds
// the four taps in one order on every target, so that the width of the vectors shows in no byte.
#pragma once

#include "../tvl1_math.h"

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

typedef float Quad __attribute__((vector_size(16)));

#if defined(__AVX512F__)
typedef float Lanes __attribute__((vector_size(64)));
#define LANES_FMA(a, b, c) ((Lanes)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#elif defined(__FMA__)
typedef float Lanes __attribute__((vector_size(32)));
#define LANES_FMA(a, b, c) ((Lanes)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#else
typedef Quad Lanes;
#define LANES_FMA(a, b, c) ((a) * (b) + (c))
#endif

constexpr int PARTS = 64 / sizeof(Lanes);
constexpr int PART_FLOATS = sizeof(Lanes) / sizeof(float);

TVL1_FORMULA Lanes loaded(const float *from) {
    Lanes lanes;
    __builtin_memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

TVL1_FORMULA Lanes all(float value) { return value - Lanes{}; }

TVL1_FORMULA Quad folded(const Lanes *parts) {
    Quad quads[4];
    __builtin_memcpy(quads, parts, sizeof quads);
    return (quads[0] + quads[2]) + (quads[1] + quads[3]);
}

// CUBIC[power], each tap's coefficient four times.
struct CubicLanes {
    Lanes power[4][PARTS];

    CubicLanes() {
        for (int p = 0; p < 4; p++) {
            float spread[16];
            for (int k = 0; k < 16; k++) spread[k] = tvl1::CUBIC[p][k / 4];
            for (int j = 0; j < PARTS; j++) power[p][j] = loaded(spread + j * PART_FLOATS);
        }
    }
};

// sum over rows j and columns i of wy[j] * cubic(t, i) * taps[j * stride + 4 i .. + 3]
TVL1_FORMULA Quad bicubic(const float *taps, long stride, float t, const float *wy,
                          const CubicLanes &cubic) {
    Lanes sums[PARTS];
    for (int j = 0; j < PARTS; j++, taps += PART_FLOATS) {
        const Lanes ts = all(t);
        const Lanes wx = LANES_FMA(
            LANES_FMA(LANES_FMA(cubic.power[3][j], ts, cubic.power[2][j]), ts, cubic.power[1][j]),
            ts, cubic.power[0][j]);
        const Lanes upper =
            LANES_FMA(loaded(taps + 2 * stride), all(wy[2]), loaded(taps) * all(wy[0]));
        const Lanes lower =
            LANES_FMA(loaded(taps + 3 * stride), all(wy[3]), loaded(taps + stride) * all(wy[1]));
        sums[j] = (upper + lower) * wx;
    }
    return folded(sums);
}

}  // namespace
