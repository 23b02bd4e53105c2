// Coefficients of a block -> its pixels; rows of Y, Cb and Cr -> rows of RGB.
//
// Bit-exact to libjpeg: its accurate integer transform (jidctint.c; Loeffler,
// Ligtenberg, Moschytz 1989), triangular upsampling (jdsample.c) and colours (jdcolor.c).
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace {

// Constants of the transform with 13 bits of fraction; between its passes there are 2 bits more.
constexpr int BITS = 13, EXTRA = 2;
constexpr int BEYOND = 4096;  // above all values between the passes in any image
constexpr int C_0_298 = 2446, C_0_390 = 3196, C_0_541 = 4433, C_0_765 = 6270, C_0_899 = 7373,
              C_1_175 = 9633, C_1_501 = 12299, C_1_847 = 15137, C_1_961 = 16069, C_2_053 = 16819,
              C_2_562 = 20995, C_3_072 = 25172;

inline uint8_t level(int value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

// Coefficients of a block, row by row, and a position for those beyond it.
struct alignas(32) Coefficients {
    int16_t at[64 + 16];

    void clear() {  // compilers turn memset into a slow instruction
        for (int k = 0; k < 64; k += 16) _mm256_store_si256((__m256i *)(at + k), __m256i{});
    }
};

// Eight rows of eight values, of 16 bits: rows 0 and 4, 1 and 5, 2 and 6, 3 and 7.
struct Rows {
    __m256i at[4];
};

// Interleaved values of two rows, times two constants, added in pairs: a rotation of the transform.
inline __m256i rotate(__m256i pairs, int first, int second) {
    return _mm256_madd_epi16(pairs, _mm256_set1_epi32((first & 0xffff) | (unsigned)second << 16));
}

inline __m256i interleave_halves(__m256i rows) {
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(rows, 0xd8), order);
}

// One pass over the columns, transposed.
template <int SHIFT>
inline Rows pass(const Rows &in) {
    auto low = [](__m256i rows) { return _mm256_castsi256_si128(rows); };
    auto high = [](__m256i rows) { return _mm256_extracti128_si256(rows, 1); };
    auto scaled = [](__m128i row) {
        const __m256i half = _mm256_set1_epi32(1 << (SHIFT - 1));
        return _mm256_add_epi32(_mm256_slli_epi32(_mm256_cvtepi16_epi32(row), BITS), half);
    };
    const __m256i sum = scaled(_mm_add_epi16(low(in.at[0]), high(in.at[0])));
    const __m256i difference = scaled(_mm_sub_epi16(low(in.at[0]), high(in.at[0])));
    const __m256i in_26 = interleave_halves(in.at[2]);
    const __m256i in_17 = interleave_halves(_mm256_blend_epi32(in.at[1], in.at[3], 0xf0));
    const __m256i in_35 = interleave_halves(_mm256_blend_epi32(in.at[3], in.at[1], 0xf0));
    const __m128i z3 = _mm_add_epi16(low(in.at[3]), high(in.at[3]));
    const __m128i z4 = _mm_add_epi16(low(in.at[1]), high(in.at[1]));
    const __m256i z_34 = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_unpacklo_epi16(z3, z4)), _mm_unpackhi_epi16(z3, z4), 1);

    const __m256i t2 = rotate(in_26, C_0_541, C_0_541 - C_1_847);
    const __m256i t3 = rotate(in_26, C_0_541 + C_0_765, C_0_541);
    const __m256i a3 = rotate(z_34, C_1_175 - C_1_961, C_1_175);
    const __m256i a4 = rotate(z_34, C_1_175, C_1_175 - C_0_390);
    const __m256i even[4] = {
        _mm256_add_epi32(sum, t3), _mm256_add_epi32(difference, t2),
        _mm256_sub_epi32(difference, t2), _mm256_sub_epi32(sum, t3)};
    const __m256i odd[4] = {
        _mm256_add_epi32(rotate(in_17, C_1_501 - C_0_899, -C_0_899), a4),
        _mm256_add_epi32(rotate(in_35, C_3_072 - C_2_562, -C_2_562), a3),
        _mm256_add_epi32(rotate(in_35, -C_2_562, C_2_053 - C_2_562), a4),
        _mm256_add_epi32(rotate(in_17, -C_0_899, C_0_298 - C_0_899), a3)};
    __m256i packed[4];  // rows 0 and 4, 1 and 5, 2 and 6, 3 and 7; of columns 0 to 3, and 4 to 7
    __m256i out[8];
    for (int k = 0; k < 4; k++) {
        out[k] = _mm256_srai_epi32(_mm256_add_epi32(even[k], odd[k]), SHIFT);
        out[7 - k] = _mm256_srai_epi32(_mm256_sub_epi32(even[k], odd[k]), SHIFT);
    }
    for (int k = 0; k < 4; k++) packed[k] = _mm256_packs_epi32(out[k], out[k + 4]);
    const __m256i rows_01 = _mm256_unpacklo_epi16(packed[0], packed[1]);
    const __m256i rows_45 = _mm256_unpackhi_epi16(packed[0], packed[1]);
    const __m256i rows_23 = _mm256_unpacklo_epi16(packed[2], packed[3]);
    const __m256i rows_67 = _mm256_unpackhi_epi16(packed[2], packed[3]);
    const __m256i upper_01 = _mm256_unpacklo_epi32(rows_01, rows_23);
    const __m256i upper_23 = _mm256_unpackhi_epi32(rows_01, rows_23);
    const __m256i lower_01 = _mm256_unpacklo_epi32(rows_45, rows_67);
    const __m256i lower_23 = _mm256_unpackhi_epi32(rows_45, rows_67);
    return {{_mm256_unpacklo_epi64(upper_01, lower_01), _mm256_unpackhi_epi64(upper_01, lower_01),
             _mm256_unpacklo_epi64(upper_23, lower_23), _mm256_unpackhi_epi64(upper_23, lower_23)}};
}

