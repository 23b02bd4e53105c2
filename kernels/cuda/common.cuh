// What every .cu file needs: pixel indices, sums over a warp. No header of CUDA or of C++ is
// included: NVRTC brings the built-in names, the emulator its own.
#pragma once

#include "tvl1_math.h"

namespace {

typedef unsigned char u8;

constexpr int LANES = 32;

// The pixel of this thread in image blockIdx.z, where blocks are two-dimensional.
__device__ __forceinline__ int column() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int row() { return blockIdx.y * blockDim.y + threadIdx.y; }

// Sum over the lanes of a warp, in every lane, in an order that never changes.
template <class Number>
__device__ __forceinline__ Number warp_sum(Number value) {
    for (int lane = LANES / 2; lane; lane /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, lane);
    return value;
}

}  // namespace
