// SIMD vectors of the kernels that take nearly all the time: as many pixels as a register holds.
//
// All other kernels are plain loops. Formulas (tvl1_math.h) are templates of their number type, Lanes
// here and float on the GPU; hence fma and root of Lanes are declared before them.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {  // every instruction set keeps its own copy: see tvl1_math.h

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif
constexpr int WIDTH = VECTOR_BYTES / sizeof(float);  // pixels in a vector

typedef float Lanes __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t Whole __attribute__((vector_size(VECTOR_BYTES)));  // and masks: 0, -1

#define ALWAYS_INLINE static inline __attribute__((always_inline))

}  // namespace

namespace tvl1 {

// a * b + c, fused where the target fuses in hardware.
ALWAYS_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
    return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (Lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_FEATURE_FMA)
    for (int k = 0; k < WIDTH; k++) c[k] = __builtin_fmaf(a[k], b[k], c[k]);
    return c;
#else
    return a * b + c;
#endif
}

ALWAYS_INLINE Lanes root(Lanes a) {
#if defined(__AVX512F__)
    return (Lanes)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
    return (Lanes)_mm256_sqrt_ps((__m256)a);
#elif defined(__SSE2__)
    return (Lanes)_mm_sqrt_ps((__m128)a);
#else
    for (int k = 0; k < WIDTH; k++) a[k] = __builtin_sqrtf(a[k]);
    return a;
#endif
}

}  // namespace tvl1

namespace {

ALWAYS_INLINE Lanes all(float value) { return value - Lanes{}; }
ALWAYS_INLINE Whole all(int value) { return value - Whole{}; }

ALWAYS_INLINE Lanes load_vector(const float *from) {  // from any address
    Lanes lanes;
    __builtin_memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

// Loads part of a row into the front of a vector, zero after it.
ALWAYS_INLINE Lanes load_vector(const float *from, long count) {
    if (count >= WIDTH) return load_vector(from);
    Lanes lanes = {};
    for (long k = 0; k < count; k++) lanes[k] = from[k];
    return lanes;
}

// Returns the pixels to the left: the last lane of `before`, then all but the last of `lanes`.
ALWAYS_INLINE Lanes from_left(Lanes before, Lanes lanes) {
#if defined(__AVX512F__)
    return (Lanes)_mm512_alignr_epi32((__m512i)lanes, (__m512i)before, 15);
#elif defined(__AVX2__)
    const __m256i middle = _mm256_permute2x128_si256((__m256i)before, (__m256i)lanes, 0x21);
    return (Lanes)_mm256_alignr_epi8((__m256i)lanes, middle, 12);
#else
    return __builtin_shuffle(before, lanes, Whole{3, 4, 5, 6});
#endif
}

// Returns the pixels to the right: all but the first of `lanes`, then the first of `after`.
ALWAYS_INLINE Lanes from_right(Lanes lanes, Lanes after) {
#if defined(__AVX512F__)
    return (Lanes)_mm512_alignr_epi32((__m512i)after, (__m512i)lanes, 1);
#elif defined(__AVX2__)
    const __m256i middle = _mm256_permute2x128_si256((__m256i)lanes, (__m256i)after, 0x21);
    return (Lanes)_mm256_alignr_epi8(middle, (__m256i)lanes, 4);
#else
    return __builtin_shuffle(lanes, after, Whole{1, 2, 3, 4});
#endif
}

// Returns one bit for each lane of a mask.
ALWAYS_INLINE uint32_t bits(Whole mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
    uint32_t result = 0;
    for (int k = 0; k < WIDTH; k++) result |= (uint32_t)(mask[k] & 1) << k;
    return result;
#endif
}

ALWAYS_INLINE Whole lane_numbers() {  // 0, 1, 2 ...
    Whole numbers;
    for (int k = 0; k < WIDTH; k++) numbers[k] = k;
    return numbers;
}

}  // namespace
