// (H, W) -> where the fields of a TV-L1 state and the pixels of a packed image lie in memory.
//
// State: for each row the ten fields one after the other, so that a row step reads ten streams of
// a few pages, and they do not collide in the cache as ten separate images of equal size would.
//
//     row y: | 16 zeros . a(y, 0..W-1) . 16 .. 31 spare | 16 zeros . b(y, ...) . spare | ... p22 |
//
// The zeros are p(y, -1) of the divergence; the spare takes u(y, W), a copy of u(y, W - 1) that
// makes the forward difference zero there, and whatever full vectors write beyond W.
//
// Packed image: 4 floats a pixel, I, Ix, Iy, 0, with the border pixels replicated BORDER times
// outwards: four neighbours of a row are one load, and clamped reads need no branch.
#pragma once

namespace {  // every instruction set keeps its own copy: see tvl1_math.h

enum Field { A, B, C, G, U, V, P11, P12, P21, P22, FIELDS };

constexpr long LANES = 16;
constexpr long BORDER = 4;
constexpr long SCRATCH_ROWS = 10;  // after the last row, for what a sweep or warp keeps of one row

inline long padded(long width) { return (width + LANES - 1) / LANES * LANES; }
inline long row_stride(long width) { return padded(width) + 2 * LANES; }
inline long state_floats(long height, long width) {
    return (height * FIELDS + SCRATCH_ROWS) * row_stride(width);
}
inline long packed_stride(long width) { return 4 * (width + 2 * BORDER); }
inline long packed_floats(long height, long width) {
    return (height + 2 * BORDER) * packed_stride(width);
}

struct State {
    float *floats;
    long height, width, stride;

    State(float *floats, long height, long width)
        : floats(floats), height(height), width(width), stride(row_stride(width)) {}

    float *row(Field field, long y) const { return floats + (y * FIELDS + field) * stride + LANES; }
    float *scratch(long k) const { return floats + (height * FIELDS + k) * stride + LANES; }
};

}  // namespace