// Transform coefficients to pixels; false if a value between the passes is out of range. The result
// then depends on libjpeg's code path, so libjpeg must compute it.
inline bool transform(const Coefficients &block, uint8_t *out, int64_t stride) {
    Rows rows;
    for (int k = 0; k < 4; k++)
        rows.at[k] = _mm256_loadu2_m128i((const __m128i *)(block.at + 8 * (k + 4)),
                                         (const __m128i *)(block.at + 8 * k));
    rows = pass<BITS - EXTRA>(rows);
    const __m256i most = _mm256_set1_epi16(BEYOND << EXTRA);
    const __m256i sums = _mm256_or_si256(
        _mm256_or_si256(_mm256_add_epi16(rows.at[0], most), _mm256_add_epi16(rows.at[1], most)),
        _mm256_or_si256(_mm256_add_epi16(rows.at[2], most), _mm256_add_epi16(rows.at[3], most)));
    rows = pass<BITS + EXTRA + 3>(rows);
    const __m256i middle = _mm256_set1_epi8(-128);
    for (int k = 0; k < 4; k += 2) {
        __m256i made = _mm256_packs_epi16(rows.at[k], rows.at[k + 1]);
        made = _mm256_xor_si256(made, middle);
        const __m128i upper = _mm256_castsi256_si128(made);
        const __m128i lower = _mm256_extracti128_si256(made, 1);
        _mm_storel_epi64((__m128i *)(out + k * stride), upper);
        _mm_storeh_pd((double *)(out + (k + 1) * stride), _mm_castsi128_pd(upper));
        _mm_storel_epi64((__m128i *)(out + (k + 4) * stride), lower);
        _mm_storeh_pd((double *)(out + (k + 5) * stride), _mm_castsi128_pd(lower));
    }
    return _mm256_testz_si256(sums, _mm256_set1_epi16(-32768));
}

// Fill a block of one value, as `transform` would if only the first coefficient is not 0.
inline bool fill_block(int16_t first, uint8_t *out, int64_t stride) {
    const uint64_t row = level(((first + 4) >> 3) + 128) * UINT64_C(0x0101010101010101);
    for (int k = 0; k < 8; k++) memcpy(out + k * stride, &row, 8);
    return first >= -BEYOND && first < BEYOND;
}

// Upsample a row of chroma to columns `first` to `end` of a row twice as wide, smoothly. `far` is the row
// on the other side of the output row, or `near` itself if rows are not halved. `sums` has space for
// width + 2 values, `out` for one more byte than its columns.
inline void widen(const uint8_t *near, const uint8_t *far, bool halved_down, int width, int first,
                  int end, uint16_t *sums, uint8_t *out) {
    const int from = first / 2 ? first / 2 - 1 : 0;
    const int to = end / 2 + 1 < width ? end / 2 + 1 : width;
    uint16_t *sum = sums + 1;
    for (int k = from; k < to; k++) sum[k] = 3 * near[k] + far[k];
    if (from == 0) sum[-1] = sum[0];
    if (to == width) sum[width] = sum[width - 1];
    // libjpeg rounds halves up and down alternately.
    const int on_left = halved_down ? 8 : 4, on_right = halved_down ? 7 : 8;
    for (int k = first / 2; k < (end + 1) / 2; k++) {
        out[2 * k] = (3 * sum[k] + sum[k - 1] + on_left) >> 4;
        out[2 * k + 1] = (3 * sum[k] + sum[k + 1] + on_right) >> 4;
    }
}

constexpr int RED = 91881, GREEN_U = -22554, GREEN_V = -46802, BLUE = 116130;  // of 65536

