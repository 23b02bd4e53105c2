// Memory layout of the fields of a pair, in vectors of 16 bytes: two columns of two fields.
//
// A row is a sequence of chunks of eight columns. A chunk holds its pairs of fields one after the
// other, so the fields of two columns are a constant distance apart:
//
//     row y      | chunk 0                               | chunk 1 ...
//     a chunk    | u v of 8 columns | p11 p12 | p21 p22  |
//     a vector   | u(x) u(x+1) v(x) v(x+1) |
#pragma once

#include "common.cuh"

namespace {

enum Field { U, V, P11, P12, P21, P22, FIELDS };
enum Coefficient { A, B, C, G, COEFFICIENTS };

constexpr int CHUNK = 8;   // columns
constexpr int VECTOR = 4;  // floats

// Distance in floats from one pair of fields to the next.
constexpr int PAIR_OF_FIELDS = 2 * CHUNK;

// Index in a row of two fields of the columns x, x + 1, for even x and COUNT interleaved fields.
template <int COUNT>
__device__ __forceinline__ int vector_at(int x) {
    return x / CHUNK * (COUNT * CHUNK) + x % CHUNK / 2 * VECTOR;
}

// Index in a row of one field of one column.
template <int COUNT>
__device__ __forceinline__ int value_at(int field, int x) {
    return vector_at<COUNT>(x & ~1) + field / 2 * PAIR_OF_FIELDS + field % 2 * 2 + x % 2;
}

}  // namespace
