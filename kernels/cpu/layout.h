// (H, W) -> memory layout of a TV-L1 state and of a padded image.
//
// State: vectors of WIDTH pixels, the ten fields of a vector side by side. A row step then has two
// addresses, its row and the row above, and reads both sequentially:
//
//     row y: | a(0..15) b(0..15) c g u v p11 p12 p21 p22 | a(16..31) b(16..31) ... | ... spare |
//
// A row always has space for u(y, W), a copy of u(y, W - 1) that makes the forward difference zero
// there. Lanes beyond it are finite and never read.
//
// Padded image: I, Ix, Iy of a row one after the other, each with its border pixels replicated, so that
// clamped reads need no branch; wide enough for a vector with a single pixel inside.
//
//     row y: | 32 left  I(0..W-1)  24 or more right | 32 left  Ix ... | 32 left  Iy ... |
#pragma once

#include "lanes.h"

namespace {

enum Field { A, B, C, G, U, V, P11, P12, P21, P22, FIELDS };

inline long vectors(long width) { return (width + WIDTH - 1) / WIDTH; }

struct State {
    Lanes *lanes;
    long height, width, stride;  // stride in vectors

    State(float *floats, long height, long width)
        : lanes((Lanes *)floats), height(height), width(width), stride(row_vectors(width)) {}

    static long row_vectors(long width) { return (width / WIDTH + 1) * FIELDS; }

    // One row more than the image has, as the workspace of a sweep.
    static long floats(long height, long width) {
        return (height + 1) * row_vectors(width) * WIDTH;
    }

    Lanes *row(long y) const { return lanes + y * stride; }
    float *scratch() const { return (float *)row(height); }
    float &at(Field field, long y, long x) const {
        return ((float *)(row(y) + x / WIDTH * FIELDS + field))[x % WIDTH];
    }
};

// Stores a row of pixels as a row of a field, and a copy of its last pixel to the right.
inline void fill_row(const State &s, Field field, long y, const float *pixels) {
    Lanes *at = s.row(y) + field;
    for (long x = 0; x < s.width; x += WIDTH, at += FIELDS) *at = load_vector(pixels + x, s.width - x);
    s.at(field, y, s.width) = pixels[s.width - 1];
}

// Copies an image (H, W) to a field of a state.
void fill_field(const State &s, Field field, const float *image) {
    for (long y = 0; y < s.height; y++) fill_row(s, field, y, image + y * s.width);
}

// Copies a field of a state to an image (H, W).
void copy_field(const State &s, Field field, float *__restrict image) {
    for (long y = 0; y < s.height; y++, image += s.width) {
        const Lanes *at = s.row(y) + field;
        long x = 0;
        for (; x + WIDTH <= s.width; x += WIDTH, at += FIELDS)
            __builtin_memcpy(image + x, at, sizeof(Lanes));
        for (; x < s.width; x++) image[x] = s.at(field, y, x);
    }
}

// Initialises a state with a flow (2, H, W) or null; all else is zero.
void start_pair(const State &s, const float *flow) {
    for (long y = 0; y <= s.height; y++) {
        __builtin_memset(s.row(y), 0, s.stride * sizeof(Lanes));
        if (!flow || y == s.height) continue;
        fill_row(s, U, y, flow + y * s.width);
        fill_row(s, V, y, flow + (s.height + y) * s.width);
    }
}

constexpr long PLANES = 3;       // I, Ix, Iy
constexpr long ROWS_AROUND = 5;  // five taps of a point clamped to [-2, H + 1] reach so far
constexpr long LEFT = 32, RIGHT = 24;

inline long padded_stride(long width) { return LEFT + (width + RIGHT + 15) / 16 * 16; }
inline long padded_floats(long height, long width) {
    return (height + 2 * ROWS_AROUND) * PLANES * padded_stride(width);
}

}  // namespace