// 16 bytes of each of three colours -> 48 interleaved bytes.
inline void store_rgb(__m128i red, __m128i green, __m128i blue, uint8_t *out) {
    constexpr char o = -1;
    const __m128i a = _mm_setr_epi8(0, o, o, 1, o, o, 2, o, o, 3, o, o, 4, o, o, 5);
    const __m128i b = _mm_setr_epi8(o, o, 6, o, o, 7, o, o, 8, o, o, 9, o, o, 10, o);
    const __m128i c = _mm_setr_epi8(o, 11, o, o, 12, o, o, 13, o, o, 14, o, o, 15, o, o);
    const __m128i d = _mm_setr_epi8(o, 0, o, o, 1, o, o, 2, o, o, 3, o, o, 4, o, o);
    const __m128i e = _mm_setr_epi8(5, o, o, 6, o, o, 7, o, o, 8, o, o, 9, o, o, 10);
    const __m128i f = _mm_setr_epi8(o, o, 11, o, o, 12, o, o, 13, o, o, 14, o, o, 15, o);
    const __m128i g = _mm_setr_epi8(o, o, 0, o, o, 1, o, o, 2, o, o, 3, o, o, 4, o);
    const __m128i h = _mm_setr_epi8(o, 5, o, o, 6, o, o, 7, o, o, 8, o, o, 9, o, o);
    const __m128i i = _mm_setr_epi8(10, o, o, 11, o, o, 12, o, o, 13, o, o, 14, o, o, 15);
    auto joined = [&](__m128i r_order, __m128i g_order, __m128i b_order) {
        return _mm_or_si128(
            _mm_or_si128(_mm_shuffle_epi8(red, r_order), _mm_shuffle_epi8(green, g_order)),
            _mm_shuffle_epi8(blue, b_order));
    };
    _mm_storeu_si128((__m128i *)out, joined(a, d, g));
    _mm_storeu_si128((__m128i *)(out + 16), joined(b, e, h));
    _mm_storeu_si128((__m128i *)(out + 32), joined(c, f, i));
}

inline void to_rgb_16(const uint8_t *y, const uint8_t *u, const uint8_t *v, uint8_t *out) {
    auto load = [](const uint8_t *from) {
        return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
    };
    const __m256i middle = _mm256_set1_epi16(128), one = _mm256_set1_epi16(1);
    const __m256i light = load(y);
    const __m256i b = _mm256_sub_epi16(load(u), middle), r = _mm256_sub_epi16(load(v), middle);
    // Factors beyond 16 bits: the remainder after one or two times the value are added separately.
    auto part = [&](__m256i value, int factor) {  // rounded
        value = _mm256_mulhi_epi16(_mm256_add_epi16(value, value), _mm256_set1_epi16(factor));
        return _mm256_srai_epi16(_mm256_add_epi16(value, one), 1);
    };
    const __m256i red = _mm256_add_epi16(light, _mm256_add_epi16(r, part(r, RED - 65536)));
    const __m256i blue = _mm256_add_epi16(
        light, _mm256_add_epi16(_mm256_add_epi16(b, b), part(b, BLUE - 2 * 65536)));
    const __m256i factors = _mm256_set1_epi32(
        (int)((GREEN_U & 0xffff) | (unsigned)(GREEN_V + 65536) << 16));
    auto weigh = [&](__m256i pairs) {
        const __m256i half = _mm256_set1_epi32(32768);
        return _mm256_srai_epi32(_mm256_add_epi32(_mm256_madd_epi16(pairs, factors), half), 16);
    };
    const __m256i shift = _mm256_packs_epi32(
        weigh(_mm256_unpacklo_epi16(b, r)), weigh(_mm256_unpackhi_epi16(b, r)));
    const __m256i green = _mm256_add_epi16(light, _mm256_sub_epi16(shift, r));
    auto bytes = [](__m256i values) {
        return _mm_packus_epi16(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    };
    store_rgb(bytes(red), bytes(green), bytes(blue), out);
}

// Y, Cb, Cr -> interleaved R, G, B.
inline void to_rgb(const uint8_t *y, const uint8_t *u, const uint8_t *v, long count, uint8_t *out) {
    long k = 0;
    for (; k + 16 <= count; k += 16) to_rgb_16(y + k, u + k, v + k, out + 3 * k);
    if (k < count && count >= 16) {  // the last 16, some of them again
        k = count - 16;
        to_rgb_16(y + k, u + k, v + k, out + 3 * k);
        return;
    }
    for (; k < count; k++) {
        const int b = u[k] - 128, r = v[k] - 128;
        out[3 * k] = level(y[k] + ((RED * r + 32768) >> 16));
        out[3 * k + 1] = level(y[k] + ((GREEN_U * b + GREEN_V * r + 32768) >> 16));
        out[3 * k + 2] = level(y[k] + ((BLUE * b + 32768) >> 16));
    }
}

}  // namespace
