// Bilinear interpolation of bytes with centred pixels, bit-exact to cv::resize.
#pragma once
#include "common.cuh"

namespace {

// Both neighbours of an output index along one side, and their weights in 1/2048, as in cv::resize.
// A column beyond the border has the border's value. A row beyond it splits its weight over the same
// row, which cv::resize rounds differently.
struct Neighbours {
    int near, far, near_weight, far_weight;
};

__device__ __forceinline__ Neighbours neighbours(int index, int source, int target, bool rows) {
    const double scale = 1.0 / ((double)target / (double)source);
    const float at = (float)((index + 0.5) * scale - 0.5);
    const int whole = (int)floorf(at), last = source - 1;
    float past = at - (float)whole;
    if (!rows && (whole < 0 || whole >= last)) past = 0.f;
    const int near = whole < 0 ? 0 : whole < last ? whole : last;
    const int next = whole + 1, far = next < 0 ? 0 : next < last ? next : last;
    return {near, far, (int)rintf((1.f - past) * 2048.f), (int)rintf(past * 2048.f)};
}

// Interpolates a value from its four neighbours: two of the upper row, two of the lower row.
__device__ __forceinline__ u8 blend(const Neighbours &across, const Neighbours &down,
                                      int upper_near, int upper_far, int lower_near,
                                      int lower_far) {
    const int upper = upper_near * across.near_weight + upper_far * across.far_weight;
    const int lower = lower_near * across.near_weight + lower_far * across.far_weight;
    return (u8)((((down.near_weight * (upper >> 4)) >> 16) +
                 ((down.far_weight * (lower >> 4)) >> 16) + 2) >>
                2);
}

}  // namespace
