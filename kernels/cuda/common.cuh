// Pixel indices and sums over a warp, for every .cu file. No CUDA or C++ header is included: NVRTC
// and the emulator define the built-in names.
#pragma once

#include "tvl1_math.h"

namespace {

typedef unsigned char u8;

constexpr int LANES = 32;

// The pixel of this thread in image blockIdx.z, where blocks are two-dimensional.
__device__ __forceinline__ int column() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int row() { return blockIdx.y * blockDim.y + threadIdx.y; }

// Returns the sum over the lanes of a warp, to every lane, in a fixed order.
template <class Number>
__device__ __forceinline__ Number warp_sum(Number value) {
    for (int lane = LANES / 2; lane; lane /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, lane);
    return value;
}

}  // namespace
